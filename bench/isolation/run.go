package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// load is one of the programs that the sessions carry out.
type load interface {
	// tables are the statements that prepare the database.
	tables() []string
	// step is a transaction or a few; an error of the server is no error of step.
	step(ctx context.Context, s *session) error
	// finish looks at what is left, when all sessions have ended.
	finish(ctx context.Context, s *session) error
	// verdict judges: what was found, in words, and what of it must not be.
	verdict() (found string, wrong []string)
}

// execution is one load at one level.
type execution struct {
	settings
	target   *target
	mode     string
	level    level
	database string

	calm                        atomic.Int64 // commits while nothing was broken
	clock                       atomic.Int64 // orders begins and ends over all sessions
	committed, aborted, unknown atomic.Int64
	numbers                     [1 << 16]atomic.Int64 // errors of the server
	everyone                    []*session

	elapsed, checked time.Duration
	found            string
	wrong            []string

	mu struct {
		sync.Mutex
		strange []string
	}
}

func newRun(s settings, t *target, name string, l level) *execution {
	database := strings.ReplaceAll(fmt.Sprintf("isolation_%s_%s", name, l.name), "-", "_")
	return &execution{settings: s, target: t, mode: name, level: l, database: database}
}

func (r *execution) tick() int64 { return r.clock.Add(1) }

// session is a new session; its load follows from the seed and its number.
func (r *execution) session(id int) *session {
	return &session{execution: r, id: id, random: rand.New(rand.NewPCG(r.seed, uint64(id)))}
}

// count enters the end of a transaction.
func (r *execution) count(outcome history.Outcome, err error) (history.Outcome, error) {
	switch outcome {
	case history.Committed:
		r.committed.Add(1)
		if n := r.target.nemesis; n != nil && n.calm() {
			r.calm.Add(1)
		}
	case history.Aborted:
		r.aborted.Add(1)
	default:
		r.unknown.Add(1)
	}
	number := code(err)
	r.numbers[number].Add(1)
	usual := []uint16{deadlock, lockTimeout, duplicateKey}
	if r.kill > 0 {
		usual = append(usual, 0, unknownOutcome, unavailable, stopping)
	}
	if r.mode == "ddl" {
		usual = append(usual, definition)
	}
	if r.mode == "ddl" && r.kill > 0 {
		usual = append(usual, columnThere, indexThere, notThere)
	}
	if err != nil && !errors.Is(err, errRollback) && !errors.Is(err, context.Canceled) && !slices.Contains(usual, number) {
		r.strange(err)
	}
	return outcome, err
}

// strange notes an error that the load does not explain.
func (r *execution) strange(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.strange) < 5 && !slices.Contains(r.mu.strange, err.Error()) {
		r.mu.strange = append(r.mu.strange, err.Error())
	}
}

func (r *execution) carryOut(ctx context.Context, l load) error {
	if err := r.prepare(ctx, l); err != nil {
		return err
	}
	begun := time.Now()
	if err := r.load(ctx, l); err != nil {
		return err
	}
	r.elapsed = time.Since(begun)
	last := r.session(r.sessions)
	r.everyone = append(r.everyone, last)
	defer last.drop()
	if err := last.ready(ctx); err != nil {
		return err
	}
	if err := l.finish(ctx, last); err != nil {
		return fmt.Errorf("look at what is left: %w", err)
	}
	begun = time.Now()
	r.found, r.wrong = l.verdict()
	r.checked = time.Since(begun)
	return nil
}

