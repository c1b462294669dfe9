package history

import "fmt"

// cycle reports a cycle.
func (r *Report) cycle(edges []edge) {
	a := Anomaly{Name: name(edges)}
	for _, e := range edges {
		a.Txns = append(a.Txns, int(e.from))
		if e.kind&(processEdge|realtimeEdge) == 0 {
			a.Keys = append(a.Keys, e.key)
		}
		a.Lines = append(a.Lines, r.why(e))
	}
	r.add(a)
}

// why says in words what an edge stands for.
func (r *Report) why(e edge) string {
	head := fmt.Sprintf("T%d before T%d: ", e.from, e.to)
	version := fmt.Sprint(e.before)
	if e.before == 0 {
		version = "the initial state"
	}
	switch e.kind {
	case wwEdge:
		return head + fmt.Sprintf("T%d wrote %d to key %d after T%d's %s (ww)", e.to, e.after, e.key, e.from, version)
	case wrEdge:
		return head + fmt.Sprintf("T%d read key %d with T%d's %s (wr)", e.to, e.key, e.from, version)
	case rwEdge:
		return head + fmt.Sprintf("T%d read key %d at %s, without T%d's %d, which came next (rw)", e.from, e.key, version, e.to, e.after)
	case processEdge:
		return head + fmt.Sprintf("T%d followed in the same session (process)", e.to)
	default:
		return head + fmt.Sprintf("T%d was acknowledged at %d, T%d began at %d (realtime)", e.from, r.history[e.from].End, e.to, r.history[e.to].Begin)
	}
}
