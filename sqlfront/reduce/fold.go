package reduce

import (
	"encoding/binary"
	"math"
)

// exactSum bounds the sum of the terms without their signs up to which floats add
// integers without rounding, in whatever order.
const exactSum = 1 << 53

// State is what an aggregate has come to.
type State struct {
	N      int64  // rows counted, or values taken
	Sum    int64  // of Sum, if it is exact
	Size   uint64 // of Sum: of the terms without their signs, not above exactSum + 1
	Stored uint64 // of Min and Max: the stored form, if N is not 0
}

// Fold runs a program over rows. It belongs to one goroutine.
type Fold struct {
	program *Program
	where   *Condition // of the program, ready; nil: all rows
	reader  reader
	single  bool // grouped by one column
	nothing bool // no column is looked at

	groups  []group
	byOne   map[uint64]int32
	null    int32 // the group of NULL, if grouped by one column; -1: none
	byMany  map[string]int32
	key     []byte // scratch
	size    int
	inexact bool
}

// group is a group of rows.
type group struct {
	first  []byte // smallest key
	values []field
	states []State
}

// NewFold returns a fold over no rows yet.
func NewFold(p *Program) *Fold {
	f := &Fold{program: p, reader: newReader(p.Columns), single: len(p.Groups) == 1, null: -1}
	f.nothing = len(p.Columns) == 0
	if p.Where != nil {
		where := p.Where.ready()
		f.where = &where
	}
	switch {
	case len(p.Groups) == 0:
		f.groups = []group{{states: make([]State, len(p.Aggregates))}}
	case f.single:
		f.byOne = map[uint64]int32{}
	default:
		f.byMany = map[string]int32{}
	}
	return f
}

// Add takes the next row; the slices may change afterwards. Keys ascend.
func (f *Fold) Add(key, value []byte) error {
	if !f.nothing {
		if err := f.reader.read(value); err != nil {
			return err
		}
	}
	p := f.program
	if f.where != nil && f.where.holds(p.Columns, f.reader.row) != yes {
		return nil
	}
	f.add(&f.groups[f.find(key)])
	return nil
}

// Counts reports that rows are only counted, so that all are alike.
func (f *Fold) Counts() bool {
	for _, a := range f.program.Aggregates {
		if a.Op != CountRows {
			return false
		}
	}
	return f.nothing && f.where == nil && len(f.program.Groups) == 0
}

// AddRows is Add for n rows that are counted.
func (f *Fold) AddRows(n int) {
	for i := range f.program.Aggregates {
		f.groups[0].states[i].N += int64(n)
	}
}

// find returns the row's group.
func (f *Fold) find(key []byte) int32 {
	switch {
	case f.byMany != nil:
		f.key = f.key[:0]
		for _, g := range f.program.Groups {
			f.key = appendField(f.key, f.reader.row[g])
		}
		if i, ok := f.byMany[string(f.key)]; ok {
			return i
		}
		f.byMany[string(f.key)] = int32(len(f.groups))
	case f.single:
		v := f.reader.row[f.program.Groups[0]]
		if v.null {
			if f.null >= 0 {
				return f.null
			}
			f.null = int32(len(f.groups))
			break
		}
		if i, ok := f.byOne[v.stored]; ok {
			return i
		}
		f.byOne[v.stored] = int32(len(f.groups))
	default:
		return 0
	}
	g := group{first: append([]byte(nil), key...), states: make([]State, len(f.program.Aggregates))}
	for _, c := range f.program.Groups {
		g.values = append(g.values, f.reader.row[c])
	}
	f.groups = append(f.groups, g)
	f.size += len(key) + 11*len(g.values) + 24*len(g.states) + 8
	return int32(len(f.groups) - 1)
}

func (f *Fold) add(g *group) {
	for i, a := range f.program.Aggregates {
		s := &g.states[i]
		if a.Op == CountRows {
			s.N++
			continue
		}
		v := f.reader.row[a.Column]
		if v.null {
			continue
		}
		s.take(a.Op, f.program.Columns[a.Column].Kind, v.stored)
		if a.Op == Sum && s.Size > exactSum {
			f.inexact = true
		}
	}
}

func (s *State) take(op Op, kind Kind, stored uint64) {
	s.N++
	switch op {
	case Sum:
		v, size := int64(stored), stored
		if kind == Signed {
			v = signed(stored)
			size = uint64(max(v, -v)) // the smallest integer stays as it is: 2^63
		}
		s.add(v, size)
	case Min:
		if s.N == 1 || Ordinal(kind, stored) < Ordinal(kind, s.Stored) {
			s.Stored = stored
		}
	case Max:
		if s.N == 1 || Ordinal(kind, stored) > Ordinal(kind, s.Stored) {
			s.Stored = stored
		}
	}
}

// add adds terms whose sizes come to size. Sum means nothing once Size is too large.
func (s *State) add(sum int64, size uint64) {
	s.Sum += sum
	s.Size = min(s.Size+min(size, exactSum+1), exactSum+1)
}

// Size is about how many bytes the result has.
func (f *Fold) Size() int { return f.size }

// Full reports that no row can change what the result is good for: it is not exact.
func (f *Fold) Full() bool { return f.inexact }

// Result appends what the rows came to: a byte of format, one that tells whether all is
// exact, and the groups, each with its first key, the values that make it and the states
// of the aggregates.
func (f *Fold) Result(b []byte) []byte {
	b = append(b, format)
	if f.inexact {
		return append(b, 1)
	}
	b = appendUint(append(b, 0), uint64(len(f.groups)))
	for i := range f.groups {
		g := &f.groups[i]
		b = appendBytes(b, g.first)
		for _, v := range g.values {
			b = appendField(b, v)
		}
		for j, s := range g.states {
			b = s.append(b, f.program.Aggregates[j].Op)
		}
	}
	return b
}

func (s *State) append(b []byte, op Op) []byte {
	b = appendUint(b, uint64(s.N))
	switch op {
	case Sum:
		b = appendUint(appendUint(b, StoredSigned(s.Sum)), s.Size)
	case Min, Max:
		b = appendUint(b, s.Stored)
	}
	return b
}

func (d *decoder) state(op Op) State {
	s := State{N: int64(d.small(math.MaxInt64))}
	switch op {
	case Sum:
		s.Sum, s.Size = signed(d.uint()), d.uint()
		if s.Size > exactSum || s.Sum > exactSum || s.Sum < -exactSum {
			d.fail()
		}
	case Min, Max:
		s.Stored = d.uint()
	}
	return s
}

// appendField appends a value so that different values are different bytes.
func appendField(b []byte, v field) []byte {
	if v.null {
		return append(b, 0)
	}
	return binary.AppendUvarint(append(b, 1), v.stored)
}

func (d *decoder) field() field {
	switch d.byte() {
	case 0:
		return field{null: true}
	case 1:
		return field{stored: d.uint()}
	}
	d.fail()
	return field{}
}
