// Command recovery kills the coordinator of a commit at every step of the
// protocol and shows that the transaction is finished all the same: on all its
// shards or on none, and how soon.
//
//   - gateways: several gateways over one set of shards, in this process, on the
//     real log. One stops at the step and says nothing more, another wants the
//     rows. Time counts from the stop. Without a vote the locks go when the lease
//     of the silent gateway ends, else the waiting gateway finishes what it met.
//   - process: the real server, built with the tag "failpoint", exits at the step
//     in the middle of a COMMIT over the wire and is started again. Time counts
//     from its ready line to the moment at which a client has locked the rows.
//
// The program fails when a transaction is there in part, when the sum of all
// balances changes, when an outcome contradicts what the client was told, or when
// a time is beyond its limit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"github.com/rowlockdb/rowlock/txn"
)

// The limits of issue and documentation.
const (
	resolveLimit = 3 * time.Second // after a vote, or after a restart
	lapseLimit   = 6 * time.Second // of a silent gateway's locks
)

func main() {
	binary := flag.String("binary", "bin/rowlock-failpoint", "server built with the tag failpoint")
	part := flag.String("part", "all", "gateways, process or all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var errs []error
	if *part != "process" {
		errs = append(errs, gateways(ctx))
	}
	if *part != "gateways" {
		errs = append(errs, processes(ctx, *binary))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		os.Exit(1)
	}
}

// place is a step of a commit over some shards at which the coordinator dies.
type place struct {
	shards int
	step   txn.Step
	n      int // how many times the step has been reached
}

func (p place) String() string {
	if p.n == 0 {
		return string(p.step)
	}
	return fmt.Sprintf("%s:%d", p.step, p.n)
}

// answered is the place after the client has its answer and before anything else.
const answered txn.Step = "answered"

// places lists the steps of a commit over one shard and over n.
func places(n int) []place {
	list := []place{
		{1, txn.StepBeforeFloor, 0}, {1, txn.StepAfterFloor, 0}, {1, txn.StepBeforeSend, 0},
		{1, txn.StepOnePC, 0}, {1, txn.StepOnePCVote, 0}, {1, txn.StepBeforeAnswer, 0},
		{n, txn.StepBeforeFloor, 0}, {n, txn.StepAfterFloor, 0}, {n, txn.StepBeforeSend, 0},
	}
	for k := 1; k <= n; k++ {
		list = append(list, place{n, txn.StepPrepare, k})
	}
	for k := 1; k <= n; k++ {
		list = append(list, place{n, txn.StepVote, k})
	}
	list = append(list, place{n, txn.StepBeforeAnswer, 0}, place{n, answered, 0})
	for k := 1; k <= n; k++ {
		list = append(list, place{n, txn.StepResolve, k})
	}
	return list
}

// allVoted tells whether every shard has voted before the place, so that the
// transaction is committed; noneVoted whether none has been asked.
func (p place) allVoted() bool {
	switch p.step {
	case txn.StepOnePCVote, txn.StepBeforeAnswer, answered, txn.StepResolve:
		return true
	case txn.StepVote:
		return p.n == p.shards
	}
	return false
}

func (p place) noneVoted() bool {
	switch p.step {
	case txn.StepBeforeFloor, txn.StepAfterFloor, txn.StepBeforeSend, txn.StepOnePC:
		return true
	case txn.StepPrepare:
		return p.n == 1
	}
	return false
}

// result is what has become of one transaction.
type result struct {
	place
	committed bool
	took      time.Duration
	limit     time.Duration
	err       error
}

// check compares the outcome with what the votes cast make of it.
func (r *result) check() {
	switch {
	case r.err != nil:
	case r.allVoted() && !r.committed:
		r.err = errors.New("all shards had voted, and it is gone")
	case (r.noneVoted() || r.step == txn.StepVote && r.n < r.shards) && r.committed:
		r.err = errors.New("not every shard had voted, and it is there")
	case r.took > r.limit:
		r.err = fmt.Errorf("took %v, at most %v", r.took, r.limit)
	}
}

// report prints a table and returns what was wrong.
func report(title string, results []result) error {
	fmt.Println(title)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "shards\tdied at\toutcome\tresolved after\tlimit\t")
	var errs []error
	var longest time.Duration
	for i := range results {
		r := &results[i]
		r.check()
		outcome := "rolled back everywhere"
		if r.committed {
			outcome = "committed everywhere"
		}
		if r.err != nil {
			outcome = "WRONG: " + r.err.Error()
			errs = append(errs, fmt.Errorf("%s, %d shards, %s: %w", title, r.shards, r.place, r.err))
		}
		longest = max(longest, r.took)
		fmt.Fprintf(table, "%d\t%s\t%s\t%v\t%v\t\n", r.shards, r.place, outcome, r.took.Round(time.Millisecond), r.limit)
	}
	table.Flush()
	fmt.Printf("steps %d, longest %v, wrong %d\n\n", len(results), longest.Round(time.Millisecond), len(errs))
	return errors.Join(errs...)
}
