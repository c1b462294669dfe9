package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// spread is how far a node's number of replicas may be from the ideal one.
const spread = 0.1

// growLimit bounds one change of the cluster.
const growLimit = 5 * time.Minute

// grow adds two nodes under load and removes them again, unless there was only one; in
// the middle of the moves a node is killed.
func (p *program) grow(ctx context.Context) error {
	l := p.bank.start(ctx, p.sessions)
	defer l.stop()
	first := len(p.cluster.Nodes)
	begun := time.Now()
	for range 2 {
		if _, err := p.cluster.Add(ctx); err != nil {
			return err
		}
	}
	victim := p.cluster.Nodes[p.random.IntN(first)]
	p.logf("kill -9 of node %d in the middle of the moves", victim.ID)
	if err := errors.Join(victim.Kill(), victim.Start(ctx)); err != nil {
		return err
	}
	uneven := p.settle(ctx, p.cluster.Nodes)
	fmt.Fprintf(p.out, "from %d to %d nodes: %v\n", first, len(p.cluster.Nodes), time.Since(begun).Round(time.Second))
	if first > 1 { // else the replicas of all nodes are compared
		uneven = errors.Join(uneven, p.shrink(ctx, first))
	}
	l.stop()
	fmt.Fprintf(p.out, "errors of clients: %s\n", l.errors)
	if strange := l.errors.strange(); len(strange) > 0 {
		return fmt.Errorf("errors that clients are not told about: %q", strange)
	}
	return errors.Join(uneven, p.check(ctx))
}

// shrink removes all nodes but the first ones.
func (p *program) shrink(ctx context.Context, first int) error {
	begun := time.Now()
	for _, n := range p.cluster.Nodes[first:] {
		if _, err := p.cluster.Tool(ctx, "node", "remove", n.Name()); err != nil {
			return err
		}
	}
	err := p.settle(ctx, p.cluster.Nodes[:first])
	fmt.Fprintf(p.out, "and back: %v\n", time.Since(begun).Round(time.Second))
	return err
}

// settle waits until the replicas lie on these nodes alone, evenly, and prints
// where they are.
func (p *program) settle(ctx context.Context, nodes []*process.Node) error {
	var err error
	for begun := time.Now(); time.Since(begun) < growLimit; {
		var line string
		if line, err = p.even(ctx, nodes); err == nil {
			fmt.Fprintf(p.out, "replicas and owners by node: %s\n", line)
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("after %v: %w", growLimit, err)
}

// even describes the spread, and says what is not even about it.
func (p *program) even(ctx context.Context, nodes []*process.Node) (string, error) {
	db, err := p.cluster.Any(ctx)
	if err != nil {
		return "", err
	}
	defer db.Close()
	all, err := process.Replicas(ctx, db)
	if err != nil {
		return "", err
	}
	replicas, owned, line := map[int]int{}, map[int]int{}, ""
	for _, r := range all {
		replicas[r.Node]++
		if r.Owner {
			owned[r.Node]++
		}
	}
	want := min(3, len(nodes)) * (p.shards + 1) // who is alone has one replica of each
	ideal := float64(want) / float64(len(nodes))
	here := 0
	for _, n := range nodes {
		line += fmt.Sprintf(" %d: %d, %d;", n.ID, replicas[n.ID], owned[n.ID])
		here += replicas[n.ID]
		// A replica cannot be divided.
		if math.Abs(float64(replicas[n.ID])-ideal) > max(1, spread*ideal) {
			err = fmt.Errorf("node %d has %d replicas, ideal are %.1f", n.ID, replicas[n.ID], ideal)
		}
	}
	if here != want || len(all) != here {
		err = fmt.Errorf("%d replicas on these nodes, %d in all, not %d", here, len(all), want)
	}
	return line, err
}
