package txn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// stopped is a coordinator that stops for good, or for a while, when the n-th
// time a step is reached: whatever reaches a step afterwards stops too, and what
// is under way is not answered.
type stopped struct {
	intercepted
	step txn.Step
	n    int

	mu   sync.Mutex
	held chan struct{} // closed when it goes on
	at   chan struct{} // closed when it has stopped
	down bool
	dead bool // it sends nothing when it goes on

	count map[txn.Step]int
}

func newStopped(r txn.Router, step txn.Step, n int, dead bool) *stopped {
	s := &stopped{step: step, n: n, dead: dead, held: make(chan struct{}), at: make(chan struct{}), count: map[txn.Step]int{}}
	s.Router = r
	s.before = func(message) error { return s.wait() }
	s.after = func(message) error { return s.wait() }
	return s
}

func (s *stopped) reached(step txn.Step, _ storage.TxnID) {
	s.mu.Lock()
	s.count[step]++
	if !s.down && step == s.step && s.count[step] == s.n {
		s.down = true
		close(s.at)
	}
	// Exactly n vote: the others are not asked before it stops.
	later := s.step == txn.StepVote && step == txn.StepPrepare && s.count[step] > s.n
	s.mu.Unlock()
	if later {
		<-s.at
	}
	_ = s.wait()
}

// wait holds who comes while the process stands still. An answer that arrived
// meanwhile is lost if the process is dead.
func (s *stopped) wait() error {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if !down {
		return nil
	}
	<-s.held
	if s.dead {
		return errLost
	}
	return nil
}

func (s *stopped) Renew(ctx context.Context, id shard.ID, q *shard.RenewRequest) error {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return errLost
	}
	return s.Router.Renew(ctx, id, q)
}

// Undecided fails: these tests leave recovery to others.
func (s *stopped) Undecided(context.Context, shard.ID, time.Duration) ([]shard.UndecidedVote, error) {
	return nil, errLost
}

// death is one place at which a coordinator of a transaction on n shards stops.
type death struct {
	shards int
	step   txn.Step
	n      int
}

func (d death) String() string {
	return fmt.Sprintf("%d shards, %s %d", d.shards, d.step, d.n)
}

func deaths() []death {
	const n = 3
	list := []death{{1, txn.StepBeforeFloor, 1}, {1, txn.StepAfterFloor, 1}, {1, txn.StepBeforeSend, 1},
		{1, txn.StepOnePC, 1}, {1, txn.StepOnePCVote, 1}, {1, txn.StepBeforeAnswer, 1},
		{n, txn.StepBeforeFloor, 1}, {n, txn.StepAfterFloor, 1}, {n, txn.StepBeforeSend, 1}, {n, txn.StepBeforeAnswer, 1}}
	for k := 1; k <= n; k++ {
		list = append(list, death{n, txn.StepPrepare, k}, death{n, txn.StepVote, k}, death{n, txn.StepResolve, k})
	}
	return list
}

// orphan is a transaction whose coordinator has stopped.
type orphan struct {
	death
	router *stopped
	keys   []txn.Key
	gate   uint64
	co     *txn.Coordinator
	told   chan error
}

// abandon runs a transaction up to the step at which its coordinator stops.
func (c *cluster) abandon(d death, gateway uint64, dead bool) *orphan {
	o := &orphan{death: d, gate: gateway, told: make(chan error, 1), router: newStopped(c.node.Router(), d.step, d.n, dead)}
	for s := 1; s <= d.shards; s++ {
		o.keys = append(o.keys, c.key(shard.ID(s), fmt.Sprintf("%s, dead %t, gateway %x", d, dead, gateway)))
	}
	c.put(c.gateway(c.node.Router(), gateway+1<<20), "old", o.keys...)
	o.co = txn.New(txn.Config{Router: o.router, Gateway: gateway, Logger: c.logger, Reached: o.router.reached})
	tx := o.co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(c.t, tx, "new", o.keys...)
	go func() { o.told <- tx.Commit(context.Background()) }()
	select {
	case <-o.router.at:
	case <-time.After(wait):
		c.t.Fatalf("%s is never reached", d)
	}
	return o
}

