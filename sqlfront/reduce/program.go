package reduce

import (
	"errors"
	"slices"
)

// ErrFormat says that a program or a result is not one that this release understands.
var ErrFormat = errors.New("reduce: unknown format")

// Bounds of a program. A condition is evaluated by recursion.
const (
	maxColumns = 4096
	maxDepth   = 64
	maxNodes   = 16 << 10
)

// Kind is what a column's stored value stands for.
type Kind uint8

// The kinds.
const (
	Any      Kind = iota // nothing but NULL or not: any form
	Signed               // a zigzag integer
	Unsigned             // an integer
	Time                 // a point in time, as package codec packs it
	kinds
)

// Column is a column that a program looks at.
type Column struct {
	ID   uint32
	Kind Kind
	// Default is what a row without the column has, as codec.Column has it; nil is NULL.
	Default []byte
}

// Op is an aggregate.
type Op uint8

// The aggregates. Sum also counts what it adds.
const (
	CountRows Op = iota
	Count
	Sum
	Min
	Max
	ops
)

// Aggregate is one aggregate of a column, by its place in Program.Columns; that of
// CountRows is 0.
type Aggregate struct {
	Op     Op
	Column int
}

// Program says what is made of rows.
type Program struct {
	Columns    []Column   // ascending by id
	Where      *Condition // nil: all rows
	Groups     []int      // places in Columns; without any, all rows are one group
	Aggregates []Aggregate
}

// Valid reports whether the program is one that a Fold can run.
func (p *Program) Valid() error {
	if len(p.Columns) > maxColumns || len(p.Groups) > maxColumns || len(p.Aggregates) > maxColumns {
		return ErrFormat
	}
	last := uint32(0)
	for _, c := range p.Columns {
		if c.ID <= last || c.Kind >= kinds || !validDefault(c) {
			return ErrFormat
		}
		last = c.ID
	}
	for _, g := range p.Groups {
		if !p.has(g) || p.Columns[g].Kind == Any {
			return ErrFormat
		}
	}
	for _, a := range p.Aggregates {
		if !p.runs(a) {
			return ErrFormat
		}
	}
	nodes := 0
	if p.Where != nil && !p.Where.valid(p, &nodes, 0) {
		return ErrFormat
	}
	return nil
}

func (p *Program) has(column int) bool { return column >= 0 && column < len(p.Columns) }

func (p *Program) runs(a Aggregate) bool {
	switch a.Op {
	case CountRows:
		return a.Column == 0
	case Count:
		return p.has(a.Column)
	case Sum:
		return p.has(a.Column) && (p.Columns[a.Column].Kind == Signed || p.Columns[a.Column].Kind == Unsigned)
	case Min, Max:
		return p.has(a.Column) && p.Columns[a.Column].Kind != Any
	}
	return false
}

// Append appends the encoding of a valid program.
func (p *Program) Append(b []byte) []byte {
	b = appendUint(append(b, format), uint64(len(p.Columns)))
	for _, c := range p.Columns {
		b = append(appendUint(b, uint64(c.ID)), byte(c.Kind))
		b = appendBytes(b, c.Default)
	}
	b = appendPlaces(b, p.Groups)
	b = appendUint(b, uint64(len(p.Aggregates)))
	for _, a := range p.Aggregates {
		b = appendUint(append(b, byte(a.Op)), uint64(a.Column))
	}
	if p.Where == nil {
		return append(b, 0)
	}
	return p.Where.append(append(b, 1))
}

func appendPlaces(b []byte, places []int) []byte {
	b = appendUint(b, uint64(len(places)))
	for _, p := range places {
		b = appendUint(b, uint64(p))
	}
	return b
}

// Decode reads what Append wrote.
func Decode(b []byte) (*Program, error) {
	d := decoder{b: b}
	p := d.program()
	if err := d.done(); err != nil {
		return nil, err
	}
	return p, p.Valid()
}

func (d *decoder) program() *Program {
	p := &Program{}
	if d.byte() != format {
		d.fail()
		return p
	}
	d.each(maxColumns, func() {
		c := Column{ID: uint32(d.small(1<<32 - 1)), Kind: Kind(d.byte())}
		if v := d.bytes(); len(v) > 0 {
			c.Default = slices.Clone(v)
		}
		p.Columns = append(p.Columns, c)
	})
	p.Groups = d.places()
	d.each(maxColumns, func() {
		p.Aggregates = append(p.Aggregates, Aggregate{Op: Op(d.byte()), Column: d.small(maxColumns)})
	})
	switch d.byte() {
	case 0:
	case 1:
		nodes := 0
		p.Where = d.condition(&nodes, 0)
	default:
		d.fail()
	}
	return p
}

func (d *decoder) places() (places []int) {
	d.each(maxColumns, func() { places = append(places, d.small(maxColumns)) })
	return places
}
