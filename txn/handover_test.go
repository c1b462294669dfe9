package txn_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// trio is three nodes in memory, each with a replica of the system shard and of
// two data shards. It is the Router of the transactions above: it asks one node
// after the other until one owns the shard, in encoded messages.
type trio struct {
	t       *testing.T
	network *memory.Network
	shards  map[shard.ID][3]*shard.Replica
	ahead   atomic.Int64 // how far the clocks of the owners are ahead
}

func newTrio(t *testing.T) *trio {
	w := &trio{t: t, network: memory.NewNetwork(1), shards: make(map[shard.ID][3]*shard.Replica)}
	members := map[paxos.ReplicaID]string{1: "n1", 2: "n2", 3: "n3"}
	for n := range 3 {
		e, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem()})
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		host := w.network.Host(members[paxos.ReplicaID(n+1)])
		t.Cleanup(func() { _ = host.Close() })
		for s := range shard.ID(3) {
			m := shard.NewMachine(e.Space(uint64(s)), e.Sync, uint64(n+1))
			g, err := host.Start(paxos.GroupSpec{Group: groupOf(s), Replica: paxos.ReplicaID(n + 1), Members: members}, m)
			require.NoError(t, err)
			r := shard.NewReplica(shard.ReplicaConfig{Shard: s, Node: uint64(n + 1), Process: uint64(100 + n), Space: e.Space(uint64(s)),
				Machine: m, Group: g, Times: w, Clock: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }})
			t.Cleanup(r.Close)
			three := w.shards[s]
			three[n] = r
			w.shards[s] = three
		}
	}
	for s := range shard.ID(3) {
		require.NoError(t, w.shards[s][0].BecomeOwner(w.ctx()))
	}
	return w
}

func (w *trio) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// ask sends a request to the owner of the shard, whoever that is.
func ask[T any](ctx context.Context, w *trio, s shard.ID, q shard.Message) (T, error) {
	var zero T
	for {
		for _, r := range w.shards[s] {
			server := shard.Server{Replica: func(shard.ID) *shard.Replica { return r }}
			m, err := server.Dispatch(ctx, s, q)
			if err == nil {
				return m.(T), nil
			}
			if shard.CodeOf(err) != shard.NotOwner {
				return zero, err
			}
		}
		select {
		case <-ctx.Done():
			return zero, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (w *trio) Shard(t ring.Token) shard.ID { return 1 + shard.ID(uint64(t)%2) }
func (w *trio) DataShards() []shard.ID      { return []shard.ID{1, 2} }
func (w *trio) Issued() storage.Timestamp   { return 0 }

func (w *trio) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	m, err := ask[*shard.TimestampResponse](ctx, w, shard.System, &shard.TimestampRequest{Count: 1})
	if err != nil {
		return 0, err
	}
	return m.First, nil
}

func (w *trio) ReadMany(ctx context.Context, reads []shard.ShardRead) { txn.ReadEach(ctx, w, reads) }

func (w *trio) Read(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	return ask[*shard.ReadResponse](ctx, w, s, q)
}

func (w *trio) Reduces() bool { return false }

func (w *trio) ReadFiltered(ctx context.Context, s shard.ID, q *shard.FilteredRead) (*shard.ReadResponse, error) {
	return ask[*shard.ReadResponse](ctx, w, s, q)
}

func (w *trio) Reduce(ctx context.Context, s shard.ID, q *shard.ReduceRequest) (*shard.ReduceResponse, error) {
	return ask[*shard.ReduceResponse](ctx, w, s, q)
}

func (w *trio) ReadNearby(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	return w.Read(ctx, s, q)
}

func (w *trio) StaleTimestamp(ctx context.Context, _ time.Duration, _ storage.Timestamp) (storage.Timestamp, error) {
	return w.Timestamp(ctx)
}

func (w *trio) KnownIssued(storage.Timestamp) bool { return false }

func (w *trio) Lock(ctx context.Context, s shard.ID, q *shard.LockRequest) (*shard.LockResponse, error) {
	return ask[*shard.LockResponse](ctx, w, s, q)
}

func (w *trio) OnePC(ctx context.Context, s shard.ID, q *shard.OnePCRequest) (*shard.VoteResponse, error) {
	return ask[*shard.VoteResponse](ctx, w, s, q)
}

func (w *trio) Prepare(ctx context.Context, s shard.ID, q *shard.PrepareRequest) (*shard.VoteResponse, error) {
	return ask[*shard.VoteResponse](ctx, w, s, q)
}

func (w *trio) CloseVote(ctx context.Context, s shard.ID, q *shard.CloseVoteRequest) (*shard.VoteResponse, error) {
	return ask[*shard.VoteResponse](ctx, w, s, q)
}

func (w *trio) LookVote(ctx context.Context, s shard.ID, q *shard.LookVoteRequest) (*shard.LookVoteResponse, error) {
	return ask[*shard.LookVoteResponse](ctx, w, s, q)
}

func (w *trio) done(ctx context.Context, s shard.ID, q shard.Message) error {
	_, err := ask[*shard.Done](ctx, w, s, q)
	return err
}

func (w *trio) Stage(ctx context.Context, s shard.ID, q *shard.StageRequest) error {
	return w.done(ctx, s, q)
}

func (w *trio) Resolve(ctx context.Context, s shard.ID, q *shard.ResolveRequest) error {
	return w.done(ctx, s, q)
}

func (w *trio) Release(ctx context.Context, s shard.ID, q *shard.ReleaseRequest) error {
	return w.done(ctx, s, q)
}

func (w *trio) ReleasesSpans() bool { return true }

func (w *trio) Renew(ctx context.Context, s shard.ID, q *shard.RenewRequest) error {
	return w.done(ctx, s, q)
}

func (w *trio) Advisory(ctx context.Context, q *shard.AdvisoryRequest) (*shard.AdvisoryResponse, error) {
	return ask[*shard.AdvisoryResponse](ctx, w, shard.System, q)
}

func (w *trio) Sequence(context.Context, *shard.SequenceRequest) (uint64, error) {
	return 0, errors.New("no counters here")
}

func (w *trio) RaiseSchema(context.Context, uint64, uint64) error {
	return errors.New("no schemas here")
}

func (w *trio) Undecided(ctx context.Context, s shard.ID, olderThan time.Duration) ([]shard.UndecidedVote, error) {
	m, err := ask[*shard.UndecidedResponse](ctx, w, s, &shard.UndecidedRequest{OlderThan: olderThan})
	if err != nil {
		return nil, err
	}
	return m.Votes, nil
}

// coordinator runs transactions over the trio.
func (w *trio) coordinator(gateway uint64) *txn.Coordinator {
	co := txn.New(txn.Config{Router: w, Gateway: gateway})
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_ = co.Close(ctx)
	})
	return co
}

