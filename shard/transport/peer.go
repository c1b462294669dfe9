package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
)

// peer is another node as this one asks it: at most one link, and the attempts
// to get one.
//
// Nobody has tried: the first call starts an attempt and waits for it. An
// attempt failed: the peer is down, calls fail at once with its reason, and
// attempts go on in the background while somebody calls. A link ended: a new
// attempt starts at once; calls wait for it, unless the link ended in silence.
type peer struct {
	t      *Transport
	addr   shard.NodeAddr
	budget *budget
	kick   chan struct{} // cuts the pause between two attempts short

	calls, errors, served, connects, in, out, version atomic.Uint64

	mu struct {
		sync.Mutex
		link       *link
		attempt    chan struct{} // closed when the first attempt ends; nil if nobody should wait
		connecting bool
		down       error
	}
}

func newPeer(t *Transport, addr shard.NodeAddr) *peer {
	return &peer{t: t, addr: addr, budget: newBudget(t.o.InFlight), kick: make(chan struct{}, 1)}
}

// call carries one request out.
func (p *peer) call(ctx context.Context, request []byte) ([]byte, error) {
	cost := int64(len(request)) + callBytes
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := p.reach(ctx)
		if err != nil {
			return nil, err
		}
		if err := p.budget.take(ctx, cost); err != nil {
			return nil, fmt.Errorf("wait for room among the requests under way: %w", err)
		}
		if c, ok := l.start(request, cost); ok {
			return l.wait(ctx, c)
		}
		p.budget.give(cost)
		p.lose(l, nil) // the link ended between the two
	}
}

// reach returns the link, or waits for the attempt to get one.
func (p *peer) reach(ctx context.Context) (*link, error) {
	for {
		self := p.t.o.Self()
		p.mu.Lock()
		if l := p.mu.link; l != nil && l.as == self {
			p.mu.Unlock()
			return l, nil
		} else if l != nil {
			p.mu.link = nil
			p.mu.Unlock()
			l.retire()
			continue
		}
		if err := p.mu.down; err != nil {
			p.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		attempt := p.beginAttempt()
		p.mu.Unlock()
		if attempt == nil {
			return nil, ErrClosed
		}
		select {
		case <-attempt:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		}
	}
}

// beginAttempt makes sure that somebody tries to connect and returns what is
// closed when it is decided. p.mu is held.
func (p *peer) beginAttempt() chan struct{} {
	if p.mu.attempt == nil {
		p.mu.attempt = make(chan struct{})
	}
	if !p.mu.connecting {
		p.mu.connecting = p.t.goWork(p.connect)
		if !p.mu.connecting {
			return nil
		}
	}
	return p.mu.attempt
}

// Attempts to reach a node that is down come at growing distances, each
// shortened by chance so that nodes do not knock in step.
const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
	// patience is how many attempts are made while nobody calls.
	patience = 10
)

func pauseAfter(failures int, chance float64) time.Duration {
	d := longPause
	if failures < 6 {
		d = min(longPause, firstPause<<failures)
	}
	return time.Duration(float64(d) * (1 - chance/2))
}

// connect tries until there is a link, nobody wants one, or Close.
func (p *peer) connect() {
	asked, idle := p.calls.Load(), 0
	for failures := 0; ; failures++ {
		l, err := p.dial()
		if err == nil {
			p.serve(l)
			return
		}
		if now := p.calls.Load(); now != asked {
			asked, idle = now, 0
		} else {
			idle++
		}
		if p.failed(err, idle >= patience) {
			return
		}
		select {
		case <-time.After(pauseAfter(failures, rand.Float64())):
		case <-p.kick:
		case <-p.t.life.Done():
			p.failed(ErrClosed, true)
			return
		}
	}
}

func (p *peer) dial() (*link, error) {
	self := p.t.o.Self()
	conn, err := p.t.open(p.t.life, p.addr, kindRequests, self)
	if err != nil {
		return nil, err
	}
	p.connects.Add(1)
	p.version.Store(uint64(conn.version))
	return newLink(newPipe(conn, p.t.o.Beat, traffic{&p.in, &p.out}), self, p.budget), nil
}

// failed notes why the node is out of reach. The last attempt leaves nothing
// behind: the next call makes a new one.
func (p *peer) failed(err error, last bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.down == nil {
		p.t.log.Warn("node is out of reach", "node", p.addr, "error", err)
	}
	p.mu.down = err
	if p.mu.attempt != nil {
		close(p.mu.attempt)
		p.mu.attempt = nil
	}
	if last {
		p.mu.connecting = false
		if !errors.Is(err, ErrClosed) {
			p.mu.down = nil
		}
	}
	return last
}

// serve puts a link to use until it ends.
func (p *peer) serve(l *link) {
	p.mu.Lock()
	if p.mu.down != nil {
		p.t.log.Info("node is in reach again", "node", p.addr)
	}
	p.mu.link, p.mu.down, p.mu.connecting = l, nil, false
	if p.mu.attempt != nil {
		close(p.mu.attempt)
		p.mu.attempt = nil
	}
	p.mu.Unlock()
	p.lose(l, l.run())
}

// lose takes a link that has ended out of use.
func (p *peer) lose(l *link, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.link != l {
		return
	}
	p.mu.link = nil
	if p.t.life.Err() != nil || err == nil {
		return
	}
	p.t.log.Warn("connection to node ended", "node", p.addr, "error", err)
	if errors.Is(err, errSilent) || errors.Is(err, errCut) {
		p.mu.down = err
	}
	p.beginAttempt()
}

// forgetLink keeps calls off a link that is about to be closed.
func (p *peer) forgetLink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.link = nil
}

// nudge makes the next attempt come now.
func (p *peer) nudge() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *peer) stats() PeerStats {
	s := PeerStats{
		Addr: p.addr, Calls: p.calls.Load(), Errors: p.errors.Load(), Served: p.served.Load(),
		Connects: p.connects.Load(), BytesOut: p.out.Load(), BytesIn: p.in.Load(),
		Version: shard.Version(p.version.Load()), InFlightBytes: p.budget.used(),
	}
	p.mu.Lock()
	l := p.mu.link
	if p.mu.down != nil {
		s.Down = p.mu.down.Error()
	}
	p.mu.Unlock()
	if l != nil {
		s.Connected, s.InFlight = true, l.inFlight()
	}
	return s
}
