package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/storage"
)

func txnNumbered(n uint64) storage.TxnID { return storage.TxnID{Start: storage.Timestamp(n), Seq: n} }

// edge is a reported wait of transaction from for transaction to, on shard id.
func edge(shard ID, id, from, to uint64, weight int) ReportedWait {
	return ReportedWait{Epoch: 1, ID: id, LockInfo: LockInfo{Shard: shard, Txn: txnNumbered(from),
		BlockedBy: []storage.TxnID{txnNumbered(to)}, Weight: weight, Waiting: true}}
}

// node is a reporter as the detector knows it: it keeps what the answers said.
type reportingNode struct {
	d        *detector
	id       uint64
	sequence uint64
	epoch    uint64
	seen     uint64
}

func (n *reportingNode) send(now time.Time, waits ...ReportedWait) (victims []uint64) {
	n.sequence++
	answer := n.d.take(&WaitsRequest{Reporter: n.id, Sequence: n.sequence, Epoch: n.epoch, Seen: n.seen, Waits: waits}, now)
	n.epoch, n.seen = answer.Epoch, answer.Step
	for _, v := range answer.Verdicts {
		victims = append(victims, v.ID)
	}
	return victims
}

func TestDetectorNamesOneVictim(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(5)
	a, b, c := &reportingNode{d: d, id: 1}, &reportingNode{d: d, id: 2}, &reportingNode{d: d, id: 3}
	one, two, three := edge(1, 11, 1, 2, 4), edge(2, 22, 2, 3, 1), edge(3, 33, 3, 1, 2)
	victims := map[uint64]int{}
	for range 6 {
		for _, n := range []struct {
			*reportingNode
			wait ReportedWait
		}{{a, one}, {b, two}, {c, three}} {
			for _, v := range n.send(now, n.wait) {
				victims[v]++
			}
		}
	}
	require.Len(t, victims, 1, "the lightest alone, told again as long as it is reported")
	require.Positive(t, victims[22])
	require.Empty(t, a.send(now, one))
	// Of equal weights the youngest gives way.
	d = newDetector(6)
	a.d, b.d = d, d
	one, two = edge(1, 12, 1, 2, 0), edge(2, 23, 2, 1, 0)
	found := false
	for range 4 {
		require.Empty(t, a.send(now, one))
		for _, v := range b.send(now, two) {
			require.Equal(t, uint64(23), v)
			found = true
		}
	}
	require.True(t, found, "a new owner of the system shard finds it from the reports alone")
}

// Reports were made at different times: what looks like a cycle may never have
// been one.
func TestDetectorWaitsForConfirmation(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(5)
	a, b := &reportingNode{d: d, id: 1}, &reportingNode{d: d, id: 2}
	require.Empty(t, a.send(now, edge(1, 11, 1, 2, 0)))
	// The wait of 1 is over by now; 2 begins to wait for 1.
	for range 3 {
		require.Empty(t, b.send(now, edge(2, 22, 2, 1, 0)))
	}
	require.Empty(t, a.send(now))
	require.Empty(t, b.send(now, edge(2, 22, 2, 1, 0)))
	// A report that was delayed says nothing about now.
	a.sequence -= 2
	for range 2 {
		require.Empty(t, a.send(now, edge(1, 11, 1, 2, 0)))
		require.Empty(t, b.send(now, edge(2, 22, 2, 1, 0)))
	}
}

// Reports expire: a node that died waits for nobody.
func TestDetectorForgetsSilentNodes(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(5)
	a, b := &reportingNode{d: d, id: 1}, &reportingNode{d: d, id: 2}
	a.send(now, edge(1, 11, 1, 2, 0))
	for range 5 {
		require.Empty(t, b.send(now.Add(2*reportLife), edge(2, 22, 2, 1, 0)))
	}
	require.Len(t, d.reports, 1)
	require.Empty(t, d.suspected)
}

// owners are lock tables of different processes: each with a graph of its own,
// and a reporter that talks to the owner of the system shard by encoded messages.
type owners struct {
	t         *testing.T
	system    *Replica
	replicas  []*Replica
	reporters []*reporter
}

