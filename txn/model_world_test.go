package txn

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// modelWorld is two shards with two replicas each, made of the real shard.Replica
// and shard.Machine over logs that a test drives step by step, and coordinators
// over them. It lives in a synctest bubble; its storage does not.
type modelWorld struct {
	stage    *explore.Stage
	engine   *modelEngine
	logs     map[shard.ID]*modelLog
	replicas map[shard.ID][]*shard.Replica
	spaces   map[shard.ID][]*storage.Space

	losses, copies atomic.Int64 // how many answers may still be lost, proposals doubled
	free           atomic.Bool  // the beginning and the end: nothing waits for the stage

	lease   atomic.Int64 // what the clock of leases is ahead of the bubble's
	began   time.Time
	tso     atomic.Uint64
	clock   atomic.Uint64 // counts the events of histories
	elapsed atomic.Int64  // added to the clocks of replicas

	gateways []*Coordinator
	mu       struct {
		sync.Mutex
		txns  []*modelTxn
		reads []*modelRead
	}
}

// modelTxn is what a history says of a transaction.
type modelTxn struct {
	name   string
	id     storage.TxnID
	code   Code   // how Commit ended; "" if it succeeded
	acked  bool   // Commit returned nil
	ended  uint64 // event at which Commit returned
	locked []modelSeen
	writes map[string]string
	serial bool // what it read under locks must be what its commit timestamp shows
}

// modelSeen is a version that somebody saw.
type modelSeen struct {
	key   string
	value string
	found bool
}

// modelRead is a finished snapshot read.
type modelRead struct {
	name  string
	at    storage.Timestamp
	began uint64 // event at which its timestamp was about to be drawn
	seen  []modelSeen
}

var modelSpaces atomic.Uint64

// modelEngine is a storage engine outside the bubbles. What it is asked to write
// is written by a goroutine outside as well: the store starts goroutines of its
// own at times, which must not live in a bubble.
type modelEngine struct {
	*storage.Engine
	work chan func()
	done chan struct{}
}

func openModelEngine(t testing.TB) *modelEngine {
	e, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	m := &modelEngine{Engine: e, work: make(chan func()), done: make(chan struct{})}
	go func() {
		for f := range m.work {
			f()
			m.done <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		close(m.work)
		_ = e.Close()
	})
	return m
}

func (e *modelEngine) outside(f func()) {
	e.work <- f
	<-e.done
}

// newModelWorld opens the shards, with A as their owners, and two gateways: the
// first believes in A, the second in B. With leases, A has one.
func newModelWorld(e *modelEngine, stage *explore.Stage, leases bool) (*modelWorld, error) {
	w := &modelWorld{stage: stage, engine: e, logs: map[shard.ID]*modelLog{}, replicas: map[shard.ID][]*shard.Replica{},
		spaces: map[shard.ID][]*storage.Space{}}
	w.free.Store(true)
	w.tso.Store(1 << 20)
	w.began = time.Now()
	policy := shard.LeasePolicy{Clock: w.leaseClock}
	if leases {
		policy.Length = modelLease
	}
	for s := shard.ID(1); s <= 2; s++ {
		l := &modelLog{w: w, shard: s, proposed: map[string]int{}, voters: 2}
		w.logs[s] = l
		for i := range 2 {
			space := e.Space(modelSpaces.Add(1))
			m := shard.NewMachine(space, e.Sync, uint64(i+1))
			if _, err := m.Open(); err != nil {
				return nil, err
			}
			g := &modelGroup{log: l, index: i, machine: m, waiting: map[chan struct{}]int{}}
			l.replicas = append(l.replicas, g)
			w.spaces[s] = append(w.spaces[s], space)
			w.replicas[s] = append(w.replicas[s], shard.NewReplica(shard.ReplicaConfig{Shard: s, Node: uint64(i + 1),
				Process: uint64(100 + i), Space: space, Machine: m, Group: g, Times: w, Clock: w.now, Lease: policy,
				Steps: func(ctx context.Context, step string) { w.stage.At(ctx, step+" at "+g.name()) }}))
		}
		if err := w.replicas[s][0].BecomeOwner(context.Background()); err != nil {
			return nil, err
		}
		read := &shard.ReadRequest{At: w.Issued(), Keys: []storage.Key{storage.Key("x")}}
		if _, err := w.replicas[s][0].Read(context.Background(), read); err != nil {
			return nil, err
		}
	}
	for i := range 2 {
		w.gateways = append(w.gateways, newModelCoordinator(modelRouter{w: w, first: i}, uint64(i+1)))
	}
	return w, nil
}

