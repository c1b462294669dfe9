package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// callBytes is what a request costs of the budget beside its bytes, so that
// small requests are bounded too.
const callBytes = 1 << 10

// link is a connection that this side sends requests on.
type link struct {
	*pipe
	as     Identity // who this side said it was
	budget *budget

	calls struct {
		sync.Mutex
		next    uint64
		waiting map[uint64]*call
		ended   bool
		retired bool
	}
}

// call is a request under way.
type call struct {
	answer chan answer // of one
	id     uint64
	mark   uint64
	cost   int64
}

type answer struct {
	payload []byte
	err     error
}

var callPool = sync.Pool{New: func() any { return &call{answer: make(chan answer, 1)} }}

func newLink(p *pipe, as Identity, b *budget) *link {
	l := &link{pipe: p, as: as, budget: b}
	l.calls.waiting = make(map[uint64]*call)
	p.take = l.takeAnswer
	return l
}

// run serves the link until it ends, and then ends its calls.
func (l *link) run() error {
	err := l.pipe.run()
	l.calls.Lock()
	waiting := l.calls.waiting
	l.calls.waiting, l.calls.ended = nil, true
	l.calls.Unlock()
	for _, c := range waiting {
		c.answer <- answer{err: fmt.Errorf("%w: %w", ErrLost, err)}
	}
	return err
}

// start sends a request that has its share of the budget; false if the link has
// ended and the request was not sent.
func (l *link) start(request []byte, cost int64) (*call, bool) {
	c := callPool.Get().(*call)
	c.cost = cost
	l.calls.Lock()
	if l.calls.ended || l.calls.retired {
		l.calls.Unlock()
		callPool.Put(c)
		return nil, false
	}
	l.calls.next++
	c.id = l.calls.next
	l.calls.waiting[c.id] = c
	l.calls.Unlock()
	mark, err := l.out.add(frameRequest, c.id, request)
	if err != nil && l.forget(c.id) {
		callPool.Put(c)
		return nil, false
	}
	c.mark = mark
	return c, true
}

// wait returns the answer. When ctx ends first the other side is told, and the
// share of the budget is kept until the request has left the queue.
func (l *link) wait(ctx context.Context, c *call) ([]byte, error) {
	var a answer
	select {
	case a = <-c.answer:
	case <-ctx.Done():
		if l.forget(c.id) {
			l.out.add(frameCancel, c.id, nil) // if it fails the handler's context has ended
			cost := c.cost
			l.out.after(c.mark, func() { l.budget.give(cost) })
			callPool.Put(c)
			return nil, ctx.Err()
		}
		a = <-c.answer // it came at the same moment
	}
	l.budget.give(c.cost)
	callPool.Put(c)
	return a.payload, a.err
}

// forget takes a call off the list. False means that its answer is on its way.
func (l *link) forget(id uint64) bool { return l.remove(id) != nil }

func (l *link) remove(id uint64) *call {
	l.calls.Lock()
	c := l.calls.waiting[id]
	delete(l.calls.waiting, id)
	done := l.calls.retired && len(l.calls.waiting) == 0 && !l.calls.ended
	l.calls.Unlock()
	if done {
		l.end(errRetired)
	}
	return c
}

// takeAnswer is the pipe's take.
func (l *link) takeAnswer(h header, payload []byte) error {
	switch h.kind {
	case frameResponse:
		if c := l.remove(h.id); c != nil {
			c.answer <- answer{payload: payload}
		}
	case frameRefusal:
		if c := l.remove(h.id); c != nil {
			c.answer <- answer{err: fmt.Errorf("%w: %s", ErrRefused, payload)}
		}
	default:
		return fmt.Errorf("%w: frame of kind %d from a side that answers", ErrProtocol, h.kind)
	}
	return nil
}

// errRetired ends a link that was opened under an identity of before.
var errRetired = errors.New("this node has another identity now")

// retire lets calls under way finish and takes no new ones.
func (l *link) retire() {
	l.calls.Lock()
	l.calls.retired = true
	idle := len(l.calls.waiting) == 0
	l.calls.Unlock()
	if idle {
		l.end(errRetired)
	}
}

func (l *link) inFlight() int {
	l.calls.Lock()
	defer l.calls.Unlock()
	return len(l.calls.waiting)
}
