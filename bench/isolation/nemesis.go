package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// nemesis breaks one thing after the other in a cluster, and mends it.
type nemesis struct {
	cluster *process.Cluster
	random  *rand.Rand
	between time.Duration // longest time between two faults

	mu     sync.Mutex
	counts map[string]int
	broken bool
	since  time.Time     // of the quiet time under way, when not broken
	quiet  time.Duration // of quiet times that are over
}

// mishap is one kind of fault; it returns what mends it.
type mishap struct {
	name string
	cuts bool // needs a network that can be cut
	do   func(*nemesis, *process.Node) (mend func(context.Context) error, err error)
}

var mishaps = []mishap{
	{"kills", false, func(n *nemesis, victim *process.Node) (func(context.Context) error, error) {
		return victim.Start, victim.Kill()
	}},
	{"kills of all", false, func(n *nemesis, _ *process.Node) (func(context.Context) error, error) {
		for _, node := range n.cluster.Nodes {
			if err := node.Kill(); err != nil {
				return nil, err
			}
		}
		return func(ctx context.Context) error { return process.Restart(ctx, n.cluster.Nodes) }, nil
	}},
	{"pauses", false, func(_ *nemesis, victim *process.Node) (func(context.Context) error, error) {
		return func(context.Context) error { return victim.Resume() }, victim.Pause()
	}},
	{"partitions", true, func(n *nemesis, victim *process.Node) (func(context.Context) error, error) {
		return n.cut(victim, true, true)
	}},
	{"one-way partitions", true, func(n *nemesis, victim *process.Node) (func(context.Context) error, error) {
		sends := n.random.IntN(2) == 0
		return n.cut(victim, sends, !sends)
	}},
}

func (n *nemesis) cut(victim *process.Node, sends, hears bool) (func(context.Context) error, error) {
	for _, other := range n.cluster.Nodes {
		if other == victim {
			continue
		}
		if sends {
			if err := n.cluster.Network.Cut(victim.ID, other.ID); err != nil {
				return nil, err
			}
		}
		if hears {
			if err := n.cluster.Network.Cut(other.ID, victim.ID); err != nil {
				return nil, err
			}
		}
	}
	return func(context.Context) error { return n.cluster.Network.Heal() }, nil
}

// run breaks and mends until ctx ends; then everything is mended.
func (n *nemesis) run(ctx context.Context) error {
	n.mark(false)
	defer n.mark(true)
	for {
		if !pauseFor(ctx, time.Duration(1+n.random.Int64N(int64(n.between)))) {
			return nil
		}
		if err := n.cluster.Died(); err != nil {
			return err
		}
		m := mishaps[n.random.IntN(len(mishaps))]
		if m.cuts && !n.cluster.Network.Cuts() {
			continue
		}
		n.mark(true)
		mend, err := m.do(n, n.cluster.Nodes[n.random.IntN(len(n.cluster.Nodes))])
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		n.mu.Lock()
		n.counts[m.name]++
		n.mu.Unlock()
		pauseFor(ctx, time.Duration(n.random.Int64N(int64(5*time.Second))))
		// Not ended by ctx: the last reads need the cluster.
		if err := mend(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("mend %s: %w", m.name, err)
		}
		n.mark(false)
	}
}

// mark notes the begin or the end of a fault.
func (n *nemesis) mark(broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if broken && !n.broken && !n.since.IsZero() {
		n.quiet += time.Since(n.since)
	}
	n.broken, n.since = broken, time.Now()
}

// calm tells whether nothing is broken now.
func (n *nemesis) calm() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.broken
}

// report is what was done so far, and for how long nothing was broken.
func (n *nemesis) report() (string, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := ""
	for _, m := range mishaps {
		if c := n.counts[m.name]; c > 0 {
			text += fmt.Sprintf(", %d %s", c, m.name)
		}
	}
	return text, n.quiet
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
