package txn_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// mortal is a Router whose gateway dies at a chosen message of a commit: that
// one is sent or not, its answer never arrives, and nothing is sent afterwards.
type mortal struct {
	intercepted
	life struct {
		sync.Mutex
		armed, dead bool
		left        int // messages until death
		flying      int // messages that were sent and are not answered
	}
	renewals sync.WaitGroup // on their way
}

// kill ends the gateway. No renewal of its arrives after the call.
func (m *mortal) kill() {
	m.life.Lock()
	m.life.dead = true
	m.life.Unlock()
	m.renewals.Wait()
}

func (m *mortal) arm(n int) {
	m.life.Lock()
	m.life.armed, m.life.left = true, n
	m.life.Unlock()
}

func (m *mortal) isDead() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.life.dead
}

// isOver tells that the gateway is dead and that what it sent has arrived.
func (m *mortal) isOver() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.life.dead && m.life.flying == 0
}

func (m *mortal) fly(by int) {
	m.life.Lock()
	defer m.life.Unlock()
	m.life.flying += by
}

// step counts one message and tells whether the gateway was dead before it and
// is dead after it.
func (m *mortal) step() (before, after bool) {
	m.life.Lock()
	defer m.life.Unlock()
	before = m.life.dead
	if m.life.armed && !before {
		if m.life.left == 0 {
			m.life.dead = true
		}
		m.life.left--
	}
	return before, m.life.dead
}

func (m *mortal) Renew(ctx context.Context, s shard.ID, q *shard.RenewRequest) error {
	m.life.Lock()
	dead := m.life.dead
	if !dead {
		m.renewals.Add(1)
	}
	m.life.Unlock()
	if dead {
		return errLost
	}
	defer m.renewals.Done()
	return m.Router.Renew(ctx, s, q)
}

// Undecided fails: these tests leave recovery to the successor.
func (m *mortal) Undecided(context.Context, shard.ID, time.Duration) ([]shard.UndecidedVote, error) {
	return nil, errLost
}

// newMortal dies at the n-th message once armed; sent tells whether that
// message still goes out.
func newMortal(r txn.Router, sent bool) *mortal {
	m := &mortal{}
	m.Router = r
	m.before = func(message) error {
		before, after := m.step()
		if before || after && !sent {
			return errLost
		}
		m.fly(1)
		return nil
	}
	m.after = func(message) error {
		m.fly(-1)
		if m.isDead() {
			return errLost
		}
		return nil
	}
	return m
}

// A coordinator dies at every message of a commit over three shards, before or
// after it is sent. The successor finishes what is left: everywhere or nowhere,
// in accord with what the client was told, and no lock stays.
func TestCoordinatorDiesAtEveryStep(t *testing.T) {
	c := newCluster(t)
	gateway := uint64(7) << 48
	outcomes := map[string]int{}
	for _, sent := range []bool{false, true} {
		for n := range 12 {
			value := fmt.Sprintf("death at %d, sent %t", n, sent)
			keys := []txn.Key{c.key(1, "a"), c.key(2, "b"), c.key(3, "c")}
			gateway++
			router := newMortal(c.node.Router(), sent)
			co := c.gateway(router, gateway)
			tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
			write(t, tx, value, keys...)
			router.arm(n)
			// The dead do not wait for anyone.
			told := make(chan error, 1)
			go func() { told <- tx.Commit(context.Background()) }()
			var err error
			died := false
			require.Eventually(t, func() bool {
				select {
				case err = <-told:
					return true
				default:
					died = router.isDead() && (!sent || router.isOver())
					return died
				}
			}, wait, tick)

			gateway++
			successor := c.gateway(c.node.Router(), gateway)
			// The lease of the dead gateway lapses.
			for s := shard.ID(0); s <= testShards; s++ {
				require.NoError(t, c.node.Router().Renew(context.Background(), s,
					&shard.RenewRequest{Gateway: gateway - 1, Cut: 1 << 40}))
			}
			got := c.read(successor, keys...)
			require.Equal(t, got[0] == value, got[1] == value, "%s: %q", value, got)
			require.Equal(t, got[0] == value, got[2] == value, "%s: %q", value, got)
			if !died && err == nil {
				require.Equal(t, value, got[0], "an acknowledged commit is gone")
			}
			outcomes[fmt.Sprintf("died %t, committed %t", died, got[0] == value)]++
			c.put(successor, "next", keys...)
			require.NoError(t, successor.Close(context.Background()))
		}
	}
	t.Log(outcomes)
	require.NotZero(t, outcomes["died true, committed true"])
	require.NotZero(t, outcomes["died true, committed false"])
	require.NotZero(t, outcomes["died false, committed true"])
}