// newModelCoordinator is New without the loops of the background.
func newModelCoordinator(router Router, gateway uint64) *Coordinator {
	c := &Coordinator{cfg: Config{Router: router, Gateway: gateway, LockWait: 10 * time.Second, MaxBytes: DefaultMaxBytes},
		router: router, log: slog.New(slog.DiscardHandler)}
	c.life, c.stop = context.WithCancel(context.Background())
	c.mu.open = make(map[uint64]*Txn)
	c.mu.seq = 10 * gateway // names of proposals have it
	c.resolver = newResolver(c)
	c.recoverer = newRecoverer(c.life, c)
	return c
}

// modelLease is how long leases are where a scenario has them.
const modelLease = time.Second

func (w *modelWorld) leaseClock() time.Duration {
	return time.Since(w.began) + time.Duration(w.lease.Load())
}

// passTime lets the clock of leases jump, as an actor: a lease that is held ends in
// between, and so does a wait for one. The bubble's time passes by itself, but only
// when nothing else can happen.
func (w *modelWorld) passTime(ctx context.Context) {
	w.stage.Go(ctx, "time", func(ctx context.Context) {
		for range 4 {
			w.stage.At(ctx, "passes")
			w.lease.Add(int64(modelLease/2 + 1))
		}
	})
}

func (w *modelWorld) now() time.Time { return time.Now().Add(time.Duration(w.elapsed.Load())) }

func (w *modelWorld) event() uint64 { return w.clock.Add(1) }

// Timestamp and Issued make the world a shard.TimestampSource.
func (w *modelWorld) Timestamp(context.Context) (storage.Timestamp, error) {
	return storage.Timestamp(w.tso.Add(1)), nil
}

func (w *modelWorld) Issued() storage.Timestamp { return storage.Timestamp(w.tso.Load()) }

// forgetLosses withdraws what may not be lost any more.
func (w *modelWorld) forgetLosses() {
	w.stage.WithdrawPrefix("lose the answer of ")
}

// take returns a replica's turn to own its shard, as an actor.
func (w *modelWorld) take(ctx context.Context, s shard.ID, i int) {
	w.stage.Go(ctx, fmt.Sprintf("%c takes %d", 'A'+i, s), func(ctx context.Context) {
		_ = w.replicas[s][i].BecomeOwner(ctx)
	})
}

// lapse lets the leases of all gateways run out, as an actor.
func (w *modelWorld) lapse(ctx context.Context, s shard.ID) {
	w.stage.Go(ctx, fmt.Sprint("leases lapse at ", s), func(context.Context) {
		w.elapsed.Add(int64(10 * time.Second))
		for _, r := range w.replicas[s] {
			r.DropLapsed(0)
		}
	})
}

// settle ends a run: nothing waits any more, every shard has an owner that has
// applied everything, and what is undecided is finished.
func (w *modelWorld) settle() error {
	w.free.Store(true)
	w.stage.Free()
	ctx := context.Background()
	for s, replicas := range w.replicas {
		if err := replicas[0].BecomeOwner(ctx); err != nil {
			return err
		}
		for _, g := range w.logs[s].replicas {
			for w.logs[s].apply(g) {
			}
		}
	}
	for s, replicas := range w.replicas {
		votes, err := replicas[0].Undecided(0)
		if err != nil {
			return err
		}
		for _, v := range votes {
			if err := w.gateways[0].recoverer.finish(v.Txn, v.Participants); err != nil {
				return fmt.Errorf("shard %d: %w", s, err)
			}
		}
	}
	for _, replicas := range w.replicas {
		if votes, err := replicas[0].Undecided(0); err != nil || len(votes) > 0 {
			return fmt.Errorf("undecided for ever: %v, %v", votes, err)
		}
	}
	return nil
}

func (w *modelWorld) close() {
	for _, c := range w.gateways {
		_ = c.Close(context.Background())
	}
	for _, replicas := range w.replicas {
		for _, r := range replicas {
			r.Close()
		}
	}
}

