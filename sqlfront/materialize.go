package sqlfront

import (
	"io"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// A statement must not see its own writes (the Halloween problem). One cursor
// does not: it shows the transaction's writes as of its opening. A join or a
// subquery opens cursors again and again while the statement writes; then all
// of its input is read before the first write.

// materialized is a node whose rows are read to the end at the first Next.
type materialized struct{ sql.Node }

// Children implements sql.Node: what looks for nodes below finds the inner one.
func (m *materialized) Children() []sql.Node { return []sql.Node{m.Node} }

// WithChildren implements sql.Node.
func (m *materialized) WithChildren(_ *sql.Context, children ...sql.Node) (sql.Node, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(m, len(children), 1)
	}
	return &materialized{children[0]}, nil
}

// rescans tells whether running n may open a table more than once.
func rescans(ctx *sql.Context, n sql.Node) bool {
	if _, done := n.(*materialized); done {
		return false
	}
	found := false
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		switch n.(type) {
		case *plan.JoinNode, *plan.SetOp, *plan.SubqueryAlias, *plan.RecursiveCte:
			found = true
		}
		return !found
	})
	if found {
		return true
	}
	transform.InspectExpressions(ctx, n, func(_ *sql.Context, e sql.Expression) bool {
		if _, ok := e.(*plan.Subquery); ok {
			found = true
		}
		return !found
	})
	return found
}

// reads tells whether n reads the table.
func reads(ctx *sql.Context, n sql.Node, id *tableInfo) bool {
	found := false
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		var t sql.Table
		switch n := n.(type) {
		case *plan.ResolvedTable:
			t = n.Table
		case *plan.IndexedTableAccess:
			t = n.Table
		}
		if own := ownTable(t); own != nil && own.info.desc.ID == id.desc.ID {
			found = true
		}
		return !found
	})
	return found
}

// ownTable is the Table under the engine's wrappers, nil if it is not ours.
func ownTable(t sql.Table) *Table {
	switch t := t.(type) {
	case *Table:
		return t
	case *IndexedTable:
		return t.Table
	case sql.TableWrapper:
		return ownTable(t.Underlying())
	}
	return nil
}

// materializedIter reads all of from, then hands it out.
type materializedIter struct {
	from   sql.RowIter
	rows   []sql.Row
	loaded bool
}

// Next implements sql.RowIter.
func (m *materializedIter) Next(ctx *sql.Context) (sql.Row, error) {
	if !m.loaded {
		if err := m.load(ctx); err != nil {
			return nil, err
		}
	}
	if len(m.rows) == 0 {
		return nil, io.EOF
	}
	row := m.rows[0]
	m.rows = m.rows[1:]
	return row, nil
}

func (m *materializedIter) load(ctx *sql.Context) error {
	for {
		row, err := m.from.Next(ctx)
		if isEOF(err) {
			m.loaded = true
			return nil
		}
		if err != nil {
			return err
		}
		m.rows = append(m.rows, row.Copy())
	}
}

// Close implements sql.RowIter.
func (m *materializedIter) Close(ctx *sql.Context) error { return m.from.Close(ctx) }
