package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Anomaly is one finding.
type Anomaly struct {
	Name  string
	Txns  []int    // positions in the history; of a cycle in its order
	Keys  []int32  // that it is about
	Lines []string // why: for a cycle one line an edge
}

// Report is what a check found.
type Report struct {
	Txns         int // that count: committed, or unknown and seen
	Dependencies int
	Counts       map[string]int
	Examples     []Anomaly // some of each name

	history []Txn
	limit   int
}

func (r *Report) add(a Anomaly) {
	r.Counts[a.Name]++
	if r.Counts[a.Name] <= r.limit {
		r.Examples = append(r.Examples, a)
	}
}

func (r *Report) found(name string, key int32, because string, txns ...int32) {
	a := Anomaly{Name: name, Keys: []int32{key}, Lines: []string{because}}
	for _, t := range txns {
		a.Txns = append(a.Txns, int(t))
	}
	r.add(a)
}

// Names lists the anomalies found.
func (r *Report) Names() []string { return slices.Sorted(maps.Keys(r.Counts)) }

// Against lists the anomalies found that a model excludes.
func (r *Report) Against(m Model) []string {
	return slices.DeleteFunc(r.Names(), func(name string) bool { return !m.Forbids(name) })
}

// Summary names the anomalies with their numbers. Of cycles it is the number
// that was looked up, not of all that there are.
func (r *Report) Summary() string {
	if len(r.Counts) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range r.Names() {
		parts = append(parts, fmt.Sprintf("%s %d", name, r.Counts[name]))
	}
	return strings.Join(parts, ", ")
}

// Explain shows an example: its transactions, then why they are one.
func (r *Report) Explain(a Anomaly) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", a.Name)
	shown := map[int]bool{}
	for _, t := range a.Txns {
		if !shown[t] {
			fmt.Fprintf(&b, "  T%d: %s\n", t, r.history[t].about(a.Keys))
			shown[t] = true
		}
	}
	for _, line := range a.Lines {
		fmt.Fprintf(&b, "  - %s\n", line)
	}
	return b.String()
}
