package txn

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/shard"
)

// crew runs parts of statements and commits beside each other. A goroutine begins
// with a small stack, which is copied into larger ones several times on the way
// down to the store; so those that have been there stay for the parts to come.
type crew struct {
	parts chan func()
	over  <-chan struct{} // nobody stays any longer
	idle  atomic.Int32
}

// crewIdle bounds how many stay.
const crewIdle = 64

func newCrew(over <-chan struct{}) *crew {
	return &crew{parts: make(chan func()), over: over}
}

// run has somebody run a part, who may have nothing to do or be new. Nobody stays
// in a crew that is nil.
func (w *crew) run(part func()) {
	if w == nil {
		go part()
		return
	}
	select {
	case w.parts <- part:
	default:
		go w.work(part)
	}
}

func (w *crew) work(part func()) {
	for {
		part()
		if w.idle.Add(1) > crewIdle {
			w.idle.Add(-1)
			return
		}
		select {
		case part = <-w.parts:
			w.idle.Add(-1)
		case <-w.over:
			return
		}
	}
}

// inParallel runs f(0..n-1), one of them on this goroutine, and waits for all.
func (w *crew) inParallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Add(1)
		w.run(func() {
			defer wg.Done()
			f(i)
		})
	}
	if n > 0 {
		f(0)
	}
	wg.Wait()
}

// requests are the requests of one statement to several shards. The statement
// needs all their answers, so that the first error ends the others: a deadlock's
// victim must not go on waiting, and holding its locks, for somebody else.
type requests struct {
	t *Txn

	mu    sync.Mutex
	err   error // what the statement fails with
	shard shard.ID
	fatal bool
}

// send runs f(0..n-1) in parallel under a context that ends with the first
// error.
func (r *requests) send(ctx context.Context, n int, f func(ctx context.Context, i int) (shard.ID, error)) {
	if n == 1 {
		s, err := f(ctx, 0)
		r.note(s, err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.t.c.crew.inParallel(n, func(i int) {
		if s, err := f(ctx, i); err != nil {
			r.note(s, err)
			cancel()
		}
	})
}

// inTurn runs f(0..n-1) one after the other, up to the first error.
func (r *requests) inTurn(ctx context.Context, n int, f func(ctx context.Context, i int) (shard.ID, error)) {
	for i := range n {
		if s, err := f(ctx, i); err != nil {
			r.note(s, err)
			return
		}
	}
}

// read carries out reads without locks on several shards; the answers are in them.
func (r *requests) read(ctx context.Context, reads []shard.ShardRead) {
	t := r.t
	t.looked.Store(true)
	open := make([]int, 0, len(reads)) // have no answer yet
	if len(reads) > 1 && !t.past() {
		t.c.router.ReadMany(ctx, reads)
		for i := range reads {
			if reads[i].Err != nil {
				open = append(open, i)
			}
		}
	} else {
		for i := range reads {
			open = append(open, i)
		}
	}
	r.send(ctx, len(open), func(ctx context.Context, i int) (shard.ID, error) {
		q := &reads[open[i]]
		if q.Err == nil {
			q.Response, q.Err = t.c.read(ctx, q.Shard, q.Request, t.past())
		} else if q.Err = t.c.clearWay(ctx, q.Err); q.Err == errRepeat {
			q.Response, q.Err = t.c.read(ctx, q.Shard, q.Request, false)
		}
		return q.Shard, q.Err
	})
}

// note keeps the first error, or the first one that ends the transaction: a
// cancelled sibling has nothing to say, one that became a victim as well has.
func (r *requests) note(s shard.ID, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fatal := convert(context.Background(), err, r.t.id, s).Code.Fatal()
	if r.err == nil || fatal && !r.fatal {
		r.err, r.shard, r.fatal = err, s, fatal
	}
}

// fail returns the error of the statement, nil if there is none, after rolling
// the transaction back if it has to be.
func (r *requests) fail(ctx context.Context) error {
	if r.err == nil {
		return nil
	}
	return r.t.fail(ctx, r.err, r.shard)
}