// wake lets the coordinator go on and returns what its client is told.
func (o *orphan) wake(t *testing.T) error {
	close(o.router.held)
	patience := wait
	if o.router.dead {
		patience = 0 // nobody answers it any more
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if o.router.dead {
		_ = o.co.Close(ctx)
	}
	select {
	case err := <-o.told:
		_ = o.co.Close(ctx)
		return err
	case <-time.After(wait):
		t.Errorf("%s: the client is never answered", o)
		return nil
	}
}

// expect checks that a transaction is there as a whole or not at all, and says
// which.
func (o *orphan) expect(t *testing.T, got []string) (committed bool) {
	t.Helper()
	for _, v := range got {
		require.Equal(t, got[0], v, "%s: in part: %q", o, got)
	}
	require.Contains(t, []string{"old", "new"}, got[0])
	return got[0] == "new"
}

// A coordinator stops at every step of a commit, for good or until after its
// transaction was finished by another gateway, which wants to lock the same rows.
// The transaction is there everywhere or nowhere, and who slept through it tells
// its client what has become of it. The seed chooses the order.
func TestAnotherGatewayFinishesWhatIsLeftAtEveryStep(t *testing.T) {
	c := newCluster(t)
	seed := explore.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var orphans []*orphan
	for _, dead := range []bool{true, false} {
		list := deaths()
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, d := range list {
			orphans = append(orphans, c.abandon(d, uint64(100+len(orphans))<<48, dead))
		}
	}
	// The leases of the silent end. What has voted stays, whatever a lease says.
	for _, o := range orphans {
		for s := shard.ID(0); s <= testShards; s++ {
			require.NoError(t, c.node.Router().Renew(context.Background(), s, &shard.RenewRequest{Gateway: o.gate, Cut: 1 << 40}))
		}
	}
	stranger := c.gateway(c.node.Router(), 50<<48)
	committed := make([]bool, len(orphans))
	took := make([]time.Duration, len(orphans))
	var all sync.WaitGroup
	for i, o := range orphans {
		all.Go(func() {
			begun := time.Now()
			got, err := lockAndRead(stranger, o.keys)
			took[i] = time.Since(begun)
			if err == nil {
				committed[i] = o.expect(t, got)
			} else {
				t.Errorf("%s: %v", o, err)
			}
		})
	}
	all.Wait()
	told := make([]error, len(orphans))
	for i, o := range orphans {
		all.Go(func() { told[i] = o.wake(t) })
	}
	all.Wait()
	for i, o := range orphans {
		t.Logf("%-28s dead %-5t committed %-5t locked after %v", o, o.router.dead, committed[i], took[i].Round(time.Millisecond))
		err := told[i]
		var e *txn.Error
		switch {
		case err == nil:
			require.True(t, committed[i], "%s: the client was told of a commit", o)
		case errors.As(err, &e) && e.Code == txn.Unknown:
			require.True(t, o.router.dead, "%s: the registers were there to be asked", o)
		case o.step == txn.StepResolve || o.step == txn.StepBeforeAnswer:
			t.Errorf("%s: all had voted: %v", o, err)
		default:
			require.False(t, committed[i], "%s: the client was told %v", o, err)
		}
	}
	for _, o := range orphans { // and nothing that comes late has changed anything
		got := c.read(stranger, o.keys...)
		require.NotContains(t, got, "new", "%s", o)
		require.Equal(t, "next", got[0])
	}
}

// lockAndRead locks rows, overwrites them and returns what was there.
func lockAndRead(co *txn.Coordinator, keys []txn.Key) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	if err != nil {
		return nil, err
	}
	var values []string
	for i, r := range rows {
		values = append(values, string(r.Value))
		if err := tx.Put(keys[i], []byte("next")); err != nil {
			return nil, err
		}
	}
	return values, tx.Commit(ctx)
}

// A shard on which a transaction only read under a lock votes, too: if it has
// lost the lock, what was read may have changed, and the transaction aborts.
func TestShardsThatWereOnlyLockedVote(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	x, y := c.key(1, "x"), c.key(2, "y")
	c.put(co, "old", x, y)
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	row, err := tx.Get(t.Context(), x, txn.ReadOptions{Lock: txn.LockShared})
	require.NoError(t, err)
	require.Equal(t, "old", string(row.Value))
	write(t, tx, "x was old", y)
	// The owner of x takes the transaction for ended.
	require.NoError(t, c.node.Router().Renew(t.Context(), 1, &shard.RenewRequest{Gateway: c.node.Gateway(), Cut: tx.ID().Seq}))
	other := c.gateway(c.node.Router(), 9<<48)
	c.put(other, "new", x)
	requireCode(t, txn.Conflict, tx.Commit(t.Context()))
	require.Equal(t, []string{"new", "old"}, c.read(other, x, y))
}
