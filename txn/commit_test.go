package txn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	wait = time.Minute // far beyond what any of these tests needs
	tick = time.Millisecond
)

var errLost = &shard.Error{Code: shard.Unavailable, Detail: "lost by the test"}

func requireCode(t testing.TB, want txn.Code, err error) {
	t.Helper()
	var e *txn.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, want, e.Code, "%v", err)
}

// write locks and writes rows in an open transaction.
func write(t testing.TB, tx *txn.Txn, value string, keys ...txn.Key) {
	t.Helper()
	_, err := tx.GetMany(context.Background(), keys, txn.ReadOptions{Lock: txn.LockExclusive})
	require.NoError(t, err)
	for _, k := range keys {
		require.NoError(t, tx.Put(k, []byte(value)))
	}
}

// rounds counts sequential rounds of consensus: the longest chain of proposals
// to data shards of which each starts after the one before it has finished. The
// log in memory answers at once, so proposals that could overlap might not: each
// is held at its start until as many are under way as are expected together.
type rounds struct {
	together int
	full     chan struct{} // closed once together proposals have started

	mu     sync.Mutex
	clock  int
	starts map[uint64]int
	done   [][2]int // start and end of each finished proposal
}

func (r *rounds) observe(p memory.Proposal) {
	if p.Group == 1 { // the oracle extends its window when it likes
		return
	}
	if !p.Finished {
		defer r.hold()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	if !p.Finished {
		r.starts[p.Seq] = r.clock
		if len(r.starts) == r.together {
			close(r.full)
		}
	} else if start, ok := r.starts[p.Seq]; ok {
		r.done = append(r.done, [2]int{start, r.clock})
	}
}

func (r *rounds) hold() {
	select {
	case <-r.full:
	case <-time.After(wait): // they come one after the other: the count will tell
	}
}

func (r *rounds) longest() (chain, proposals int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.done, func(a, b [2]int) int { return a[1] - b[1] })
	end := 0
	for _, p := range r.done {
		if p[0] > end {
			chain, end = chain+1, p[1]
		}
	}
	return chain, len(r.done)
}

// The promise of the design: one sequential round of consensus between COMMIT
// and its answer, on one shard and on all of them.
func TestCommitTakesOneRound(t *testing.T) {
	for _, test := range []struct {
		name   string
		shards []shard.ID
		auto   bool
	}{
		{"one shard", []shard.ID{2}, false},
		{"one shard, autocommit", []shard.ID{2}, true},
		{"all shards", []shard.ID{1, 2, 3}, false},
		{"all shards, autocommit", []shard.ID{1, 2, 3}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			router := &intercepted{Router: c.node.Router()}
			co := c.coordinator(router)
			answered := make(chan struct{})
			router.set(func(m message) error {
				if m.kind == "resolve" { // background work is not on the path
					<-answered
				}
				return nil
			}, nil)
			tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, Autocommit: test.auto})
			var keys []txn.Key
			for _, s := range test.shards {
				keys = append(keys, c.key(s, "k"))
			}
			write(t, tx, "v", keys...)
			r := &rounds{together: len(keys), full: make(chan struct{}), starts: map[uint64]int{}}
			c.network.Observe(r.observe)
			require.NoError(t, tx.Commit(context.Background()))
			c.network.Observe(nil)
			close(answered)
			chain, proposals := r.longest()
			require.Equal(t, 1, chain, "sequential rounds")
			require.Equal(t, len(test.shards), proposals, "one vote per shard and nothing else")
			for _, v := range c.read(co, keys...) {
				require.Equal(t, "v", v)
			}
		})
	}
}

