package sqlfront

import (
	"io"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/hash"
	"github.com/dolthub/go-mysql-server/sql/iters"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// collatedRows hashes rows by the collations of their columns. The nil value
// stands for rows whose bytes decide.
type collatedRows struct {
	schema  sql.Schema
	weights []*asciiWeights // of columns that are compared by a collation; nil: of others
}

var _ iters.DistinctHasher = (*collatedRows)(nil)

// newCollatedRows is nil when no column of the nodes needs a collation. Rows of
// several nodes are the two sides of a set operation.
func newCollatedRows(ctx *sql.Context, nodes ...sql.Node) *collatedRows {
	any := false
	width := len(nodes[0].Schema(ctx))
	rows := &collatedRows{schema: make(sql.Schema, width), weights: make([]*asciiWeights, width)}
	for i := range rows.schema {
		rows.schema[i] = &sql.Column{Type: nodes[0].Schema(ctx)[i].Type}
		collation, _, ok := columnCollation(ctx, i, nodes...)
		if ok && folds(collation) {
			rows.schema[i].Type, any = collatedType(collation), true
			rows.weights[i] = weightsOf(collation)
		}
	}
	if !any {
		return nil
	}
	return rows
}

// HashOf implements iters.DistinctHasher. In a correlated subquery the outer
// row stands before the node's own columns.
func (c *collatedRows) HashOf(ctx *sql.Context, row sql.Row) (uint64, error) {
	if outer := len(row) - len(c.schema); outer > 0 {
		row = row[outer:]
	}
	if sum, ok := c.hashText(row); ok {
		return sum, nil
	}
	return hash.HashOf(ctx, c.schema, row)
}

// maxHashRoom is how large a room for hashing is kept for the next row.
const maxHashRoom = 64 << 10

var hashRoom = sync.Pool{New: func() any { return new([]byte) }}

// hashText is hash.HashOf for rows of nothing but NULL and ASCII text; ok is false for
// others. What both hash is the same.
func (c *collatedRows) hashText(row sql.Row) (sum uint64, ok bool) {
	room := hashRoom.Get().(*[]byte)
	b := (*room)[:0]
	defer func() {
		if cap(b) <= maxHashRoom {
			*room = b
			hashRoom.Put(room)
		}
	}()
	for i, v := range row {
		if i > 0 {
			b = append(b, 0)
		}
		if v == nil {
			b = append(b, "<nil>"...)
			continue
		}
		text, ok := v.(string)
		if !ok || i >= len(c.weights) || c.weights[i] == nil {
			return 0, false
		}
		if b, ok = c.weights[i].appendWeights(b, text); !ok {
			return 0, false
		}
	}
	return xxhash.Sum64(b), true
}

// columnCollation is the collation of a column of a node, or of the result of a
// set operation between nodes. ok is false if a side is not text.
func columnCollation(ctx *sql.Context, column int, nodes ...sql.Node) (collation sql.CollationID, strength byte, ok bool) {
	for i, n := range nodes {
		next, nextStrength, ok := sideCollation(ctx, column, n)
		if !ok {
			return sql.Collation_Unspecified, 0, false
		}
		if i == 0 {
			collation, strength = next, nextStrength
			continue
		}
		collation, strength = sql.ResolveCoercibility(collation, strength, next, nextStrength)
	}
	return collation, strength, true
}

// sideCollation looks for the expression that makes the column, because the
// type of what a function returns has lost the collation.
func sideCollation(ctx *sql.Context, column int, n sql.Node) (sql.CollationID, byte, bool) {
	switch n := n.(type) {
	case *plan.Project:
		if column < len(n.Projections) {
			return expressionCollation(ctx, n.Projections[column])
		}
	case *plan.SetOp:
		return columnCollation(ctx, column, n.Left(), n.Right())
	case *plan.Distinct, *plan.OrderedDistinct, *plan.Sort, *plan.TopN, *plan.Limit, *plan.Offset, *plan.Filter,
		*plan.Having, *plan.SubqueryAlias:
		return sideCollation(ctx, column, n.Children()[0])
	}
	schema := n.Schema(ctx)
	if column >= len(schema) || !types.IsTextOnly(schema[column].Type) {
		return sql.Collation_Unspecified, 0, false
	}
	const implicit = 2 // the coercibility of a column's value
	return typeCollation(schema[column].Type), implicit, true
}

// expressionCollation looks through the conversions that a set operation puts
// around columns of different types.
func expressionCollation(ctx *sql.Context, e sql.Expression) (sql.CollationID, byte, bool) {
	for {
		switch outer := e.(type) {
		case *expression.Alias:
			e = outer.Child
			continue
		case *expression.Convert:
			if textOnly(ctx, outer, outer.Child) {
				e = outer.Child
				continue
			}
		}
		break
	}
	if !textOnly(ctx, e) {
		return sql.Collation_Unspecified, 0, false
	}
	collation, strength := sql.GetCoercibility(ctx, e)
	return collation, strength, true
}

// buildDistinct runs SELECT DISTINCT, nil to leave it to the engine.
func (b *execBuilder) buildDistinct(ctx *sql.Context, n *plan.Distinct, row sql.Row) (sql.RowIter, error) {
	if len(n.DistinctOn()) > 0 {
		return nil, nil
	}
	rows := newCollatedRows(ctx, n.Child)
	if rows == nil {
		return nil, nil
	}
	from, err := b.base.Build(ctx, n.Child, row)
	if err != nil {
		return nil, err
	}
	return &distinctIter{from: from, rows: newRowSet(rows)}, nil
}

// collateSetOp returns the node to run in place of a set operation, nil for n.
// A UNION loses its duplicates below; INTERSECT and EXCEPT become a UNION of
// their result with nothing, which keeps the engine's ORDER BY and LIMIT.
func collateSetOp(ctx *sql.Context, n *plan.SetOp) sql.Node {
	if n.SetOpType == plan.UnionType && !n.Distinct {
		return nil
	}
	rows := newCollatedRows(ctx, n.Left(), n.Right())
	if rows == nil {
		return nil
	}
	if n.SetOpType == plan.UnionType {
		set := newRowSet(rows)
		return plan.NewSetOp(plan.UnionType, &distinctNode{n.Left(), set}, &distinctNode{n.Right(), set}, false,
			n.Limit, n.Offset, n.SortConditions)
	}
	result := &setNode{Node: n.Left(), right: n.Right(), rows: rows, both: n.SetOpType == plan.IntersectType, distinct: n.Distinct}
	return plan.NewSetOp(plan.UnionType, result, plan.NewEmptyTableWithSchema(n.Schema(ctx)), false, n.Limit, n.Offset, n.SortConditions)
}

// collateRecursion drops the duplicates of a recursive UNION before the engine
// sees them.
func collateRecursion(ctx *sql.Context, n *plan.RecursiveCte) (sql.Node, error) {
	if _, done := n.Left().(*distinctNode); done || !n.Union().Distinct {
		return nil, nil
	}
	rows := newCollatedRows(ctx, n.Left(), n.Right())
	if rows == nil {
		return nil, nil
	}
	set := newRowSet(rows)
	return n.WithChildren(ctx, &distinctNode{n.Left(), set}, &distinctNode{n.Right(), set})
}

// rowSet remembers rows by their hashes, as the engine's DISTINCT does.
type rowSet struct {
	rows *collatedRows
	seen map[uint64]struct{}
}

func newRowSet(rows *collatedRows) *rowSet {
	return &rowSet{rows: rows, seen: map[uint64]struct{}{}}
}

// add tells whether the row is new.
func (s *rowSet) add(ctx *sql.Context, row sql.Row) (bool, error) {
	key, err := s.rows.HashOf(ctx, row)
	if err != nil {
		return false, err
	}
	_, found := s.seen[key]
	s.seen[key] = struct{}{}
	return !found, nil
}

// distinctNode gives the rows of a node that its set does not have yet. It is
// made when the plan is built and nobody transforms it.
type distinctNode struct {
	sql.Node
	set *rowSet
}

type distinctIter struct {
	from sql.RowIter
	rows *rowSet
}

var _ sql.RowIter = (*distinctIter)(nil)

// Next implements sql.RowIter.
func (i *distinctIter) Next(ctx *sql.Context) (sql.Row, error) {
	for {
		row, err := i.from.Next(ctx)
		if err != nil {
			return nil, err
		}
		fresh, err := i.rows.add(ctx, row)
		if err != nil {
			return nil, err
		}
		if fresh {
			return row, nil
		}
	}
}

// Close implements sql.RowIter.
func (i *distinctIter) Close(ctx *sql.Context) error { return i.from.Close(ctx) }

// setNode is INTERSECT (both) or EXCEPT of its node and right.
type setNode struct {
	sql.Node
	right          sql.Node
	rows           *collatedRows
	both, distinct bool
}

func (b *execBuilder) buildSet(ctx *sql.Context, n *setNode, row sql.Row) (sql.RowIter, error) {
	left, err := b.base.Build(ctx, n.Node, row)
	if err != nil {
		return nil, err
	}
	right, err := b.base.Build(ctx, n.right, row)
	if err != nil {
		left.Close(ctx)
		return nil, err
	}
	if n.distinct {
		left = &distinctIter{from: left, rows: newRowSet(n.rows)}
	}
	return &setIter{left: left, right: right, node: n}, nil
}

// setIter reads all of the right side first. With ALL a row of the right side
// stands for one row of the left (MySQL 8.0 Reference Manual, "INTERSECT
// Clause", "EXCEPT Clause").
type setIter struct {
	left, right sql.RowIter
	node        *setNode
	counts      map[uint64]int
}

var _ sql.RowIter = (*setIter)(nil)

// Next implements sql.RowIter.
func (i *setIter) Next(ctx *sql.Context) (sql.Row, error) {
	if err := i.readRight(ctx); err != nil {
		return nil, err
	}
	for {
		row, err := i.left.Next(ctx)
		if err != nil {
			return nil, err
		}
		key, err := i.node.rows.HashOf(ctx, row)
		if err != nil {
			return nil, err
		}
		found := i.counts[key] > 0
		if found && !i.node.distinct {
			i.counts[key]--
		}
		if found == i.node.both {
			return row, nil
		}
	}
}

func (i *setIter) readRight(ctx *sql.Context) error {
	if i.counts != nil {
		return nil
	}
	counts := map[uint64]int{}
	for {
		row, err := i.right.Next(ctx)
		if err == io.EOF {
			i.counts = counts
			return nil
		}
		if err != nil {
			return err
		}
		key, err := i.node.rows.HashOf(ctx, row)
		if err != nil {
			return err
		}
		counts[key]++
	}
}

// Close implements sql.RowIter.
func (i *setIter) Close(ctx *sql.Context) error {
	err := i.left.Close(ctx)
	if rightErr := i.right.Close(ctx); err == nil {
		err = rightErr
	}
	return err
}
