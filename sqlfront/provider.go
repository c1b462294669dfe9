package sqlfront

import (
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// Provider gives the engine its databases and replaces some of its functions.
type Provider struct {
	server    *Server
	functions map[string]sql.Function
	// procedures are those of the database rowlock, by name in lower case.
	procedures map[string]procedure
	system     *systemDatabase
	views      []*systemDatabase // performance_schema and sys
}

var (
	_ sql.CollatedDatabaseProvider = (*Provider)(nil)
	_ sql.FunctionProvider         = (*Provider)(nil)
)

func newProvider(s *Server) *Provider {
	p := &Provider{server: s, functions: map[string]sql.Function{}, procedures: map[string]procedure{}, system: newSystemDatabase(s)}
	p.views = newViewDatabases(s)
	for _, f := range append(wire.Functions(), advisoryFunctions()...) {
		p.functions[strings.ToLower(f.FunctionName())] = f
	}
	for _, f := range append(s.clusterProcedures(), s.schemaProcedures()...) {
		p.procedures[f.name] = f
	}
	return p
}

// errNoDatabase is made once: the engine asks for databases that do not exist
// on every statement, and the error captures a stack.
var errNoDatabase = map[string]error{"mysql": sql.ErrDatabaseNotFound.New("mysql")}

func (p *Provider) snapshot(ctx *sql.Context) *catalog.Snapshot {
	if ctx != nil {
		if s, ok := ctx.Session.(interface{ snapshot() *catalog.Snapshot }); ok {
			return s.snapshot()
		}
	}
	return p.server.catalog.snapshot.Load()
}

// Database implements sql.DatabaseProvider.
func (p *Provider) Database(ctx *sql.Context, name string) (sql.Database, error) {
	if schema := p.snapshot(ctx).Schema(name); schema != nil {
		return &Database{provider: p, name: schema.Name}, nil
	}
	if strings.EqualFold(name, systemDatabaseName) {
		return p.system, nil
	}
	for _, d := range p.views {
		if strings.EqualFold(name, d.name) {
			return d, nil
		}
	}
	if err, ok := errNoDatabase[name]; ok {
		return nil, err
	}
	return nil, sql.ErrDatabaseNotFound.New(name)
}

// HasDatabase implements sql.DatabaseProvider.
func (p *Provider) HasDatabase(ctx *sql.Context, name string) bool {
	return p.snapshot(ctx).Schema(name) != nil || p.builtIn(name)
}

// builtIn tells whether a database is made of views.
func (p *Provider) builtIn(name string) bool {
	return strings.EqualFold(name, systemDatabaseName) ||
		slices.ContainsFunc(p.views, func(d *systemDatabase) bool { return strings.EqualFold(name, d.name) })
}

// AllDatabases implements sql.DatabaseProvider.
func (p *Provider) AllDatabases(ctx *sql.Context) []sql.Database {
	var out []sql.Database
	for _, schema := range p.snapshot(ctx).Schemas() {
		out = append(out, &Database{provider: p, name: schema.Name})
	}
	if !p.server.config.hideSystem {
		out = append(out, p.system)
		for _, d := range p.views {
			out = append(out, d)
		}
	}
	return out
}

// CreateDatabase implements sql.MutableDatabaseProvider.
func (p *Provider) CreateDatabase(ctx *sql.Context, name string) error {
	return p.CreateCollatedDatabase(ctx, name, p.server.collation)
}

// CreateCollatedDatabase implements sql.CollatedDatabaseProvider.
func (p *Provider) CreateCollatedDatabase(ctx *sql.Context, name string, collation sql.CollationID) error {
	s := sessionOf(ctx)
	d, err := s.change(ctx)
	if err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(name), true); err != nil {
		return err
	}
	if s.catalog.snapshot.Load().Schema(name) != nil || p.builtIn(name) {
		return sql.ErrDatabaseExists.New(name)
	}
	if collation == sql.Collation_Unspecified {
		collation = p.server.collation
	}
	id, err := s.catalog.newID(ctx)
	if err != nil {
		return err
	}
	d.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: catalog.KindDatabase, Database: strings.ToLower(name),
		Value: &catalog.Database{ID: id, Name: name, Collation: uint16(collation)},
	})
	return nil
}

// DropDatabase implements sql.MutableDatabaseProvider.
func (p *Provider) DropDatabase(ctx *sql.Context, name string) error {
	s := sessionOf(ctx)
	d, err := s.change(ctx)
	if err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(name), true); err != nil {
		return err
	}
	if err := s.fenceDatabase(ctx, d, name); err != nil {
		return err
	}
	base := s.catalog.snapshot.Load()
	schema := base.Schema(name)
	if schema == nil {
		return sql.ErrDatabaseNotFound.New(name)
	}
	lower := strings.ToLower(name)
	drop := func(kind catalog.Kind, object string) {
		d.changes = append(d.changes, catalog.Change{Kind: kind, Database: lower, Name: object})
	}
	for object, desc := range schema.Tables {
		drop(catalog.KindTable, object)
		d.garbage = append(d.garbage, dataOf(desc)...)
		d.auto[desc.ID] = 0
	}
	for object := range schema.Views {
		drop(catalog.KindView, object)
	}
	for object := range schema.Triggers {
		drop(catalog.KindTrigger, object)
	}
	for object := range schema.Procedures {
		drop(catalog.KindProcedure, object)
	}
	for object := range schema.Events {
		drop(catalog.KindEvent, object)
	}
	d.set(base, catalog.Change{Kind: catalog.KindDatabase, Database: lower})
	return nil
}

// Function implements sql.FunctionProvider. These go before the built-in ones.
func (p *Provider) Function(_ *sql.Context, _, name string) (sql.Function, bool) {
	f, ok := p.functions[strings.ToLower(name)]
	return f, ok
}