// What statements cost in messages when nothing is in the way.
func TestMessagesOfSimpleStatements(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	ctx := context.Background()
	var mu sync.Mutex
	sent := map[string]int{}
	router.set(func(m message) error {
		mu.Lock()
		defer mu.Unlock()
		sent[m.kind]++
		return nil
	}, nil)
	count := func(f func()) map[string]int {
		mu.Lock()
		clear(sent)
		mu.Unlock()
		f()
		require.NoError(t, co.Flush(ctx))
		mu.Lock()
		defer mu.Unlock()
		out := map[string]int{}
		for k, v := range sent {
			out[k] = v
		}
		return out
	}
	k := c.key(1, "k")
	auto := txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, Autocommit: true}
	update := func() {
		tx := co.Begin(auto)
		tx.BeginStatement(ctx, "UPDATE")
		write(t, tx, "v", k)
		require.NoError(t, tx.Commit(ctx))
	}
	require.Equal(t, map[string]int{"timestamp": 1, "lock": 1, "onepc": 1}, count(update), "single-row update")
	require.Equal(t, map[string]int{"timestamp": 1, "lock": 1, "onepc": 1}, count(update), "again: the base lies above the version it follows")
	require.Equal(t, map[string]int{"timestamp": 1, "read": 1}, count(func() {
		tx := co.Begin(auto)
		_, err := tx.Get(ctx, k, txn.ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, tx.Commit(ctx))
	}), "point read")
	require.Equal(t, map[string]int{}, count(func() {
		tx := co.Begin(txn.Options{})
		require.NoError(t, tx.Commit(ctx))
	}), "empty transaction")
	require.Equal(t, map[string]int{"timestamp": 1, "lock": 1, "release": 1}, count(func() {
		tx := co.Begin(auto)
		_, err := tx.Get(ctx, k, txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
	}), "rollback")
}

// incremented adds one to the counters in one transaction.
func incremented(co *txn.Coordinator, keys ...txn.Key) error {
	ctx := context.Background()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true})
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	if err != nil {
		return err
	}
	for i, r := range rows {
		n, _ := strconv.Atoi(string(r.Value))
		if err := tx.Put(keys[i], strconv.AppendInt(nil, int64(n+1), 10)); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// An answer that is lost is asked for, not repeated: the increment is there
// exactly once, and the client hears the truth.
func TestLostCommitAnswersNeverApplyTwice(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	one := []txn.Key{c.key(1, "one")}
	all := []txn.Key{c.key(1, "n"), c.key(2, "n"), c.key(3, "n")}
	lose := func(kind string, shards ...shard.ID) func(message) error {
		return func(m message) error {
			if m.kind == kind && slices.Contains(shards, m.shard) {
				return errLost
			}
			return nil
		}
	}
	router.set(nil, lose("onepc", 1))
	require.NoError(t, incremented(co, one...))
	router.set(nil, nil)
	require.Equal(t, []string{"1"}, c.read(co, one...))

	for i, shards := range [][]shard.ID{{1}, {2, 3}, {1, 2, 3}} {
		router.set(nil, lose("prepare", shards...))
		require.NoError(t, incremented(co, all...))
		router.set(nil, nil)
		n := strconv.Itoa(i + 1)
		require.Equal(t, []string{n, n, n}, c.read(co, all...))
	}
}

// A Prepare that never arrives is no vote: the register is closed with ABORTED,
// nothing is applied anywhere, and the locks are free at once.
func TestMissingPrepareAborts(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	keys := []txn.Key{c.key(1, "n"), c.key(2, "n"), c.key(3, "n")}
	router.set(func(m message) error {
		if m.kind == "prepare" && m.shard == 2 {
			return errLost
		}
		return nil
	}, nil)
	requireCode(t, txn.Conflict, incremented(co, keys...))
	router.set(nil, nil)
	require.NoError(t, co.Flush(context.Background()))
	require.Equal(t, []string{"", "", ""}, c.read(co, keys...))
	require.NoError(t, incremented(co, keys...))
}

// A commit message that arrives again, after the transaction is long over,
// changes nothing.
func TestLateDuplicatesChangeNothing(t *testing.T) {
	c := newCluster(t)
	router := &repeating{Router: c.node.Router()}
	co := c.coordinator(router)
	keys := []txn.Key{c.key(1, "n"), c.key(2, "n"), c.key(3, "n")}
	require.NoError(t, incremented(co, keys[0]))
	require.NoError(t, incremented(co, keys...))
	require.NoError(t, co.Flush(context.Background()))
	require.NotEmpty(t, router.sent)
	for _, again := range router.sent {
		again()
	}
	require.Equal(t, []string{"2", "1", "1"}, c.read(co, keys...))
	require.NoError(t, incremented(co, keys...))
}

// repeating keeps every commit message for sending it again.
type repeating struct {
	txn.Router
	mu   sync.Mutex
	sent []func()
}

func (r *repeating) keep(f func()) {
	r.mu.Lock()
	r.sent = append(r.sent, f)
	r.mu.Unlock()
}

func (r *repeating) OnePC(ctx context.Context, s shard.ID, q *shard.OnePCRequest) (*shard.VoteResponse, error) {
	r.keep(func() { _, _ = r.Router.OnePC(context.Background(), s, q) })
	return r.Router.OnePC(ctx, s, q)
}

func (r *repeating) Prepare(ctx context.Context, s shard.ID, q *shard.PrepareRequest) (*shard.VoteResponse, error) {
	r.keep(func() { _, _ = r.Router.Prepare(context.Background(), s, q) })
	return r.Router.Prepare(ctx, s, q)
}

// When nobody answers any more, the client is told neither yes nor no.
func TestSilenceIsUnknown(t *testing.T) {
	c := newCluster(t)
	router := &fenced{Router: c.node.Router()}
	co := c.coordinator(router)
	for _, keys := range [][]txn.Key{{c.key(1, "n")}, {c.key(1, "n"), c.key(2, "n")}} {
		router.answers = true
		err := incremented(co, keys...)
		requireCode(t, txn.Unknown, err)
		var e *txn.Error
		require.True(t, errors.As(err, &e) && !e.Txn.IsZero(), "the transaction id is the client's only handle")
		router.answers = false
		require.NoError(t, co.Flush(context.Background()))
	}
}

// fenced answers commit messages as shards do whose registers were collected.
type fenced struct {
	txn.Router
	answers bool
}

func (r *fenced) OnePC(ctx context.Context, s shard.ID, q *shard.OnePCRequest) (*shard.VoteResponse, error) {
	if r.answers {
		return &shard.VoteResponse{Fenced: true}, nil
	}
	return r.Router.OnePC(ctx, s, q)
}

func (r *fenced) Prepare(ctx context.Context, s shard.ID, q *shard.PrepareRequest) (*shard.VoteResponse, error) {
	if r.answers {
		return &shard.VoteResponse{Fenced: true}, nil
	}
	return r.Router.Prepare(ctx, s, q)
}

// KILL before the first commit message rolls back; after it, only the registers
// decide (H4).
func TestCancelledCommit(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	keys := []txn.Key{c.key(1, "n"), c.key(2, "n")}

	ctx, cancel := context.WithCancel(context.Background())
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "early", keys...)
	cancel()
	requireCode(t, txn.Interrupted, tx.Commit(ctx))
	require.Equal(t, []string{"", ""}, c.read(co, keys...))

	ctx, cancel = context.WithCancel(context.Background())
	tx = co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "late", keys...)
	router.set(func(m message) error {
		if m.kind == "prepare" {
			cancel()
		}
		return nil
	}, nil)
	require.NoError(t, tx.Commit(ctx))
	require.Equal(t, []string{"late", "late"}, c.read(co, keys...))
}