// on is a row of a data shard.
func (w *trio) on(s shard.ID, k string) txn.Key { return txn.At(ring.Token(s-1), storage.Key(k)) }

// handOver moves a shard from its owner to the next node.
func (w *trio) handOver(s shard.ID) {
	w.t.Helper()
	three := w.shards[s]
	for i, r := range three {
		err := r.HandOver(w.ctx(), func(ctx context.Context, q *shard.TakeOverRequest) error {
			return three[(i+1)%3].TakeOver(ctx, q)
		})
		if shard.CodeOf(err) != shard.NotOwner {
			require.NoError(w.t, err)
			return
		}
	}
	w.t.Fatal("nobody owned the shard")
}

// crash makes another node the owner, without a word from the old one.
func (w *trio) crash(s shard.ID) {
	w.t.Helper()
	for i, r := range w.shards[s] {
		if r.Status().Serving {
			require.NoError(w.t, w.shards[s][(i+1)%3].BecomeOwner(w.ctx()))
			return
		}
	}
	w.t.Fatal("nobody owned the shard")
}

// lapse lets time pass in which only one gateway renewed its lease, and the owners
// look. They look before as well, as they do all the time: an owner that finds
// locks of a gateway that it has not heard of grants it a lease from then on.
func (w *trio) lapse(alive uint64) {
	w.t.Helper()
	for _, three := range w.shards {
		for _, r := range three {
			r.ExpireAdvisory(w.ctx(), 0)
		}
	}
	w.ahead.Add(int64(time.Minute))
	for s, three := range w.shards {
		require.NoError(w.t, w.Renew(w.ctx(), s, &shard.RenewRequest{Gateway: alive}))
		for _, r := range three {
			r.DropLapsed(0)
			r.ExpireAdvisory(w.ctx(), 0)
		}
	}
}