// modelRouter sends requests to whoever serves, and asks one replica first. Keys
// that begin with y lie on shard 2, all others on shard 1.
type modelRouter struct {
	Router // what is not in the model is nil
	w      *modelWorld
	first  int
}

func keyOf(name string) Key {
	if name[0] == 'y' {
		return At(2, storage.Key(name))
	}
	return At(1, storage.Key(name))
}

func (r modelRouter) Shard(t ring.Token) shard.ID { return shard.ID(t) }
func (r modelRouter) DataShards() []shard.ID      { return []shard.ID{1, 2} }
func (r modelRouter) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	r.w.stage.At(ctx, "timestamp")
	return r.w.Timestamp(ctx)
}

// ask tries the replicas until one serves.
func ask[T any](ctx context.Context, r modelRouter, s shard.ID, what string, id storage.TxnID, f func(context.Context, *shard.Replica) (T, error)) (T, error) {
	if explore.Actor(ctx) == "" {
		ctx = explore.As(ctx, fmt.Sprintf("background of T%d", id.Seq))
	}
	for wait := time.Millisecond; ; wait *= 2 {
		for i := range r.w.replicas[s] {
			i = (r.first + i) % len(r.w.replicas[s])
			r.w.stage.At(ctx, fmt.Sprintf("%s arrives at %d%c", what, s, 'A'+i))
			answer, err := f(ctx, r.w.replicas[s][i])
			if shard.CodeOf(err) != shard.NotOwner {
				return answer, err
			}
		}
		if err := sleep(ctx, wait); err != nil {
			var none T
			return none, &shard.Error{Code: shard.Unavailable, Shard: s, Detail: err.Error()}
		}
	}
}

func (r modelRouter) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	ReadEach(ctx, r, reads)
}

func (r modelRouter) Read(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	return ask(ctx, r, s, "read", storage.TxnID{}, func(ctx context.Context, p *shard.Replica) (*shard.ReadResponse, error) { return p.Read(ctx, q) })
}

func (r modelRouter) Lock(ctx context.Context, s shard.ID, q *shard.LockRequest) (*shard.LockResponse, error) {
	return ask(ctx, r, s, "lock", q.Txn, func(ctx context.Context, p *shard.Replica) (*shard.LockResponse, error) { return p.Lock(ctx, q) })
}

func (r modelRouter) OnePC(ctx context.Context, s shard.ID, q *shard.OnePCRequest) (*shard.VoteResponse, error) {
	return ask(ctx, r, s, "one-phase", q.Txn, func(ctx context.Context, p *shard.Replica) (*shard.VoteResponse, error) { return p.OnePC(ctx, q) })
}

func (r modelRouter) Prepare(ctx context.Context, s shard.ID, q *shard.PrepareRequest) (*shard.VoteResponse, error) {
	return ask(ctx, r, s, "prepare", q.Txn, func(ctx context.Context, p *shard.Replica) (*shard.VoteResponse, error) { return p.Prepare(ctx, q) })
}

func (r modelRouter) Resolve(ctx context.Context, s shard.ID, q *shard.ResolveRequest) error {
	_, err := ask(ctx, r, s, "resolve", q.Txn, func(ctx context.Context, p *shard.Replica) (struct{}, error) { return struct{}{}, p.Resolve(ctx, q) })
	return err
}

func (r modelRouter) CloseVote(ctx context.Context, s shard.ID, q *shard.CloseVoteRequest) (*shard.VoteResponse, error) {
	return ask(ctx, r, s, "close-vote", q.Txn, func(ctx context.Context, p *shard.Replica) (*shard.VoteResponse, error) { return p.CloseVote(ctx, q) })
}

func (r modelRouter) Release(ctx context.Context, s shard.ID, q *shard.ReleaseRequest) error {
	_, err := ask(ctx, r, s, "release", q.Txn, func(ctx context.Context, p *shard.Replica) (struct{}, error) { return struct{}{}, p.Release(q) })
	return err
}

func (r modelRouter) ReleasesSpans() bool { return true }

func (r modelRouter) Renew(context.Context, shard.ID, *shard.RenewRequest) error { return nil }

func (r modelRouter) Undecided(_ context.Context, s shard.ID, olderThan time.Duration) ([]shard.UndecidedVote, error) {
	return r.w.replicas[s][0].Undecided(olderThan)
}
