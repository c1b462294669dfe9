package shard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// While a hand-over tries, nobody is served: one that fails again and again must
// leave the shard alone for longer and longer. Other steps are tried again soon.
func TestHandOversInVainBecomeRare(t *testing.T) {
	m := newMover()
	now := time.UnixMilli(0)
	wait := func(s moveStep, failed bool) time.Duration {
		m.begin(s)
		_, free := m.idle(now)
		require.False(t, free(s.shard), "a step is under way")
		m.end(s, failed, now)
		at, put := m.later[s.shard]
		_, free = m.idle(now)
		require.Equal(t, !put, free(s.shard))
		if !put {
			return 0
		}
		before := now
		now = at
		_, free = m.idle(now)
		require.True(t, free(s.shard), "it is tried again")
		return now.Sub(before)
	}
	owner := moveStep{shard: 3, seat: &SeatRequest{Change: SeatOwner}}
	voter := moveStep{shard: 3, seat: &SeatRequest{Change: SeatVoter}}
	const s = time.Second
	for _, want := range []time.Duration{2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 120 * s, 120 * s} {
		require.Equal(t, want, wait(owner, true))
	}
	require.Equal(t, 2*s, wait(voter, true), "no hand-over")
	require.Zero(t, wait(owner, false))
	require.Equal(t, 2*s, wait(owner, true), "one succeeded in between")
	other := moveStep{shard: 4, seat: &SeatRequest{Change: SeatOwner}}
	require.Equal(t, 2*s, wait(other, true), "each shard for itself")
}
