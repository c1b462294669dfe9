package shard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/storage"
)

// A new owner locks what a vote has written key by key, but for keys inside an
// interval that the vote holds exclusively.
func TestVotedLocks(t *testing.T) {
	v := storage.Vote{Keys: []storage.Key{storage.Key("a"), storage.Key("b"), storage.Key("c"), storage.Key("d"), storage.Key("e"), storage.Key("f")},
		Locks: encodeLockSet([]LockRef{{Mode: LockExclusive, Lo: storage.Key("b"), Hi: storage.Key("d")},
			{Mode: LockShared, Lo: storage.Key("e"), Hi: storage.Key("z")}, {Mode: LockExclusive, Lo: storage.Key("f")}})}
	var got []string
	for _, l := range votedLocks(v) {
		got = append(got, l.Mode.String()+" "+string(l.Span.Lo)+".."+string(l.Span.Hi))
	}
	x, s := locks.Exclusive.String(), locks.Shared.String()
	require.Equal(t, []string{x + " a..", x + " d..", x + " e..", x + " f..", x + " b..d", s + " e..z", x + " f.."}, got)
}
