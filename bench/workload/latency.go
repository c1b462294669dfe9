package workload

import (
	"slices"
	"time"
)

// Latency says how long transactions took: half of them at most P50.
type Latency struct {
	P50, P95, P99 time.Duration
}

// count is how many transactions took so long.
type count struct {
	took time.Duration
	n    int
}

// latencyOf takes counts in ascending order.
func latencyOf(counts []count) (l Latency) {
	total := 0
	for _, c := range counts {
		total += c.n
	}
	for _, want := range []struct {
		to   *time.Duration
		part int
	}{{&l.P50, 50}, {&l.P95, 95}, {&l.P99, 99}} {
		seen := 0
		for _, c := range counts {
			if seen += c.n; seen*100 >= total*want.part {
				*want.to = c.took
				break
			}
		}
	}
	return l
}

// LatencyOf takes single times in any order.
func LatencyOf(times []time.Duration) Latency {
	counts := make([]count, len(times))
	for i, took := range slices.Sorted(slices.Values(times)) {
		counts[i] = count{took, 1}
	}
	return latencyOf(counts)
}
