package sqlfront

import (
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"github.com/rowlockdb/rowlock/sqlfront/reduce"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// A statement that wants a few numbers of very many rows has them made where the rows
// are: the owners of the shards count and add up, all at the same time, and send what
// came of it (package reduce, decision 0072). That is for what can be had exactly as the
// engine has it. Everything else, and every case in which only a scan shows what the
// statement may see, stays with the engine, which then runs the same node.

// pushdowns counts the statements, or parts of them, that owners were asked for.
type pushdowns struct {
	done atomic.Uint64
	left atomic.Uint64 // the engine had to do them after all
}

// Pushdowns returns how many aggregates owners have computed for this server since it
// was opened, and how many it had to compute itself although their form was right.
func (s *Server) Pushdowns() (done, left uint64) {
	return s.pushdowns.done.Load(), s.pushdowns.left.Load()
}

// pushdownVariable turns it off.
const pushdownVariable = "rowlock_pushdown"

// Reduction is what an owner does with rows.
type Reduction interface {
	Add(key, value []byte) error
	Size() int
	Full() bool
	Result(b []byte) []byte
}

// Reduce reads a program that another gateway has sent to this node's shards.
func Reduce(program []byte) (Reduction, error) {
	p, err := reduce.Decode(program)
	if err != nil {
		return nil, err
	}
	return reduce.NewFold(p), nil
}

// RowFilter is what an owner chooses rows by.
type RowFilter interface {
	Row(value []byte) (kept []byte, wanted bool, err error)
}

// Filter reads a filter that another gateway has sent to this node's shards.
func Filter(program []byte) (RowFilter, error) {
	f, err := reduce.DecodeFilter(program)
	if err != nil {
		return nil, err
	}
	return reduce.NewChooser(f), nil
}

// pushdown is a node that owners can answer.
type pushdown struct {
	table   *Table
	program reduce.Program
	// results make the engine's values of a group, one for each of the node's columns.
	results []func(g *reduce.Group) (any, error)
}

// planPushdown returns what owners are to do in place of a node; nil if they cannot.
func planPushdown(ctx *sql.Context, n *plan.GroupBy) *pushdown {
	t, filter := reducible(n.Child)
	if t == nil || !t.mayReduce() || !sessionOf(ctx).flagOr(ctx, pushdownVariable, true) {
		return nil
	}
	b := &programBuilder{ctx: ctx, table: t, info: t.now()}
	p := b.groupBy(n, filter)
	if p == nil || p.program.Valid() != nil {
		return nil
	}
	return p
}

// reducible is the table whose rows reach a node, all of them or those of a condition;
// nil if something else stands between.
func reducible(n sql.Node) (*Table, sql.Expression) {
	var filter sql.Expression
	for {
		switch at := n.(type) {
		case *plan.Filter:
			if filter != nil {
				return nil, nil
			}
			filter, n = at.Expression, at.Child
		case *plan.TableAlias:
			n = at.Child
		case *plan.ResolvedTable:
			return bareTable(at.Table), filter
		default:
			return nil, nil
		}
	}
}

// bareTable is the table of ours under what only watches it.
func bareTable(t sql.Table) *Table {
	switch t := t.(type) {
	case *Table:
		return t
	case *plan.ProcessTable:
		return bareTable(t.Table)
	}
	return nil
}

// mayReduce tells whether a plain scan of the table is what the statement wants of it.
func (t *Table) mayReduce() bool {
	mode := t.read
	mode.tx = nil
	info := t.now()
	return mode == (readMode{}) && !t.bytewise && t.session.ddl == nil && !info.temporary && !info.hasVirtual()
}

// reduce runs a node at the owners; nil leaves it to the engine.
func (b *execBuilder) reduce(ctx *sql.Context, n *plan.GroupBy, row sql.Row) sql.RowIter {
	if b.plain == nil || len(row) > 0 {
		return nil
	}
	p := planPushdown(ctx, n)
	if p == nil {
		return nil
	}
	return &reducedIter{pushdown: p, node: n, engine: b.plain}
}

// reducedIter yields the groups that the owners have found, or what the engine makes of
// the node if it has to be asked after all.
type reducedIter struct {
	pushdown *pushdown
	node     sql.Node
	engine   *execBuilder
	begun    bool
	rows     []sql.Row
	fallback sql.RowIter
}

// Next implements sql.RowIter.
func (i *reducedIter) Next(ctx *sql.Context) (sql.Row, error) {
	if !i.begun {
		i.begun = true
		if err := i.begin(ctx); err != nil {
			return nil, err
		}
	}
	if i.fallback != nil {
		return i.fallback.Next(ctx)
	}
	if len(i.rows) == 0 {
		return nil, io.EOF
	}
	row := i.rows[0]
	i.rows = i.rows[1:]
	return row, nil
}

func (i *reducedIter) begin(ctx *sql.Context) error {
	done := false
	var err error
	session := i.pushdown.table.session
	if i.rows, done, err = i.pushdown.run(ctx); err != nil {
		return session.failed(err)
	}
	if done {
		session.server.pushdowns.done.Add(1)
		return nil
	}
	session.server.pushdowns.left.Add(1)
	i.fallback, err = i.engine.base.Build(ctx, i.node, nil)
	return err
}

// Close implements sql.RowIter.
func (i *reducedIter) Close(ctx *sql.Context) error {
	i.rows = nil
	if i.fallback != nil {
		return i.fallback.Close(ctx)
	}
	return nil
}

// errInexact ends a reduction whose result would depend on the order of the rows.
var errInexact = errors.New("sqlfront: a sum that is rounded")

// run has the owners reduce the table's rows; false if the engine must read them.
func (p *pushdown) run(ctx *sql.Context) (rows []sql.Row, done bool, err error) {
	t := p.table
	info := t.now()
	tx, err := t.transaction(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := t.session.visible(ctx, tx, t.read, info, info.primary); err != nil {
		return nil, false, err
	}
	merge := reduce.NewMerge(&p.program)
	done, err = tx.Reduce(ctx, txn.Reduction{
		Lo: storage.Key(info.primary.start), Hi: keycodec.PrefixEnd(info.primary.start), Where: txn.AllShards,
		Program: p.program.Append(nil),
	}, func(result []byte) error {
		if err := merge.Add(result); err != nil {
			return err
		}
		if !merge.Exact() && !mutated("0072.rounded") {
			return errInexact
		}
		return nil
	})
	switch {
	case err == errInexact:
		return nil, false, nil
	case err != nil || !done:
		return nil, false, err
	}
	groups := merge.Groups()
	rows = make([]sql.Row, len(groups))
	for i := range groups {
		if rows[i], err = p.row(&groups[i]); err != nil {
			return nil, false, err
		}
	}
	return rows, true, nil
}

func (p *pushdown) row(g *reduce.Group) (row sql.Row, err error) {
	row = make(sql.Row, len(p.results))
	for i, result := range p.results {
		if row[i], err = result(g); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// describePushdown shows in a plan what owners will be asked for.
func describePushdown(ctx *sql.Context, n *plan.DescribeQuery) (sql.Node, error) {
	if s := sessionOf(ctx); s.level() == txn.Serializable && !s.implicit(ctx) {
		return nil, nil // its reads lock
	}
	child, same, err := markPushdown(ctx, n.Child)
	if err != nil || same == transform.SameTree {
		return nil, err
	}
	return plan.NewDescribeQuery(ctx, n.Format, child), nil
}

func markPushdown(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
	switch at := n.(type) {
	case *atOwners, *plan.Update, *plan.DeleteFrom: // these get tables that lock (rewriteChange)
		return n, transform.SameTree, nil
	case *plan.GroupBy:
		if planPushdown(ctx, at) != nil {
			return &atOwners{n}, transform.NewTree, nil
		}
	case *plan.Filter:
		if planFilter(ctx, at) != nil {
			return &atOwners{n}, transform.NewTree, nil
		}
	}
	children, changed := slices.Clone(n.Children()), false
	for i, c := range children {
		next, same, err := markPushdown(ctx, c)
		if err != nil {
			return nil, transform.SameTree, err
		}
		children[i], changed = next, changed || same == transform.NewTree
	}
	if !changed {
		return n, transform.SameTree, nil
	}
	next, err := n.WithChildren(ctx, children...)
	return next, transform.NewTree, err
}

// atOwners stands around a node in an EXPLAIN of which owners do all or a part. Run, it is
// the node.
type atOwners struct{ sql.Node }

// Children implements sql.Node.
func (a *atOwners) Children() []sql.Node { return []sql.Node{a.Node} }

// WithChildren implements sql.Node.
func (a *atOwners) WithChildren(_ *sql.Context, children ...sql.Node) (sql.Node, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(a, len(children), 1)
	}
	return &atOwners{children[0]}, nil
}

// Describe implements sql.Describable.
func (a *atOwners) Describe(ctx *sql.Context, options sql.DescribeOptions) string {
	return around(sql.Describe(ctx, a.Node, options))
}

// String implements fmt.Stringer.
func (a *atOwners) String() string { return around(a.Node.String()) }

// DebugString implements sql.DebugStringer.
func (a *atOwners) DebugString(ctx *sql.Context) string { return around(sql.DebugString(ctx, a.Node)) }

func around(text string) string {
	p := sql.NewTreePrinter()
	_ = p.WriteNode("AtOwners")
	_ = p.WriteChildren(text)
	return p.String()
}
