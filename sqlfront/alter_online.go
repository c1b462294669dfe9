package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// alterOnline runs a statement that adds or drops one plain index as a job beside
// the statements of others. It returns nil when the engine has to do it, under the
// table's exclusive lock: indexes of expressions, several changes in one statement,
// temporary tables, under LOCK TABLES, and whatever is refused.
func alterOnline(ctx *sql.Context, n *plan.AlterIndex) (sql.RowIter, error) {
	s := sessionOf(ctx)
	resolved, ok := n.Table.(*plan.ResolvedTable)
	if !ok || s.ddl != nil || s.locked.active || s.readOnly() || !s.oneChange(ctx) {
		return nil, nil
	}
	t := ownTable(resolved.Table)
	if t == nil || t.info.temporary {
		return nil, nil
	}
	j := jobRecord{Kind: jobAddIndex, Statement: ctx.Query(), Database: t.info.database, Table: t.Name(),
		TableID: t.info.desc.ID, Index: n.IndexName, State: jobRunning, Gateway: s.catalog.follower.id}
	var edit func(*catalog.Table) error
	switch {
	case n.Action == plan.IndexAction_Create && t.mayAddOnline(n):
		if j.Index == "" {
			j.Index = freeIndexName(t.info.desc, n.Columns[0].Name)
		}
		edit = s.addIndex(ctx, n, j.Index)
	case n.Action == plan.IndexAction_Drop && t.mayDropOnline(ctx, n.IndexName):
		j.Kind, j.Undo = jobDropIndex, true
		edit = func(desc *catalog.Table) error {
			i := desc.Index(j.Index)
			if i < 0 || desc.Indexes[i].State != catalog.IndexPublic {
				return sql.ErrIndexNotFound.New(j.Index)
			}
			desc.Indexes[i].State = catalog.IndexWriteOnly
			return nil
		}
	default:
		return nil, nil
	}
	var err error
	if j.Total, err = s.catalog.stats.rows(ctx, s, t.info); err != nil {
		return nil, err
	}
	if err := s.commitOpen(ctx); err != nil {
		return nil, err
	}
	if err := s.lockMode(ctx, globalLock, catalog.SharedWrite); err != nil {
		return nil, err
	}
	defer s.catalog.locks.Release(&s.holder, globalLock)
	if err := s.runJob(ctx, j, edit); err != nil {
		return nil, err
	}
	return sql.RowsToRowIter(sql.NewRow(types.NewOkResult(0))), nil
}

// oneChange tells whether the statement changes one thing.
func (s *Session) oneChange(ctx *sql.Context) bool {
	switch stmt := s.parsed(ctx).(type) {
	case *sqlparser.AlterTable:
		return len(stmt.Statements) == 1
	case *sqlparser.DDL:
		return true
	}
	return false
}

func (t *Table) mayAddOnline(n *plan.AlterIndex) bool {
	if n.Constraint != sql.IndexConstraint_None && n.Constraint != sql.IndexConstraint_Unique {
		return false
	}
	desc := t.info.desc
	if n.Predicate != nil || len(n.Columns) == 0 || desc.Index(n.IndexName) >= 0 || strings.EqualFold(n.IndexName, "PRIMARY") {
		return false
	}
	for _, c := range n.Columns {
		if c.Expression != nil || desc.Column(c.Name) < 0 {
			return false
		}
	}
	columns, err := columnIDs(desc, n.Columns)
	return err == nil && !slices.ContainsFunc(desc.Indexes, func(x catalog.Index) bool { return slices.Equal(x.Columns, columns) })
}

// mayDropOnline leaves indexes that a foreign key may need to the engine.
func (t *Table) mayDropOnline(ctx *sql.Context, name string) bool {
	desc := t.info.desc
	i := desc.Index(name)
	if i < 0 || desc.Indexes[i].State != catalog.IndexPublic || len(desc.ForeignKeys) > 0 {
		return false
	}
	for _, c := range desc.Indexes[i].Columns {
		if column := desc.Columns[desc.ColumnByID(c.Column)]; column.HiddenSystem {
			return false
		}
	}
	return len(t.session.snapshot().References(t.info.database, desc.Name)) == 0
}

// freeIndexName names an index as MySQL does: its first column, then _2 and so on.
func freeIndexName(desc *catalog.Table, column string) string {
	name := column
	for i := 2; desc.Index(name) >= 0 || strings.EqualFold(name, "PRIMARY"); i++ {
		name = fmt.Sprintf("%s_%d", column, i)
	}
	return name
}

// addIndex puts the new index into a descriptor, in its first state.
func (s *Session) addIndex(ctx *sql.Context, n *plan.AlterIndex, name string) func(*catalog.Table) error {
	return func(desc *catalog.Table) error {
		if desc.Index(name) >= 0 {
			return sql.ErrDuplicateKey.New(name)
		}
		columns, err := columnIDs(desc, n.Columns)
		if err != nil {
			return err
		}
		id, err := s.catalog.newID(ctx)
		if err != nil {
			return err
		}
		desc.Indexes = append(desc.Indexes, catalog.Index{ID: id, Name: name, Columns: columns, Comment: n.Comment,
			Unique: n.Constraint == sql.IndexConstraint_Unique, State: catalog.IndexDeleteOnly})
		_, err = compileTable("", desc) // refuses types without an order
		return err
	}
}

// runJob starts a job and waits for its end.
func (s *Session) runJob(ctx *sql.Context, j jobRecord, edit func(*catalog.Table) error) error {
	var err error
	if j.ID, err = s.catalog.newID(ctx); err != nil {
		return err
	}
	j.Started = time.Now()
	for {
		if err := s.catalog.follower.refresh(ctx); err != nil {
			return numbered(err)
		}
		run := indexJob{catalog: s.catalog, record: j}
		_, desc := run.table()
		if desc == nil {
			return sql.ErrTableNotFound.New(j.Table)
		}
		next := desc.Clone()
		next.Version++
		if err := edit(next); err != nil {
			return err
		}
		if started, err := s.catalog.startJob(ctx, j, next); err != nil {
			return numbered(err)
		} else if started {
			break
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	s.server.jobs.wake()
	return s.finished(s.server.awaitJob(ctx, j.ID))
}

// finished is the answer of a statement whose job is over.
func (s *Session) finished(j jobRecord, err error) error {
	switch {
	case err != nil:
		return err
	case j.State == jobDone:
		return nil
	case j.Duplicate:
		return sql.NewUniqueKeyErr(j.Error, false, nil)
	case j.State == jobCancelled:
		return context.Canceled // as KILL QUERY
	}
	return errors.New(j.Error)
}
