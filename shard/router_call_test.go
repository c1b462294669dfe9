package shard

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// answering is a cluster of which each node gives the same answer for ever.
type answering struct {
	answers map[NodeAddr]error // nil: it is the owner
	asked   []NodeAddr
}

// Call implements Transport.
func (a *answering) Call(_ context.Context, to NodeAddr, _ []byte) ([]byte, error) {
	a.asked = append(a.asked, to)
	err := a.answers[to]
	if err == nil {
		return (&Done{}).AppendBinary([]byte{formatVersion, statusOK}), nil
	}
	return encodeError(nil, err), nil
}

// A request comes to the owner whatever replicas that lag behind say of it.
func TestCallFindsTheOwner(t *testing.T) {
	const s = ID(3)
	notOwner := func(said uint64) error { return &Error{Code: NotOwner, Shard: s, Owner: said} }
	gone := &Error{Code: Unavailable, Shard: s}
	for _, c := range []struct {
		name    string
		answers map[NodeAddr]error
	}{
		{"asked at once", map[NodeAddr]error{"1": nil, "2": notOwner(1), "3": notOwner(1)}},
		{"told where", map[NodeAddr]error{"1": notOwner(3), "2": notOwner(3), "3": nil}},
		{"sent to one that is gone by one before the owner", map[NodeAddr]error{"1": notOwner(3), "2": nil, "3": gone}},
		{"sent to one that is gone by one behind the owner", map[NodeAddr]error{"1": gone, "2": notOwner(1), "3": nil}},
		{"two that name each other", map[NodeAddr]error{"1": notOwner(2), "2": notOwner(1), "3": nil}},
		{"one that names nobody", map[NodeAddr]error{"1": notOwner(0), "2": gone, "3": nil}},
	} {
		for _, first := range []NodeAddr{"1", "2", "3"} {
			t.Run(c.name+", first "+string(first), func(t *testing.T) {
				a := &answering{answers: c.answers}
				r := &Router{self: "9", directory: NewDirectory(), transport: a, server: &Server{Replica: func(ID) *Replica { return nil }}}
				r.directory.Set(s, "1", "2", "3")
				r.directory.Found(s, first)
				require.NoError(t, r.call(t.Context(), s, methodRelease, &ReleaseRequest{}, &Done{}))
				require.LessOrEqual(t, len(a.asked), 6, "asked %v", a.asked)
			})
		}
	}
}
