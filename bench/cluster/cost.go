package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// What issue 4 allows.
const idleLimit = 0.05 // of a core, per node

// idle measures what nodes use that have nothing to do.
func (p *program) idle(ctx context.Context) error {
	const span = 30 * time.Second
	if err := sleep(ctx, 10*time.Second); err != nil { // what the bank left behind is flushed
		return err
	}
	before, err := cpuOfAll(p.cluster)
	if err == nil {
		err = sleep(ctx, span)
	}
	if err != nil {
		return err
	}
	after, err := cpuOfAll(p.cluster)
	if err != nil {
		return err
	}
	var wrong []error
	for i := range after {
		share := (after[i] - before[i]).Seconds() / span.Seconds()
		fmt.Fprintf(p.out, "node %d, idle: %.1f %% of a core\n", i+1, 100*share)
		if p.times && share > idleLimit {
			wrong = append(wrong, fmt.Errorf("node %d uses %.1f %% of a core; %.0f %% is allowed", i+1, 100*share, 100*idleLimit))
		}
	}
	return errors.Join(wrong...)
}

// cpuOfAll is the processor time that each node has used.
func cpuOfAll(c *process.Cluster) ([]time.Duration, error) {
	var all []time.Duration
	for _, n := range c.Nodes {
		used, err := process.CPU(n.Server().PID())
		if err != nil {
			return nil, err
		}
		all = append(all, used)
	}
	return all, nil
}
