package locks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rowlockdb/rowlock/bench/explore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a second opinion on who holds what: transactions enter what they were granted, and no
// two entries may conflict.
type ledger struct {
	mu struct {
		sync.Mutex
		entries map[Owner][]naiveLock
	}
}

func (l *ledger) enter(table string, r Request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range r.Spans {
		mine := naiveLock{owner: r.Owner, mode: r.Mode, span: s.intern()}
		for other, locks := range l.mu.entries {
			for _, theirs := range locks {
				if other != r.Owner && theirs.span.overlaps(mine.span) && r.Mode.conflictsWith(1<<theirs.mode) {
					return fmt.Errorf("%v %v in %s beside %v %v", mine, r.Mode, table, theirs, theirs.mode)
				}
			}
		}
		l.mu.entries[r.Owner] = append(l.mu.entries[r.Owner], mine)
	}
	return nil
}

func (l *ledger) leave(o Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.entries, o)
}

// TestStress runs transactions in parallel over two tables. Nobody has a timeout that counts: that
// the test ends shows that every deadlock was found and every release woke whom it should.
func TestStress(t *testing.T) {
	seed := explore.Seed(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	graph := NewWaitGraph()
	s := &stress{ctx: ctx, t: t}
	for i := range s.tables {
		s.tables[i] = NewTable(fmt.Sprint("table ", i), graph)
		s.ledgers[i].mu.entries = map[Owner][]naiveLock{}
	}
	var wg sync.WaitGroup
	for worker := range uint64(12) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, worker))
			for n := range uint64(300) {
				s.transaction(Owner{Start: n, Gateway: 1, Seq: worker}, random)
			}
		})
	}
	stop, checked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(checked)
		s.watch(stop)
	}()
	wg.Wait()
	close(stop)
	<-checked
	for _, table := range s.tables {
		if err := table.checkEmpty(); err != nil {
			t.Error(err)
		}
	}
	if n := graph.Waiting(); n != 0 {
		t.Errorf("%d owners are left in the wait graph", n)
	}
	_, deadlocks := graph.Deadlocks()
	t.Logf("%d deadlocks", deadlocks)
}

type stress struct {
	t       *testing.T
	ctx     context.Context
	tables  [2]*Table
	ledgers [2]ledger
}

// watch checks the tables' invariants while they are in use.
func (s *stress) watch(stop chan struct{}) {
	for {
		for _, table := range s.tables {
			if err := table.check(); err != nil {
				s.t.Error(err)
			}
			table.Waits()
		}
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// transaction takes a few locks, sometimes gives up waiting, and releases.
func (s *stress) transaction(o Owner, random *rand.Rand) {
	for step := range 1 + random.IntN(5) {
		i := random.IntN(len(s.tables))
		r := Request{Owner: o, Mode: Mode(random.IntN(int(modes))), Weight: step}
		for range 1 + random.IntN(2) {
			r.Spans = append(r.Spans, randomSpan(random))
		}
		how := []Wait{WaitBlock, WaitBlock, WaitBlock, WaitNone}[random.IntN(4)]
		ctx, cancel := s.ctx, context.CancelFunc(func() {})
		if random.IntN(10) == 0 {
			ctx, cancel = context.WithTimeout(s.ctx, time.Duration(random.IntN(300))*time.Microsecond)
		}
		_, err := s.tables[i].Acquire(ctx, r, how)
		cancel()
		if err == nil {
			err = s.ledgers[i].enter(s.tables[i].name, r)
			if err != nil {
				s.t.Error(err)
			}
			continue
		}
		if errors.Is(err, ErrDropped) || s.ctx.Err() != nil {
			s.t.Errorf("%v: %v", o, err)
		}
		if errors.Is(err, ErrDeadlock) {
			break
		}
	}
	pinned := s.tables[0].Pin(o)
	for i, table := range s.tables {
		s.ledgers[i].leave(o)
		if i == 0 && pinned {
			table.ForceRelease(o)
		} else if !table.Release(o) {
			s.t.Error("not released")
		}
	}
}

func randomSpan(random *rand.Rand) Span {
	lo := random.IntN(12)
	s := Span{Lo: fmt.Appendf(nil, "%02d", lo)}
	if random.IntN(4) == 0 {
		s.Hi = fmt.Appendf(nil, "%02d", lo+1+random.IntN(4))
	}
	return s
}