func TestLimits(t *testing.T) {
	c := newCluster(t)
	co := txn.New(txn.Config{Router: c.node.Router(), Gateway: c.node.Gateway(), MaxBytes: 1000})
	defer func() { require.NoError(t, co.Close(context.Background())) }()
	ctx := context.Background()
	k := c.key(1, "k")
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	requireCode(t, txn.Bug, tx.Put(k, nil))
	write(t, tx, "v", k)
	requireCode(t, txn.TooLarge, tx.Put(k, make([]byte, 2000)))
	require.NoError(t, tx.Commit(ctx), "the write before it stands")
	requireCode(t, txn.Bug, tx.Put(k, nil))

	ro := co.Begin(txn.Options{ReadOnly: true})
	_, err := ro.Get(ctx, k, txn.ReadOptions{Lock: txn.LockShared})
	requireCode(t, txn.ReadOnly, err)
	requireCode(t, txn.ReadOnly, ro.Delete(k))

	big := c.gateway(c.node.Router(), c.node.Gateway()+1)
	tx = big.Begin(txn.Options{Isolation: txn.RepeatableRead})
	var keys []txn.Key
	for i := range 5 {
		keys = append(keys, c.key(1, fmt.Sprintf("big %d", i)))
	}
	write(t, tx, string(make([]byte, 2*txn.DefaultChunkBytes)), keys...)
	require.NoError(t, tx.Commit(ctx), "more than goes into a vote is staged")
	require.Len(t, c.read(big, keys[4])[0], 2*txn.DefaultChunkBytes)

	// One write must fit one log entry.
	tx = big.Begin(txn.Options{Isolation: txn.RepeatableRead})
	k = c.key(2, "huge")
	write(t, tx, string(make([]byte, 65<<20)), k)
	requireCode(t, txn.TooLarge, tx.Commit(ctx))
	require.Equal(t, "", c.read(big, k)[0])
	require.NoError(t, incremented(big, k), "the locks are free")
}