// Two recoverers at once, with the coordinator alive and about to resolve: all
// come to the same end.
func TestTwoRecoverersAndTheCoordinator(t *testing.T) {
	c := newCluster(t)
	keys := []txn.Key{c.key(1, "a"), c.key(2, "b"), c.key(3, "c")}
	for i := range 10 {
		value := fmt.Sprint(i)
		router := &intercepted{Router: c.node.Router()}
		gateway := uint64(9)<<48 + uint64(10*i)
		co := c.gateway(router, gateway)
		var successors []*txn.Coordinator
		var once sync.Once
		router.set(func(m message) error {
			if m.kind == "resolve" || m.kind == "prepare" && m.shard == 3 {
				once.Do(func() {
					for j := range 2 {
						successors = append(successors, c.gateway(c.node.Router(), gateway+uint64(j)+1))
					}
				})
			}
			return nil
		}, nil)
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, tx, value, keys...)
		err := tx.Commit(context.Background())
		require.NoError(t, co.Flush(context.Background()))
		got := c.read(co, keys...)
		if err == nil {
			require.Equal(t, []string{value, value, value}, got)
		} else {
			requireCode(t, txn.Conflict, err)
			require.NotContains(t, got, value)
		}
		require.NoError(t, co.Close(context.Background()))
		for _, s := range successors {
			require.NoError(t, s.Close(context.Background()))
		}
	}
}

// PREPARED votes survive a restart; the next life of the node finishes them
// before anyone asks.
func TestRestartWithPreparedVotes(t *testing.T) {
	c := newCluster(t)
	keys := []txn.Key{c.key(1, "a"), c.key(2, "b"), c.key(3, "c")}
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	c.put(co, "old", keys...)
	require.NoError(t, co.Flush(context.Background()))

	// Acknowledged, and nobody was told the outcome.
	router.set(func(m message) error {
		if m.kind == "resolve" {
			return errLost
		}
		return nil
	}, nil)
	c.put(co, "new", keys...)

	// Half voted: shard 3 never hears of it, and the coordinator dies.
	half := []txn.Key{c.key(1, "half"), c.key(2, "half"), c.key(3, "half")}
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "never", half...)
	router.set(func(m message) error {
		if m.kind == "timestamp" || m.kind == "prepare" && m.shard != 3 {
			return nil
		}
		return errLost
	}, nil)
	go func() { _ = tx.Commit(context.Background()) }()
	require.Eventually(t, func() bool {
		var votes []shard.UndecidedVote
		for _, s := range []shard.ID{1, 2} {
			more, err := c.node.Router().Undecided(context.Background(), s, 0)
			require.NoError(t, err)
			votes = append(votes, more...)
		}
		return slices.ContainsFunc(votes, func(v shard.UndecidedVote) bool { return v.Txn == tx.ID() }) && len(votes) >= 2
	}, wait, tick)

	before := c.node.Gateway()
	c.stop()
	c.start()
	require.Greater(t, c.node.Gateway(), before)
	next := c.coordinator(nil)
	require.Equal(t, []string{"new", "new", "new"}, c.read(next, keys...))
	require.Equal(t, []string{"", "", ""}, c.read(next, half...))
	c.put(next, "next", append(keys, half...)...)
}