func (r *execution) prepare(ctx context.Context, l load) error {
	s := r.session(-1)
	defer s.drop()
	name := r.database
	r.database = "" // it is not there yet
	err := s.ready(ctx)
	r.database = name
	if err != nil {
		return err
	}
	for _, statement := range append([]string{"CREATE DATABASE " + name, "USE " + name}, l.tables()...) {
		if _, err := s.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// load runs the sessions until enough is committed.
func (r *execution) load(ctx context.Context, l load) error {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	killing, stop := context.WithCancel(ctx)
	defer stop()
	killed := make(chan error, 1)
	if r.kill > 0 {
		if r.target.cluster != nil {
			r.target.nemesis = &nemesis{cluster: r.target.cluster, between: r.kill, counts: map[string]int{},
				random: rand.New(rand.NewPCG(r.seed, uint64(len(r.mode)+len(r.level.name))))}
		}
		go func() {
			err := r.target.killing(killing, rand.New(rand.NewPCG(r.seed, 1<<32)))
			if err != nil {
				giveUp()
			}
			killed <- err
		}()
	} else {
		killed <- nil
	}
	ended := make(chan error, r.sessions)
	for id := range r.sessions {
		s := r.session(id)
		r.everyone = append(r.everyone, s)
		go func() { ended <- s.loop(ctx, l) }()
	}
	var err error
	for range r.sessions {
		err = errors.Join(err, <-ended)
	}
	stop()
	return errors.Join(err, <-killed)
}

func (s *session) loop(ctx context.Context, l load) error {
	defer s.drop()
	// A duplicate is an answer, too: of those who want one value all but one get it.
	for s.committed.Load()+s.numbers[duplicateKey].Load() < int64(s.transactions) {
		if err := s.ready(ctx); err != nil {
			return err
		}
		if err := l.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// print shows the result and returns 1 if it is not as promised.
func (r *execution) print(out io.Writer) int {
	rate := float64(r.committed.Load()) / r.elapsed.Seconds()
	fmt.Fprintf(out, "%s, %s: committed %d, aborted %d, unknown %d, %.0f/s", r.mode, r.level.title,
		r.committed.Load(), r.aborted.Load(), r.unknown.Load(), rate)
	for _, number := range []int{deadlock, lockTimeout, definition} {
		if n := r.numbers[number].Load(); n > 0 {
			fmt.Fprintf(out, ", %d × %d", n, number)
		}
	}
	wrong := r.wrong
	if n := r.target.nemesis; n != nil {
		done, quiet := n.report()
		calm := float64(r.calm.Load()) / quiet.Seconds()
		fmt.Fprintf(out, "%s; %.0f/s while nothing was broken (%v)", done, calm, quiet.Round(time.Second))
		if r.mode == "append" && calm < r.least {
			wrong = append(wrong, fmt.Sprintf("%.0f commits per second while nothing was broken; at least %.0f were asked for", calm, r.least))
		}
	} else if r.kill > 0 {
		fmt.Fprintf(out, ", killed %d times so far", r.target.kills)
	}
	fmt.Fprintf(out, "\n  found: %s; checked in %v\n", r.found, r.checked.Round(time.Millisecond))
	for _, text := range r.mu.strange {
		wrong = append(wrong, "error: "+text)
	}
	if r.mode == "append" && r.target.nemesis == nil && rate < r.least {
		wrong = append(wrong, fmt.Sprintf("%.0f commits per second; at least %.0f were asked for", rate, r.least))
	}
	for _, text := range wrong {
		fmt.Fprintf(out, "  WRONG: %s\n", strings.ReplaceAll(text, "\n", "\n    "))
	}
	return min(1, len(wrong))
}

// judged is the verdict of the checker on all that the sessions saw.
func (r *execution) judged(o history.Options) (string, []string) {
	var all []history.Txn
	for _, s := range r.everyone {
		all = append(all, s.txns...)
	}
	o.Examples = r.examples
	report := history.Check(all, o)
	var wrong []string
	for _, name := range report.Against(r.level.model) {
		wrong = append(wrong, fmt.Sprintf("%s, %d times, which %s excludes", name, report.Counts[name], r.level.model.Name))
	}
	for _, a := range report.Examples {
		if r.level.model.Forbids(a.Name) {
			wrong = append(wrong, report.Explain(a))
		}
	}
	shown := func(name string) bool { return report.Counts[name] > 0 }
	if r.mode == "append" && len(r.level.must) > 0 && !slices.ContainsFunc(r.level.must, shown) {
		wrong = append(wrong, fmt.Sprintf("none of %v, which this level has: the load is too gentle", r.level.must))
	}
	return fmt.Sprintf("%s (%d transactions, %d dependencies)", report.Summary(), report.Txns, report.Dependencies), wrong
}

func sorted[V any](m map[int32]V) []int32 { return slices.Sorted(maps.Keys(m)) }