// The end of the context ends a lock wait at once, and nothing stays locked or
// queued.
func TestCancelWhileWaiting(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	k := c.key(1, "k")
	bg := context.Background()
	holder := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, holder, "held", k)

	waiter := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	ctx, cancel := context.WithCancel(bg)
	result := make(chan error)
	go func() {
		_, err := waiter.Get(ctx, k, txn.ReadOptions{Lock: txn.LockExclusive})
		result <- err
	}()
	waiting := func() bool {
		infos, err := c.node.Router().Locks(bg, 1)
		require.NoError(t, err)
		return slices.ContainsFunc(infos, func(l shard.LockInfo) bool { return l.Waiting })
	}
	require.Eventually(t, waiting, time.Minute, time.Millisecond)
	cancel()
	requireCode(t, txn.Interrupted, <-result)
	require.NoError(t, waiter.Aborted())
	require.Eventually(t, func() bool { return !waiting() }, time.Minute, time.Millisecond)
	require.NoError(t, waiter.Rollback(bg))
	require.NoError(t, holder.Rollback(bg))
	other := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	_, err := other.Get(bg, k, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
	require.NoError(t, err)
	require.NoError(t, other.Rollback(bg))
	infos, err := c.node.Router().Locks(bg, 1)
	require.NoError(t, err)
	require.Empty(t, infos)
}

// The lock wait timeout fails the statement, not the transaction.
func TestLockWaitTimeout(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := context.Background()
	held, free := c.key(1, "held"), c.key(1, "free")
	holder := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, holder, "h", held)
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, LockWait: 20 * time.Millisecond})
	write(t, tx, "v", free)
	_, err := tx.Get(ctx, held, txn.ReadOptions{Lock: txn.LockExclusive})
	requireCode(t, txn.LockTimeout, err)
	require.NoError(t, tx.Aborted())
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, holder.Commit(ctx))
	require.Equal(t, []string{"h", "v"}, c.read(co, held, free))
}

// A snapshot of the past, and one that the oracle has not reached.
func TestReadAt(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := context.Background()
	k := c.key(1, "k")
	c.put(co, "old", k)
	then, err := co.Now(ctx)
	require.NoError(t, err)
	c.put(co, "new", k)
	get := func(at storage.Timestamp) (string, storage.Timestamp) {
		tx := co.Begin(txn.Options{At: at})
		row, err := tx.Get(ctx, k, txn.ReadOptions{})
		require.NoError(t, err)
		snapshot, err := tx.Snapshot(ctx)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
		return string(row.Value), snapshot
	}
	value, at := get(then)
	require.Equal(t, "old", value)
	require.Equal(t, then, at)
	value, at = get(then + 1<<40)
	require.Equal(t, "new", value)
	require.Less(t, at, then+1<<40, "the future is clamped to the present (H12)")
}

func TestActive(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := context.Background()
	tx := co.Begin(txn.Options{Isolation: txn.Serializable, Label: "connection 7"})
	require.Empty(t, co.Active(), "nothing before the first read or lock")
	tx.BeginStatement(ctx, "UPDATE t SET v = 1")
	write(t, tx, "v", c.key(1, "a"), c.key(2, "b"))
	active := co.Active()
	require.Len(t, active, 1)
	i := active[0]
	require.Equal(t, tx.ID(), i.ID)
	require.Equal(t, "connection 7", i.Label)
	require.Equal(t, txn.Serializable, i.Isolation)
	require.Equal(t, 2, i.Writes)
	require.Equal(t, 2, i.Locks)
	require.ElementsMatch(t, []shard.ID{1, 2}, i.Shards)
	require.Equal(t, "UPDATE t SET v = 1", i.Statement)
	require.Equal(t, txn.StateIdle, i.State)
	require.NoError(t, tx.Commit(ctx))
	require.Empty(t, co.Active())
	require.Equal(t, txn.StateEnded, tx.Info().State)
}
