package main

import (
	"fmt"
	"slices"
	"time"
)

// line is a line of the table: the medians of a trial on one server, and how the
// first server stands beside it.
type line struct {
	place
	unit      string
	rounds    int
	rate      float64
	low, high float64 // the rates of the worst and the best round
	p50       time.Duration
	p95       time.Duration
	p99       time.Duration
	cpu       float64 // microseconds a unit
	memory    int64
	growth    int64
	deadlocks float64 // a round
	others    float64
	failed    string

	// What the first server makes of this one's; zero on its own lines, and where a
	// figure is not known.
	rateRatio, cpuRatio float64
	goal                string
	verdict             string // met, short, or empty where nothing is asked
}

// median of some figures, the mean of the two in the middle if their number is even.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// lineOf takes the median of each figure by itself.
func lineOf(at place, unit string, f *figures) line {
	of := func(figure func(sample) float64) float64 {
		var all []float64
		for _, s := range f.samples {
			all = append(all, figure(s))
		}
		return median(all)
	}
	l := line{place: at, unit: unit, rounds: len(f.samples)}
	l.rate = of(func(s sample) float64 { return s.rate })
	l.p50 = time.Duration(of(func(s sample) float64 { return float64(s.latency.P50) }))
	l.p95 = time.Duration(of(func(s sample) float64 { return float64(s.latency.P95) }))
	l.p99 = time.Duration(of(func(s sample) float64 { return float64(s.latency.P99) }))
	l.cpu = of(func(s sample) float64 { return s.cpu })
	l.memory = int64(of(func(s sample) float64 { return float64(s.memory) }))
	l.growth = int64(of(func(s sample) float64 { return float64(s.growth) }))
	l.deadlocks = of(func(s sample) float64 { return float64(s.deadlocks) })
	l.others = of(func(s sample) float64 { return s.others })
	for i, s := range f.samples {
		if i == 0 || s.rate < l.low {
			l.low = s.rate
		}
		l.high = max(l.high, s.rate)
	}
	if f.failed != nil {
		l.failed = f.failed.Error()
	}
	return l
}

// lines are those of the whole table, the servers of each trial together.
func (c *course) lines() []line {
	var all []line
	for _, t := range c.trials {
		var first *line
		for i, s := range c.servers {
			f := c.figures[place{t.name, t.threads, s.name}]
			if f == nil {
				continue
			}
			l := lineOf(place{t.name, t.threads, s.name}, t.unit, f)
			if first != nil {
				l.compare(*first)
			}
			all = append(all, l)
			if i == 0 {
				first = &l
			}
		}
	}
	for i := range all {
		if all[i].server == c.servers[0].name {
			all[i].judgeAlone(all, c.settings)
		}
	}
	return all
}

// compare sets the first server beside this one.
func (l *line) compare(first line) {
	g := goalOf(l.server, l.name, l.threads)
	l.goal = g.String()
	if l.rounds == 0 {
		return
	}
	if first.rounds == 0 {
		if l.goal != "" {
			l.verdict = "short"
		}
		return
	}
	if l.rate > 0 {
		l.rateRatio = first.rate / l.rate
		l.verdict = g.verdict(l.rateRatio, ratio(first.cpu, l.cpu))
	}
	l.cpuRatio = ratio(first.cpu, l.cpu)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// judgeAlone judges what is asked of the first server without a peer: the rate
// with many sessions, and the memory of idle ones.
func (l *line) judgeAlone(all []line, s settings) {
	switch {
	case l.rounds == 0:
	case l.name == idleName:
		limit := int64(idleGoal) * int64(s.idle) / 1000
		l.goal = fmt.Sprintf("<%d MiB", limit>>20)
		if l.verdict = "met"; l.growth >= limit {
			l.verdict = "short"
		}
	case l.threads == s.many && l.threads > manyBase:
		base := slices.IndexFunc(all, func(o line) bool { return o.place == place{l.name, manyBase, l.server} && o.rounds > 0 })
		if base < 0 {
			return
		}
		part := l.rate / all[base].rate
		l.goal = fmt.Sprintf("≥%.1f of %d: %.2f", manyGoal, manyBase, part)
		if l.verdict = "met"; part < manyGoal {
			l.verdict = "short"
		}
	}
}
