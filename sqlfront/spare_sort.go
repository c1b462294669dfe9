package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/txn"
)

// spareSort takes the sort out of ORDER BY ... LIMIT over a locking read whose
// index has the order already: its first columns are fixed by the conditions and
// the next ones are those sorted by. The engine sees that only where the sort
// names the index's columns from the first one on. A sort reads everything, and
// what a locking read reads it locks: every consumer of a queue (WHERE done = 0
// ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) would lock the whole queue.
func spareSort(ctx *sql.Context, n *plan.TopN) (sql.Node, error) {
	if n.CalcFoundRows {
		return nil, nil
	}
	access := singleLookup(n.Child)
	if access == nil || !access.IsStatic() {
		return nil, nil
	}
	table, known := access.UnderlyingTable().(*IndexedTable)
	if !known || table.read.lock == txn.LockNone || table.read.change {
		return nil, nil
	}
	lookup, ok, err := access.GetLookup(ctx, nil)
	if err != nil || !ok || lookup.IsReverse || lookup.IsEmptyRange {
		return nil, err
	}
	index, isOurs := lookup.Index.(*Index)
	ranges, isRange := lookup.Ranges.(sql.MySQLRangeCollection)
	if !isOurs || !isRange || len(ranges) != 1 || index.index.prefix != nil {
		return nil, nil
	}
	scan := &rowScan{info: table.now(), index: table.now().byName(index.index.name)}
	if scan.index == nil || scan.index.key == nil {
		return nil, nil
	}
	spans, _, err := scan.keySpans(ctx, ranges)
	if err != nil || len(spans) != 1 {
		return nil, err
	}
	columns, fixed := index.extended(), spans[0].Equal
	if fixed+len(n.SortConditions) > len(columns) {
		return nil, nil
	}
	for i, c := range n.SortConditions {
		field, plain := c.Expr.(*expression.GetField)
		column := table.now().schema[columns[fixed+i]]
		if !plain || c.Order != sql.Ascending || field.Name() != column.Name || !types.IsInteger(column.Type) {
			return nil, nil
		}
	}
	return plan.NewLimit(n.Limit, n.Child), nil
}

// singleLookup is the index lookup under nothing but conditions, nil if there is
// something else.
func singleLookup(n sql.Node) *plan.IndexedTableAccess {
	for {
		switch at := n.(type) {
		case *plan.IndexedTableAccess:
			return at
		case *plan.Filter:
			n = at.Child
		case *plan.TableAlias:
			n = at.Child
		default:
			return nil
		}
	}
}
