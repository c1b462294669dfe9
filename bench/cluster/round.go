package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outcome is what became of one fault.
type outcome struct {
	name          string
	before        float64       // acknowledged per second before it
	during, after time.Duration // until 80 % of that was reached: since the fault, since its end
	served, back  bool          // whether it was reached at all
	resumed       bool          // something was acknowledged after the end
	acknowledged  int           // in this round
	errors        string
	strange       []string
	wrong         error
}

// The rate that has to be reached again, and how soon.
const (
	part      = 0.8
	backLimit = 10 * time.Second
)

// carryOut injects one fault under load and looks at what is left.
func (p *program) carryOut(ctx context.Context, f fault) (o outcome) {
	o.name = f.name
	w := &world{Cluster: p.cluster, random: p.random, logf: p.logf}
	w.choose(ctx, f)
	if f.prepare != nil {
		defer w.unmount()
		if o.wrong = f.prepare(ctx, w); o.wrong != nil {
			return o
		}
	}
	acknowledged := p.bank.acknowledged()
	l := p.bank.start(ctx, p.sessions)
	defer l.stop()
	if o.wrong = sleep(ctx, p.warm); o.wrong != nil {
		return o
	}
	at := time.Now()
	o.before = l.rate(at.Add(-p.warm/2), at)
	p.logf("%s: node %d, %.0f/s before", f.name, w.victim.ID, o.before)
	heal, err := f.inject(ctx, w)
	if err != nil {
		o.wrong = err
		return o
	}
	if o.wrong = sleep(ctx, p.shorten(f.hold)); o.wrong != nil {
		return o
	}
	o.during, o.served = l.back(at, part*o.before)
	ended := time.Now()
	if o.wrong = heal(ctx); o.wrong != nil {
		return o
	}
	for time.Since(ended) < 3*backLimit && !o.back {
		if o.wrong = sleep(ctx, 250*time.Millisecond); o.wrong != nil {
			return o
		}
		o.after, o.back = l.back(ended, part*o.before)
	}
	o.resumed = l.rate(ended, time.Now()) > 0
	l.stop()
	o.errors, o.strange = l.errors.String(), l.errors.strange()
	o.acknowledged = p.bank.acknowledged() - acknowledged
	o.wrong = p.check(ctx)
	if f.prepare != nil {
		o.wrong = errors.Join(o.wrong, w.returnDisk(ctx))
	}
	return o
}

// check compares what is stored with what clients were told, and the replicas
// with each other.
func (p *program) check(ctx context.Context) error {
	if err := p.bank.verify(ctx); err != nil {
		return err
	}
	return p.cluster.AwaitEqual(ctx, min(len(p.cluster.Nodes), 3))
}

// judge tells what is not as promised. Times count only when asked for: a
// machine that does other things, too, says nothing about them.
func (o *outcome) judge(f fault, times bool) error {
	switch {
	case o.wrong != nil:
		return o.wrong
	case len(o.strange) > 0:
		return fmt.Errorf("errors that clients are not told about: %q", o.strange)
	case o.acknowledged == 0:
		return errors.New("nothing was acknowledged")
	case !o.resumed:
		return fmt.Errorf("nothing is acknowledged any more, %v after it", 3*backLimit)
	case times && !o.back:
		return fmt.Errorf("no %.0f/s within %v", part*o.before, 3*backLimit)
	case times && o.after > backLimit:
		return fmt.Errorf("back after %v, at most %v", o.after, backLimit)
	case times && f.survives && f.hold > backLimit && (!o.served || o.during > backLimit):
		return fmt.Errorf("does not serve while the fault lasts (%v)", o.during)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
