package reduce

import (
	"bytes"
	"slices"
)

// Value is a column's value; Stored is the stored form of its kind.
type Value struct {
	Null   bool
	Stored uint64
}

// Group is a group of the merged result.
type Group struct {
	First  []byte  // the smallest key among its rows
	Values []Value // of the columns in Program.Groups
	States []State // of Program.Aggregates
}

// Merge puts the results of parts together, each part once, in any order. It belongs to
// one goroutine.
type Merge struct {
	program *Program
	groups  map[string]*Group
	inexact bool
}

// NewMerge returns the result of no rows.
func NewMerge(p *Program) *Merge { return &Merge{program: p, groups: map[string]*Group{}} }

// Add takes the result of a part.
func (m *Merge) Add(result []byte) error {
	d := decoder{b: result}
	if d.byte() != format {
		return ErrFormat
	}
	switch d.byte() {
	case 0:
	case 1:
		m.inexact = true
		return d.done()
	default:
		return ErrFormat
	}
	d.each(len(d.b), func() {
		first := d.bytes()
		at := d.b
		var values []Value
		for range m.program.Groups {
			v := d.field()
			values = append(values, Value{v.null, v.stored})
		}
		if d.bad {
			return
		}
		g := m.group(at[:len(at)-len(d.b)], first, values)
		for i, a := range m.program.Aggregates {
			m.merge(&g.States[i], a, d.state(a.Op))
		}
	})
	return d.done()
}

func (m *Merge) group(name, first []byte, values []Value) *Group {
	g := m.groups[string(name)]
	if g == nil {
		g = &Group{First: slices.Clone(first), Values: values, States: make([]State, len(m.program.Aggregates))}
		m.groups[string(name)] = g
	} else if bytes.Compare(first, g.First) < 0 {
		g.First = append(g.First[:0], first...)
	}
	return g
}

func (m *Merge) merge(to *State, a Aggregate, s State) {
	if s.N == 0 {
		return
	}
	switch a.Op {
	case Sum:
		to.add(s.Sum, s.Size)
		m.inexact = m.inexact || to.Size > exactSum
	case Min, Max:
		kind := m.program.Columns[a.Column].Kind
		less := Ordinal(kind, s.Stored) < Ordinal(kind, to.Stored)
		if to.N == 0 || less == (a.Op == Min) {
			to.Stored = s.Stored
		}
	}
	to.N += s.N
}

// Exact reports whether the result is what adding one row after the other gives,
// whatever their order.
func (m *Merge) Exact() bool { return !m.inexact }

// Groups returns the groups in the order of their first keys; without GROUP BY there is
// one, of no rows perhaps.
func (m *Merge) Groups() []Group {
	if len(m.program.Groups) == 0 && len(m.groups) == 0 {
		return []Group{{States: make([]State, len(m.program.Aggregates))}}
	}
	out := make([]Group, 0, len(m.groups))
	for _, g := range m.groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int { return bytes.Compare(a.First, b.First) })
	return out
}