// Open transactions go on through planned changes of every shard's owner,
// between any two of their steps.
func TestTransactionsGoOnThroughHandOvers(t *testing.T) {
	w := newTrio(t)
	co := w.coordinator(1 << 48)
	ctx := w.ctx()
	a, b := w.on(1, "a"), w.on(2, "b")
	everywhere := func() {
		for s := range shard.ID(3) {
			w.handOver(s)
		}
	}
	for i := range 4 {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, DurableLocks: i%2 == 1})
		row, err := tx.Get(ctx, a, exclusive)
		require.NoError(t, err)
		if i > 0 {
			require.Equal(t, strconv.Itoa(i-1), string(row.Value))
		}
		everywhere()
		_, err = tx.Get(ctx, b, exclusive)
		require.NoError(t, err)
		_, err = drain(ctx, tx, txn.Scan{Where: txn.AllShards, Lo: storage.Key("m"), Lock: txn.LockShared})
		require.NoError(t, err)
		everywhere()
		require.NoError(t, tx.Put(a, []byte(strconv.Itoa(i))))
		require.NoError(t, tx.Put(b, []byte(strconv.Itoa(i))))
		everywhere()
		other := co.Begin(txn.Options{})
		_, err = other.Get(ctx, a, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
		require.Equal(t, txn.WouldBlock, codeOf(err))
		require.NoError(t, other.Rollback(ctx))
		require.NoError(t, tx.Commit(ctx))
		everywhere() // perhaps before the outcome is handed out
	}
	tx := co.Begin(txn.Options{ReadOnly: true})
	rows, err := tx.GetMany(ctx, []txn.Key{a, b}, txn.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "3", string(rows[0].Value))
	require.Equal(t, "3", string(rows[1].Value))
}

// A crash of an owner: locks of memory are lost and the transaction is told so,
// at its next step, whichever that is; replicated ones are there.
func TestTransactionsThroughCrashes(t *testing.T) {
	for _, durable := range []bool{false, true} {
		for _, next := range []string{"lock", "commit"} {
			t.Run(fmt.Sprintf("durable %v, %s", durable, next), func(t *testing.T) {
				w := newTrio(t)
				co := w.coordinator(1 << 48)
				ctx := w.ctx()
				a, b := w.on(1, "a"), w.on(2, "b")
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, DurableLocks: durable})
				_, err := tx.GetMany(ctx, []txn.Key{a, b}, exclusive)
				require.NoError(t, err)
				require.NoError(t, tx.Put(a, []byte("1")))
				require.NoError(t, tx.Put(b, []byte("1")))
				w.crash(1)
				if next == "lock" {
					_, err = tx.Get(ctx, w.on(1, "c"), exclusive)
				}
				if err == nil {
					err = tx.Commit(ctx)
				}
				want := ""
				if durable {
					require.NoError(t, err)
					want = "1"
				} else {
					require.Contains(t, []txn.Code{txn.LockLost, txn.Conflict}, codeOf(err), "%v", err)
				}
				read := co.Begin(txn.Options{ReadOnly: true})
				rows, err := read.GetMany(ctx, []txn.Key{a, b}, txn.ReadOptions{})
				require.NoError(t, err)
				require.Equal(t, want, string(rows[0].Value))
				require.Equal(t, want, string(rows[1].Value))
			})
		}
	}
}

// The rollback of a durable transaction is acknowledged by the current owner:
// its keys are free, also after the next crash, and lost messages are repeated.
func TestRollbackOfADurableTransaction(t *testing.T) {
	w := newTrio(t)
	router := &intercepted{Router: w}
	co := txn.New(txn.Config{Router: router, Gateway: 1 << 48})
	defer func() { _ = co.Close(w.ctx()) }()
	ctx := w.ctx()
	a := w.on(1, "a")
	free := func() {
		t.Helper()
		tx := co.Begin(txn.Options{LockWait: 20 * time.Second})
		_, err := tx.Get(ctx, a, exclusive)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
	}
	for lost := range 2 {
		tx := co.Begin(txn.Options{DurableLocks: true})
		_, err := tx.Get(ctx, a, exclusive)
		require.NoError(t, err)
		var left atomic.Int64 // releases that do not arrive; they are repeated beside the next ones
		left.Store(int64(2 * lost))
		router.set(func(m message) error {
			if m.kind == "release" && left.Add(-1) >= 0 {
				return errors.New("lost")
			}
			return nil
		}, nil)
		require.NoError(t, tx.Rollback(ctx))
		free()
		w.crash(1)
		free()
	}
}

// codeOf is the code of a transaction's error.
func codeOf(err error) txn.Code {
	var e *txn.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
