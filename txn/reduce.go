package txn

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// reduceAtOnce is how many shards at least are asked at the same time; with more
// processors here, as many as there are.
const reduceAtOnce = 4

// Reduction is what the owners of the shards are to make of the rows of [Lo, Hi).
type Reduction struct {
	Lo, Hi  storage.Key
	Where   Where
	Program []byte
}

// Reduce has the owners of the shards reduce rows, all at the transaction's snapshot,
// and gives take each part's result, one at a time, in no order. It reads nothing and
// returns false where only a Scan shows what the transaction may see: it has written
// rows of the interval itself, its plain reads take locks, or are of the past, which
// replicas here may show; or not all nodes know how to.
//
// take's error ends it.
func (t *Txn) Reduce(ctx context.Context, q Reduction, take func(result []byte) error) (bool, error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	o := t.effective(ReadOptions{})
	if o.Lock != LockNone || t.past() || !t.c.router.Reduces() {
		return false, nil
	}
	if err := t.ready(ctx, o); err != nil {
		return false, err
	}
	if q.Hi != nil && bytes.Compare(q.Lo, q.Hi) >= 0 {
		return true, nil
	}
	shards, _ := t.shardsOf(q.Where)
	for _, s := range shards {
		if t.wroteWithin(s, keySpan{lo: q.Lo, hi: q.Hi}) && !mutated("0072.own-writes-unseen") {
			return false, nil
		}
	}
	r := reducing{t: t, q: q, at: t.at(o), take: take}
	return true, r.run(ctx, shards)
}

// wroteWithin tells whether the transaction has written on a shard within a span.
func (t *Txn) wroteWithin(s shard.ID, span keySpan) bool {
	_, wrote := t.buffer.next(s, span, nil, math.MaxUint64)
	return wrote
}

// reducing is one Reduce.
type reducing struct {
	t  *Txn
	q  Reduction
	at storage.Timestamp

	taking sync.Mutex
	take   func([]byte) error
	failed error // of take
}

func (r *reducing) run(ctx context.Context, shards []shard.ID) error {
	r.t.looked.Store(true)
	sent := requests{t: r.t}
	var next atomic.Int64
	workers := min(len(shards), max(reduceAtOnce, runtime.GOMAXPROCS(0)))
	sent.send(ctx, workers, func(ctx context.Context, _ int) (shard.ID, error) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(shards) {
				return 0, nil
			}
			if err := r.shard(ctx, shards[i]); err != nil {
				return shards[i], err
			}
		}
	})
	if r.failed != nil {
		return r.failed
	}
	return sent.fail(ctx)
}

// shard reduces the part of a shard, page by page.
func (r *reducing) shard(ctx context.Context, s shard.ID) error {
	q := &shard.ReduceRequest{At: r.at, Span: shard.Span{Lo: r.q.Lo, Hi: r.q.Hi}, Program: r.q.Program}
	for {
		page, err := r.t.c.reduce(ctx, s, q)
		if err != nil {
			return err
		}
		if page.More && bytes.Compare(page.Resume, q.Span.Lo) <= 0 {
			return &Error{Code: Bug, Shard: s, Detail: "a page that does not move on"}
		}
		if err := r.takeOne(page.Result); err != nil || !page.More {
			return err
		}
		next := *q // the last one may still be on its way
		next.Span.Lo = page.Resume
		q = &next
	}
}

func (r *reducing) takeOne(result []byte) error {
	r.taking.Lock()
	defer r.taking.Unlock()
	if r.failed == nil {
		r.failed = r.take(result)
	}
	return r.failed
}

// reduce sends one request, finishing undecided transactions in its way.
func (c *Coordinator) reduce(ctx context.Context, s shard.ID, q *shard.ReduceRequest) (*shard.ReduceResponse, error) {
	for {
		page, err := c.router.Reduce(ctx, s, q)
		if err = c.clearWay(ctx, err); err != errRepeat {
			return page, err
		}
	}
}
