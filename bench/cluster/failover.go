package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// What issue 4 asks of a failover and of a restart.
const (
	failoverP99 = 3 * time.Second
	failoverMax = 6 * time.Second
	restartMax  = 15 * time.Second
)

// failover kills the node that owns most, and each fourth time one of the nodes in turn, and
// measures how long until each of its shards takes a write again.
func (p *program) failover(ctx context.Context) error {
	probes, err := newProbes(ctx, p.cluster, p.shards)
	if err != nil {
		return err
	}
	probes.start(ctx)
	defer probes.stop()
	var times []time.Duration
	var wrong []error
	rounds := cmp.Or(p.rounds, 50)
	for round := range rounds {
		owners, err := p.owners(ctx)
		if err != nil {
			return err
		}
		victim := p.busiest(owners)
		if round%4 == 3 {
			victim = p.cluster.Nodes[round/4%len(p.cluster.Nodes)]
		}
		owned, others := split(owners, victim.ID)
		probes.spare(victim.ID)
		if err := sleep(ctx, 500*time.Millisecond); err != nil { // what is under way there ends
			return err
		}
		at := time.Now()
		if err := victim.Kill(); err != nil {
			return err
		}
		took, err := probes.awaitAll(ctx, owned, at, 30*time.Second)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("kill %d of node %d: %w", round+1, victim.ID, err))
		}
		failed := 0
		if others, err = p.unmoved(ctx, others, owners); err != nil {
			return err
		}
		for _, s := range others {
			for _, err := range probes.failures(s, at) {
				failed++
				wrong = append(wrong, fmt.Errorf("kill %d of node %d: shard %d, which it did not own: %w", round+1, victim.ID, s, err))
			}
		}
		round := slices.Collect(maps.Values(took))
		times = append(times, round...)
		p.logf("kill of node %d: %d shards back after %v at most; %d errors elsewhere", victim.ID, len(owned), longest(round), failed)
		if err := p.mend(ctx, victim); err != nil {
			return err
		}
		probes.spare(0)
	}
	slices.Sort(times)
	if len(times) == 0 {
		return errors.New("no node owned anything")
	}
	p99, worst := times[len(times)*99/100], times[len(times)-1]
	fmt.Fprintf(p.out, "kills %d, shards that changed hands %d: first write after %v (median), %v (99 %%), %v (longest); errors on other shards %d\n",
		rounds, len(times), round10(times[len(times)/2]), round10(p99), round10(worst), len(wrong))
	if p.times && (p99 > failoverP99 || worst > failoverMax) {
		wrong = append(wrong, fmt.Errorf("99 %% %v, longest %v; at most %v and %v were promised", p99, worst, failoverP99, failoverMax))
	}
	return firstOf(wrong)
}

// busiest is the node that owns most data shards.
func (p *program) busiest(owners map[int]int) *process.Node {
	return slices.MaxFunc(p.cluster.Nodes, func(a, b *process.Node) int {
		first, _ := split(owners, a.ID)
		second, _ := split(owners, b.ID)
		return cmp.Compare(len(first), len(second))
	})
}

// mend starts a node again and waits until it owns something, or one node owns all, or gives
// up on that soon: owners spread, or come together, by and by.
func (p *program) mend(ctx context.Context, n *process.Node) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < 15*time.Second; {
		if owners, err := p.owners(ctx); err == nil {
			all, _ := split(owners, p.busiest(owners).ID)
			if owned, _ := split(owners, n.ID); len(all) == p.shards || len(owned) >= p.shards/(2*len(p.cluster.Nodes)) {
				return nil
			}
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) owners(ctx context.Context) (map[int]int, error) {
	db, err := p.cluster.Any(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return process.Owners(ctx, db)
}

// unmoved leaves out the shards that have another owner now: they were being
// handed over when the node died.
func (p *program) unmoved(ctx context.Context, shards []int, before map[int]int) ([]int, error) {
	now, err := p.owners(ctx)
	return slices.DeleteFunc(shards, func(s int) bool { return now[s] != before[s] }), err
}

// split tells the data shards of a node from the others.
func split(owners map[int]int, node int) (owned, others []int) {
	for shard, owner := range owners {
		switch {
		case shard == 0:
		case owner == node:
			owned = append(owned, shard)
		default:
			others = append(others, shard)
		}
	}
	return owned, others
}

// restart kills all nodes at once under load, again and again.
func (p *program) restart(ctx context.Context) error {
	probes, err := newProbes(ctx, p.cluster, p.shards)
	if err != nil {
		return err
	}
	probes.start(ctx)
	defer probes.stop()
	all := slices.Collect(maps.Keys(probes.rows))
	var times []time.Duration
	rounds := cmp.Or(p.rounds, 20)
	for round := range rounds {
		l := p.bank.start(ctx, p.sessions)
		err := sleep(ctx, p.warm/2)
		var heal func(context.Context) error
		if err == nil {
			heal, err = killThese(slices.Clone(p.cluster.Nodes))
		}
		at := time.Now()
		if err == nil {
			err = heal(ctx)
		}
		var took map[int]time.Duration
		if err == nil {
			took, err = probes.awaitAll(ctx, all, at, time.Minute)
		}
		l.stop()
		if err == nil {
			resume := probes.pause() // replicas are compared where they stand still
			err = p.check(ctx)
			resume()
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		worst := longest(slices.Collect(maps.Values(took)))
		times = append(times, worst)
		p.logf("round %d: all shards take writes after %v", round+1, round10(worst))
		if strange := l.errors.strange(); len(strange) > 0 {
			return fmt.Errorf("round %d: errors that clients are not told about: %q", round+1, strange)
		}
	}
	slices.Sort(times)
	fmt.Fprintf(p.out, "rounds %d: all shards take writes after %v (median), %v (longest); acknowledged writes %d, lost 0\n",
		rounds, round10(times[len(times)/2]), round10(longest(times)), p.bank.acknowledged())
	if p.times && longest(times) > restartMax {
		return fmt.Errorf("%v; at most %v was promised", longest(times), restartMax)
	}
	return nil
}

func longest(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return slices.Max(times)
}

func round10(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// firstOf joins at most a handful of errors, and counts the rest.
func firstOf(errs []error) error {
	const most = 5
	if len(errs) > most {
		return errors.Join(append(slices.Clone(errs[:most]), fmt.Errorf("and %d more", len(errs)-most))...)
	}
	return errors.Join(errs...)
}
