package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// boundRead is a read by primary key in one version of the schema.
type boundRead struct {
	version uint64 // of the snapshot in which table is what the statement names
	schema  string
	table   string
	info    *tableInfo
	// schemaLock is the name of the database's metadata lock.
	schemaLock string
	verb       fastpath.Verb
	mode       readMode // how rows are read, as the table says
	ours       bool     // the others are left to the engine
	misses     int      // how often the engine's plan was none that can be used again

	key    []fastpath.Operand // of the primary key's columns, in its order
	types  []sql.Type         // of the same
	text   bool               // some of them are text
	result []sql.Type         // of the result columns
	rows   *codec.Projection  // of the result columns
	fields []*querypb.Field   // as the engine said; nil: it was not asked yet

	insert *fastInsert // of an INSERT
	tree   *fastTree   // of a statement that is executed from the engine's plan
	change *fastChange // of an UPDATE or DELETE that needs it for few rows; nil: for all
	locked *fastLocked // of a locking read that does not need it; nil: it does
	ranged *fastRanged // of a plain read that does not need it for short ranges; nil: it does
}

// bind finds what a statement means in a snapshot.
func (s *Session) bind(plan *fastPlan, database string) *boundRead {
	snapshot := s.catalog.snapshot.Load()
	bound := plan.bound.Load()
	if bound != nil && (bound.version == snapshot.Version || mutated("0070.old-table") && bound.fields != nil) {
		return bound
	}
	next := &boundRead{version: snapshot.Version, verb: plan.statement.Verb, mode: lockOf(plan.statement)}
	defer func() { plan.bound.Store(next) }()
	n := plan.statement
	if n.Database != "" {
		database = n.Database
	}
	schema := snapshot.Schema(database)
	if schema == nil {
		return next
	}
	desc := schema.Table(n.Table)
	if desc == nil || schema.HasView(n.Table) {
		return next
	}
	info, err := s.catalog.info(schema, desc)
	if err != nil {
		return next
	}
	if bound != nil && bound.ours && bound.info == info && bound.schema == schema.Name {
		same := *bound
		same.version = snapshot.Version
		if same.ours = same.allowed(snapshot) || mutated("0070.triggers"); same.ours {
			next = &same
		}
		return next
	}
	next.schema, next.table, next.info, next.schemaLock = schema.Name, n.Table, info, schemaLock(schema.Name)
	if n.Rows > 0 {
		next.ours = !info.keyless() && next.allowed(snapshot)
	} else if n.Planned {
		next.ours = next.ranges(n) && next.allowed(snapshot) && (!next.locks() || n.Where[0].In == nil && n.Where[0].Value == n.Where[0].To)
	} else {
		next.ours = next.columns(n) && next.where(n)
	}
	return next
}

// lockOf is how the table of a statement is read.
func lockOf(n *fastpath.Statement) readMode {
	switch n.Lock {
	case fastpath.ShareLock:
		return lockMode(wire.LockMarker{Strength: wire.LockShared})
	case fastpath.UpdateLock:
		return lockMode(wire.LockMarker{Strength: wire.LockExclusive})
	}
	return readMode{}
}

// locks tells whether the statement locks the rows that it reads.
func (b *boundRead) locks() bool { return b.verb != fastpath.Select || b.mode.lock != txn.LockNone }

// columns prepares the result. Virtual and hidden columns are the engine's.
func (b *boundRead) columns(n *fastpath.Statement) bool {
	var positions []int
	for i, c := range b.info.schema {
		if c.Virtual || c.Hidden || c.HiddenSystem {
			return false
		}
		if n.Columns == nil {
			positions = append(positions, i)
		}
	}
	for _, name := range n.Columns {
		i := b.info.desc.Column(name)
		if i < 0 {
			return false
		}
		positions = append(positions, i)
	}
	stored := make([]int, len(positions))
	for i, p := range positions {
		b.result = append(b.result, b.info.schema[p].Type)
		stored[i] = b.info.position[p]
	}
	var err error
	b.rows, err = b.info.rows.NewProjection(stored)
	return err == nil
}

// where tells whether the conditions are the whole primary key and nothing else.
func (b *boundRead) where(n *fastpath.Statement) bool {
	x := b.info.primary
	if b.info.keyless() || x.prefix != nil || b.info.placement != nil || len(n.Where) != len(x.columns) {
		return false
	}
	for _, i := range x.columns {
		typ := b.info.schema[i].Type
		if !wholeColumn(typ) && !textColumn(typ) {
			return false
		}
		b.text = b.text || textColumn(typ)
		found := false
		for _, c := range n.Where {
			if b.info.desc.Column(c.Column) == i {
				b.key, b.types, found = append(b.key, c.Value), append(b.types, typ), true
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// ranges tells whether the condition is a range of the primary key, which is one
// column.
func (b *boundRead) ranges(n *fastpath.Statement) bool {
	x := b.info.primary
	return !b.info.keyless() && x.prefix == nil && b.info.placement == nil && !b.info.hasVirtual() && len(x.columns) == 1 && len(n.Where) == 1 &&
		wholeColumn(b.info.schema[x.columns[0]].Type) && b.info.desc.Column(n.Where[0].Column) == x.columns[0]
}

// keyOf appends the key of the row that an execution asks for.
func (b *boundRead) keyOf(key []byte, values []fastpath.Value) ([]byte, bool) {
	key = append(key, b.info.primary.start...)
	for i, o := range b.key {
		v, ok := keyValue(b.types[i], o.Of(values))
		if !ok {
			return nil, false
		}
		var err error
		if key, err = b.info.primary.key.AppendColumn(nil, key, i, v); err != nil {
			return nil, false
		}
	}
	return key, true
}

// maxMisses is how many executions of the engine may be of no use before a statement
// is left to it until the schema changes: a wide range makes it scan the table, and the
// next one may be narrow.
const maxMisses = 8

// missed is bound after an execution that was of no use.
func (b *boundRead) missed() *boundRead {
	next := *b
	next.misses++
	next.ours = next.misses < maxMisses
	return &next
}

// taught is bound with what the engine said of its result, nil if that does not fit.
func (b *boundRead) taught(ctx *sql.Context, fields []*querypb.Field) *boundRead {
	if len(fields) != len(b.result) {
		return nil
	}
	for i, f := range fields {
		if f.Type != b.result[i].Type() || f.ColumnLength != b.result[i].MaxTextResponseByteLength(ctx) {
			return nil
		}
	}
	next := *b
	next.fields = fields
	return &next
}
