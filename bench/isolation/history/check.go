package history

import (
	"cmp"
	"slices"
)

// Options say what may be assumed about registers, beyond what every history
// shows, and how much is kept of what is found.
type Options struct {
	// SequentialKeys: every register passes through its versions in an order that
	// agrees with that of each session.
	SequentialKeys bool
	// LinearizableKeys: with that of time.
	LinearizableKeys bool
	// Examples bounds the examples of one anomaly; 0 = 3.
	Examples int
}

// checker is one check under way.
type checker struct {
	txns    []Txn
	options Options
	counts  []bool // by transaction: it happened
	edges   []edge
	report  *Report
}

// Check judges a history. The order of the transactions does not matter.
func Check(txns []Txn, o Options) *Report {
	if o.Examples == 0 {
		o.Examples = 3
	}
	c := &checker{
		txns:    txns,
		options: o,
		counts:  make([]bool, len(txns)),
		report:  &Report{Counts: map[string]int{}, history: txns, limit: o.Examples},
	}
	for i := range txns {
		c.counts[i] = txns[i].Outcome == Committed
	}
	lists, registers := indexLists(c), indexRegisters(c)
	// What an unknown transaction saw tells of others, once it is known to have
	// happened; in one more round only, which is the safe side.
	lists.observe()
	registers.observe()
	lists.judge()
	registers.judge()
	c.processEdges()
	c.realtimeEdges()
	for _, happened := range c.counts {
		if happened {
			c.report.Txns++
		}
	}
	c.report.Dependencies = len(c.edges)
	newSearch(len(txns), c.edges, c.report).run()
	return c.report
}

// processEdges join each committed transaction with the next of its session.
func (c *checker) processEdges() {
	last := map[int]int32{}
	for _, t := range c.byBegin() {
		if before, ok := last[c.txns[t].Process]; ok {
			c.edges = append(c.edges, edge{from: before, to: t, kind: processEdge})
		}
		if c.txns[t].Outcome == Committed {
			last[c.txns[t].Process] = t
		}
	}
}

func (c *checker) byBegin() []int32 {
	var order []int32
	for t, happened := range c.counts {
		if happened {
			order = append(order, int32(t))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(c.txns[a].Begin, c.txns[b].Begin) })
	return order
}

// realtimeEdges join transactions with those that began after their end, except
// where a third one between implies it: the frontier holds the ended
// transactions of which no other one began later and has ended. It is never
// longer than the number of sessions.
func (c *checker) realtimeEdges() {
	starts := c.byBegin()
	ends := slices.DeleteFunc(slices.Clone(starts), func(t int32) bool { return c.txns[t].Outcome != Committed })
	slices.SortFunc(ends, func(a, b int32) int { return cmp.Compare(c.txns[a].End, c.txns[b].End) })
	var frontier []int32
	for _, t := range starts {
		for len(ends) > 0 && c.txns[ends[0]].End < c.txns[t].Begin {
			ended := ends[0]
			ends = ends[1:]
			frontier = slices.DeleteFunc(frontier, func(f int32) bool { return c.txns[f].End < c.txns[ended].Begin })
			frontier = append(frontier, ended)
		}
		for _, f := range frontier {
			c.edges = append(c.edges, edge{from: f, to: t, kind: realtimeEdge})
		}
	}
}
