package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// course is a whole run: rounds of trials on each server in turn.
type course struct {
	settings settings
	servers  []*server
	trials   []trial
	out      io.Writer
	figures  map[place]*figures
}

// place is a cell of the table: a trial on a server.
type place struct {
	name    string
	threads int
	server  string
}

// figures are the runs of one place.
type figures struct {
	samples []sample
	failed  error // of the last run that failed
}

func newCourse(s settings, servers []*server, trials []trial, out io.Writer) *course {
	return &course{settings: s, servers: servers, trials: trials, out: out, figures: map[place]*figures{}}
}

// run measures. Each trial goes to all servers before the next begins, so that
// what the machine does beside it meets all of them.
func (c *course) run(ctx context.Context) error {
	sysbench := slices.ContainsFunc(c.trials, func(t trial) bool { return t.sysbench })
	if err := c.turn(ctx, true); err != nil {
		return err
	}
	for round := range c.settings.rounds {
		for _, s := range c.servers {
			begun := time.Now()
			if err := c.settings.prepare(ctx, s, sysbench); err != nil {
				return fmt.Errorf("%s: prepare: %w", s.name, err)
			}
			fmt.Fprintf(c.out, "round %d, %s: data made anew in %.1f s\n", round+1, s.name, time.Since(begun).Seconds())
		}
		if err := c.turn(ctx, false); err != nil {
			return err
		}
	}
	return nil
}

// turn makes each trial once on each server that takes part.
func (c *course) turn(ctx context.Context, fresh bool) error {
	for _, t := range c.trials {
		if t.fresh != fresh {
			continue
		}
		for _, s := range c.servers {
			if !s.takesPart(t.name) {
				continue
			}
			if err := c.measure(ctx, t, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure runs one trial on one server. A trial that fails is part of the result;
// only the end of the whole run is an error.
func (c *course) measure(ctx context.Context, t trial, s *server) error {
	if err := sleep(ctx, c.settings.settle); err != nil {
		return err
	}
	at := place{t.name, t.threads, s.name}
	if c.figures[at] == nil {
		c.figures[at] = &figures{}
	}
	one, err := c.sample(ctx, t, s)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		c.figures[at].failed = err
		fmt.Fprintf(c.out, "%s, %d, %s: %v\n", t.name, t.threads, s.name, err)
		return nil
	}
	c.figures[at].samples = append(c.figures[at].samples, one)
	fmt.Fprintf(c.out, "%s, %d, %s: %.0f a second, %.2f µs, %d MiB, others %.0f %%\n",
		t.name, t.threads, s.name, one.rate, one.cpu, one.memory>>20, 100*one.others)
	return nil
}

// sample runs a trial and reads the clocks around it.
func (c *course) sample(ctx context.Context, t trial, s *server) (sample, error) {
	before, known := s.cpu()
	busy, machineErr := process.MachineCPU()
	own, begun := ownCPU(), time.Now()
	one, err := t.run(ctx, s)
	if err != nil {
		return one, err
	}
	took := time.Since(begun)
	after, _ := s.cpu()
	one.memory = s.memory()
	if known && one.units > 0 {
		one.cpu = float64((after - before).Microseconds()) / one.units
	}
	now, err := process.MachineCPU()
	if known && machineErr == nil && err == nil {
		one.others = others(now-busy, after-before, one.client+ownCPU()-own, took, runtime.NumCPU())
	}
	return one, nil
}

// others is the part of the machine's processors that somebody else used.
func others(busy, servers, client, took time.Duration, processors int) float64 {
	return max(0, (busy-servers-client).Seconds()/(took.Seconds()*float64(processors)))
}

// ownCPU is the processor time of this program.
func ownCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
