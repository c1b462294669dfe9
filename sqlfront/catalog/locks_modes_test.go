package catalog

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever is taken, passed on and given up: how many hold a name in each mode is what
// its holders say, and nobody has it beside one whose mode does not allow that.
func TestModesAreThoseOfTheHolders(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	gone, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits
	l := NewLocks()
	holders := make([]Holder, 5)
	holders[3].From(1) // two stand for one other node
	holders[4].From(1)
	names := []string{"d", "d/t", "d/u"}
	request := func() Request { return Request{names[r.IntN(len(names))], SharedRead + Mode(r.IntN(4))} }
	for range 3000 {
		h := &holders[r.IntN(len(holders))]
		switch q := request(); r.IntN(6) {
		case 0, 1, 2:
			_ = l.Acquire(gone, h, q.Name, q.Mode, time.Hour)
		case 3:
			_ = l.AcquireAll(gone, h, []Request{q, {"d/v", SharedRead}}, time.Hour)
		case 4:
			l.Pass(&holders[r.IntN(3)], &holders[r.IntN(3)], q.Name) // among those of one node
		case 5:
			l.ReleaseAll(h)
		}
		for name, n := range l.mu.names {
			var modes [Exclusive + 1]int
			for h, g := range n.holders {
				modes[g.Mode]++
				for o, other := range n.holders {
					require.True(t, h.together(o) || g.beside(other.Mode), "%s", name)
				}
			}
			require.Equal(t, modes, n.modes, "%s", name)
		}
	}
	for i := range holders {
		l.ReleaseAll(&holders[i])
	}
	require.Empty(t, l.mu.names)
	for _, n := range l.mu.spare {
		require.Equal(t, [Exclusive + 1]int{}, n.modes)
	}
}
