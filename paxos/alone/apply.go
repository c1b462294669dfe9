package alone

import (
	"fmt"

	"github.com/rowlockdb/rowlock/paxos"
)

// maxBatch bounds the bytes of commands that are applied at once.
const maxBatch = 8 << 20

// applyQueue applies what is queued and answers when it is durable, until the group is stopped or has failed.
func (g *Group) applyQueue() {
	defer close(g.ended)
	for b := g.take(); b != nil; b = g.take() {
		durable, err := g.apply(b.entries)
		if err != nil {
			g.fail(fmt.Errorf("apply to group %d: %w", g.id, err))
			return
		}
		g.applied.Store(uint64(b.entries[len(b.entries)-1].Index))
		if err := durable(); err != nil {
			g.fail(fmt.Errorf("make group %d durable: %w", g.id, err))
			return
		}
		g.answer(b)
	}
}

// take waits for commands and takes them out of the queue; nil at the end.
func (g *Group) take() *batch {
	for {
		g.mu.Lock()
		if g.mu.stopped || isClosed(g.broken) {
			g.refuseLocked()
			g.mu.Unlock()
			return nil
		}
		if b := g.takeLocked(); b != nil {
			g.mu.Unlock()
			return b
		}
		g.mu.Unlock()
		<-g.work
	}
}

// refuseLocked answers what was not taken and never will be.
func (g *Group) refuseLocked() {
	for _, p := range g.mu.queue {
		p.err = paxos.ErrClosed
		close(p.done)
	}
	g.mu.queue = nil
}

func (g *Group) takeLocked() *batch {
	n, size := 0, 0
	for n < len(g.mu.queue) && (n == 0 || size+len(g.mu.queue[n].command) <= maxBatch) {
		size += len(g.mu.queue[n].command)
		n++
	}
	if n == 0 {
		return nil
	}
	b := &batch{proposals: g.mu.queue[:n:n], entries: make([]paxos.Entry, n)}
	if g.mu.queue = g.mu.queue[n:]; len(g.mu.queue) == 0 {
		g.mu.queue = nil
	}
	for i, p := range b.proposals {
		b.entries[i] = paxos.Entry{Index: paxos.Index(g.applied.Load() + uint64(i) + 1), Command: p.command}
	}
	g.begun.Add(1) // before anything of it can be seen
	return b
}

// answer tells those who proposed, and those who wait for what they saw.
func (g *Group) answer(b *batch) {
	durable := g.durable.Add(1)
	for i, p := range b.proposals {
		p.result = b.entries[i].Result
		close(p.done)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(g.mu.barriers) && g.mu.barriers[n].upTo <= durable {
		close(g.mu.barriers[n].done)
		n++
	}
	g.mu.barriers = g.mu.barriers[n:]
}

// fail ends the group: nothing is applied or answered any more.
func (g *Group) fail(err error) {
	if g.options.Failed == nil {
		panic(fmt.Sprintf("alone: %v", err))
	}
	g.breaking.Do(func() {
		close(g.broken)
		g.options.Failed(err)
	})
	g.signal()
}

// watch ends the group when the disk has failed: those who use that may never return.
func (g *Group) watch() {
	select {
	case <-g.options.Stopped:
		g.breaking.Do(func() { close(g.broken) })
		g.signal()
	case <-g.ended:
	}
}

// Stop ends the group when what is under way is done, and closes the state machine. What
// was not taken yet is refused with ErrClosed. It may be called twice.
func (g *Group) Stop() error {
	g.mu.Lock()
	first := !g.mu.stopped
	g.mu.stopped = true
	g.mu.Unlock()
	g.signal()
	select {
	case <-g.ended:
	case <-g.options.Stopped:
		return fmt.Errorf("alone: stop group %d: the disk has failed", g.id)
	}
	if !first {
		return nil
	}
	if err := g.sm.Close(); err != nil {
		return fmt.Errorf("alone: close state machine of group %d: %w", g.id, err)
	}
	return nil
}