func newOwners(t *testing.T, n int) *owners {
	w := newTrio(t)
	o := &owners{t: t, system: w.shards[System][0]}
	server := &Server{Replica: func(ID) *Replica { return o.system }}
	for i := range n {
		graph := locks.NewWaitGraph()
		r := NewReplica(ReplicaConfig{Shard: ID(10 + i), Graph: graph})
		r.serving.Store(&tenure{epoch: uint64(3 + i), table: locks.NewTable(tableName(r.c.Shard), graph)})
		o.replicas = append(o.replicas, r)
		o.reporters = append(o.reporters, &reporter{id: uint64(i + 1), now: time.Now,
			replicas: func() []*Replica { return []*Replica{r} },
			send: func(ctx context.Context, q *WaitsRequest) (*WaitsResponse, error) {
				e := envelope{method: methodWaits, shard: System}
				response := &WaitsResponse{}
				return response, decodeResponse(server.Serve(ctx, q.AppendBinary(e.appendHeader(nil))), response)
			}})
	}
	return o
}

func (o *owners) lock(ctx context.Context, at int, n uint64, weight int) error {
	_, err := o.replicas[at].serving.Load().table.Acquire(ctx, locks.Request{Owner: locks.Owner{Start: n}, Mode: locks.Exclusive,
		Spans: []locks.Span{{Lo: []byte("k")}}, Weight: weight, Statement: fmt.Sprint("of ", n)}, locks.WaitBlock)
	return err
}

func (o *owners) release(n uint64) {
	for _, r := range o.replicas {
		r.serving.Load().table.Release(locks.Owner{Start: n})
	}
}

// Cycles of two and three transactions over as many processes end with one
// victim each, the lightest, and each process remembers its victims.
func TestDeadlocksAcrossProcesses(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			o := newOwners(t, n)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			for i := range n {
				require.NoError(t, o.lock(ctx, i, uint64(i+1), 0))
			}
			errs := make([]error, n)
			var waiting sync.WaitGroup
			for i := range n {
				waiting.Go(func() {
					// The second transaction has written least.
					weight := 5
					if i == 1 {
						weight = 2
					}
					errs[i] = o.lock(ctx, (i+1)%n, uint64(i+1), weight)
					o.release(uint64(i + 1))
				})
			}
			done := make(chan struct{})
			go func() { waiting.Wait(); close(done) }()
			for over := false; !over; {
				for _, p := range o.reporters {
					require.NoError(t, p.report(ctx))
				}
				select {
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
				}
			}
			for i, err := range errs {
				if i == 1 {
					require.ErrorIs(t, err, locks.ErrDeadlock)
					var e *locks.Error
					require.True(t, errors.As(err, &e))
					require.Len(t, e.Deadlock.Members, n)
					require.Equal(t, "of 2", e.Deadlock.Members[0].Statement)
					continue
				}
				require.NoError(t, err)
			}
			// A verdict on a wait that is over, or of another epoch, is void.
			at := o.replicas[2%n]
			require.False(t, at.breakWait(WaitVerdict{Shard: at.c.Shard, Epoch: at.serving.Load().epoch, ID: 1, Members: []LockInfo{{}}}, time.Now()))
		})
	}
}

// The ids of waits begin anew with an epoch: a verdict of an older one must not
// meet another wait.
func TestVerdictOfAnotherEpochIsVoid(t *testing.T) {
	o := newOwners(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	require.NoError(t, o.lock(ctx, 0, 1, 0))
	done := make(chan error, 1)
	go func() { done <- o.lock(ctx, 0, 2, 0) }()
	r := o.replicas[0]
	table := r.serving.Load().table
	var waits []locks.WaitInfo
	for len(waits) == 0 {
		waits = table.Waits()
	}
	require.False(t, r.breakWait(WaitVerdict{Shard: r.c.Shard, Epoch: r.serving.Load().epoch - 1, ID: waits[0].ID, Members: []LockInfo{{Txn: txnNumbered(2)}}}, time.Now()))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// One wait may close several cycles at a time: that they are found in turns must
// not put the confirmation of each of them off for ever.
func TestDetectorConfirmsCyclesFoundInTurns(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(1)
	both := edge(1, 11, 1, 2, 0)
	both.BlockedBy = append(both.BlockedBy, txnNumbered(3))
	nodes := []*reportingNode{{d: d, id: 1}, {d: d, id: 2}, {d: d, id: 3}}
	waits := []ReportedWait{both, edge(2, 22, 2, 1, 5), edge(3, 33, 3, 1, 5)}
	var victims []uint64
	for round := 0; round < 6 && len(victims) == 0; round++ {
		for i, n := range nodes {
			victims = append(victims, n.send(now, waits[i])...)
		}
	}
	require.Equal(t, []uint64{11}, victims)
}
