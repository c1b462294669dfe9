package reduce

import "slices"

// shortList is how many values of a list are compared one by one.
const shortList = 8

// Test is what a node of a condition does.
type Test uint8

// The tests. And and Or have any number of arguments, Not has one.
const (
	And Test = iota
	Or
	Not
	IsNull
	Less    // column < value
	Greater // column > value
	In      // column = one of the values
	Never   // false, or NULL if the column is NULL
	tests
)

// Condition is a condition on a row, with SQL's three truth values. A row satisfies it
// if it is true.
type Condition struct {
	Test   Test
	Args   []Condition
	Column int
	// Values are stored forms of the column's kind (see Ordinal): one, or those of In.
	Values []uint64
	// OrNull: In has NULL among its values, so that it is never false.
	OrNull bool
}

// truth is true, false or NULL.
type truth int8

const (
	no truth = iota
	yes
	unknown
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (c *Condition) valid(p *Program, nodes *int, depth int) bool {
	if *nodes += 1 + len(c.Values); *nodes > maxNodes || depth > maxDepth || c.Test >= tests {
		return false
	}
	switch c.Test {
	case And, Or, Not:
		if len(c.Values) > 0 || c.Column != 0 || c.OrNull || c.Test == Not && len(c.Args) != 1 {
			return false
		}
		for i := range c.Args {
			if !c.Args[i].valid(p, nodes, depth+1) {
				return false
			}
		}
		return true
	}
	if len(c.Args) > 0 || !p.has(c.Column) || c.OrNull && c.Test != In {
		return false
	}
	switch c.Test {
	case Less, Greater:
		return len(c.Values) == 1 && p.Columns[c.Column].Kind != Any
	case In:
		return p.Columns[c.Column].Kind != Any
	}
	return len(c.Values) == 0
}

// holds evaluates a valid condition that was made ready.
func (c *Condition) holds(columns []Column, row []field) truth {
	switch c.Test {
	case And:
		result := yes
		for i := range c.Args {
			switch c.Args[i].holds(columns, row) {
			case no:
				return no
			case unknown:
				result = unknown
			}
		}
		return result
	case Or:
		result := no
		for i := range c.Args {
			switch c.Args[i].holds(columns, row) {
			case yes:
				return yes
			case unknown:
				result = unknown
			}
		}
		return result
	case Not:
		switch c.Args[0].holds(columns, row) {
		case yes:
			return no
		case no:
			return yes
		}
		return unknown
	case IsNull:
		return truthOf(row[c.Column].null)
	}
	if row[c.Column].null {
		return unknown
	}
	return c.compare(columns[c.Column].Kind, row[c.Column].stored)
}

// compare is what holds of a column that is not NULL.
func (c *Condition) compare(kind Kind, stored uint64) truth {
	switch c.Test {
	case Less:
		return truthOf(Ordinal(kind, stored) < Ordinal(kind, c.Values[0]))
	case Greater:
		return truthOf(Ordinal(kind, stored) > Ordinal(kind, c.Values[0]))
	case In:
		if c.has(stored) {
			return yes
		}
		if c.OrNull {
			return unknown
		}
	}
	return no
}

// has looks a value up, in a condition that was made ready.
func (c *Condition) has(stored uint64) bool {
	if len(c.Values) <= shortList {
		return slices.Contains(c.Values, stored)
	}
	_, ok := slices.BinarySearch(c.Values, stored)
	return ok
}

// ready is the condition with the values of long lists in order.
func (c *Condition) ready() Condition {
	next := *c
	if c.Test == In && len(c.Values) > shortList {
		next.Values = slices.Clone(c.Values)
		slices.Sort(next.Values)
	}
	next.Args = make([]Condition, len(c.Args))
	for i := range c.Args {
		next.Args[i] = c.Args[i].ready()
	}
	return next
}

func (c *Condition) append(b []byte) []byte {
	b = append(b, byte(c.Test))
	switch c.Test {
	case And, Or, Not:
		b = appendUint(b, uint64(len(c.Args)))
		for i := range c.Args {
			b = c.Args[i].append(b)
		}
		return b
	}
	b = appendUint(b, uint64(c.Column))
	b = appendUint(b, uint64(len(c.Values)))
	for _, v := range c.Values {
		b = appendUint(b, v)
	}
	if c.OrNull {
		return append(b, 1)
	}
	return append(b, 0)
}

func (d *decoder) condition(nodes *int, depth int) *Condition {
	c := &Condition{Test: Test(d.byte())}
	if *nodes++; *nodes > maxNodes || depth > maxDepth {
		d.fail()
		return c
	}
	switch c.Test {
	case And, Or, Not:
		d.each(maxNodes, func() { c.Args = append(c.Args, *d.condition(nodes, depth+1)) })
		return c
	}
	c.Column = d.small(maxColumns)
	d.each(len(d.b), func() { c.Values = append(c.Values, d.uint()) })
	switch d.byte() {
	case 0:
	case 1:
		c.OrNull = true
	default:
		d.fail()
	}
	return c
}
