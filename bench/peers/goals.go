package main

import "fmt"

// goal is what Rowlock must reach beside a peer; zero asks nothing.
type goal struct {
	rate float64 // at least so many times the peer's
	cpu  float64 // at most so many times the peer's
}

func (g goal) String() string {
	switch {
	case g.rate > 0 && g.cpu > 0:
		return fmt.Sprintf("≥%.1f, ≤%.1f", g.rate, g.cpu)
	case g.rate > 0:
		return fmt.Sprintf("≥%.1f", g.rate)
	default:
		return ""
	}
}

// goals of version 1.0 by peer and workload.
var goals = map[string]map[string]goal{
	"mariadb": {
		"point_select":      {1.5, 0.5},
		"point_select_text": {1.5, 0.5},
		"read_only":         {0.8, 1.1},
		"update_non_index":  {0.8, 1.2},
		"delete":            {0.8, 1.2},
		"insert":            {0.8, 1.2},
		"update_index":      {0.5, 0},
		"write_only":        {0.7, 0},
		"read_write":        {0.7, 0},
		"bank":              {0.8, 0},
		"load_data":         {0.5, 0},
	},
	"galera": {
		"read_write":       {1, 1},
		"write_only":       {1, 1},
		"update_index":     {1, 1},
		"update_non_index": {1, 1},
		"insert":           {1, 1},
		"delete":           {1, 1},
		"bank":             {1, 1},
	},
	"memory engine": {
		"scan_count": {1, 0},
		"scan_sum":   {1, 0},
	},
}

const (
	// manyGoal is the rate with many sessions beside that with 32.
	manyGoal = 0.8
	manyBase = 32
	// idleGoal is what 1,000 idle connections may cost, in bytes.
	idleGoal = 200 << 20
)

// goalOf is asked for the numbers of sessions that the goals speak of.
func goalOf(peer, name string, threads int) goal {
	if threads > manyBase {
		return goal{}
	}
	return goals[peer][name]
}

// verdict says whether a ratio is enough; unknown processor time is no excuse and
// no fault.
func (g goal) verdict(rate, cpu float64) string {
	switch {
	case g == goal{}:
		return ""
	case rate < g.rate, g.cpu > 0 && cpu > g.cpu:
		return "short"
	default:
		return "met"
	}
}
