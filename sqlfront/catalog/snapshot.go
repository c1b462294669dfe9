package catalog

import (
	"maps"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
)

// Snapshot is the whole catalog at one version. It is immutable: readers need
// no lock and may keep it for as long as they like.
type Snapshot struct {
	Version uint64
	schemas map[string]*Schema // by lower-case name
}

// Schema is a database with everything in it. All maps go by lower-case name.
type Schema struct {
	Database
	Tables     map[string]*Table
	Views      map[string]*sql.ViewDefinition
	Triggers   map[string]*Trigger
	Procedures map[string]*sql.StoredProcedureDetails
	Events     map[string]*sql.EventDefinition
}

// Trigger is a stored trigger. Seq orders triggers by creation, which is the
// order MySQL fires them in.
type Trigger struct {
	sql.TriggerDefinition
	Seq ID `json:"seq"`
}

// NewSnapshot returns an empty catalog.
func NewSnapshot() *Snapshot { return &Snapshot{schemas: map[string]*Schema{}} }

// Schema finds a database by name, in any case; nil if there is none.
func (s *Snapshot) Schema(name string) *Schema {
	if schema, ok := s.schemas[name]; ok {
		return schema
	}
	return s.schemas[strings.ToLower(name)]
}

// Schemas returns all databases ordered by name.
func (s *Snapshot) Schemas() []*Schema {
	return slices.SortedFunc(maps.Values(s.schemas), func(a, b *Schema) int { return strings.Compare(a.Name, b.Name) })
}

// Table finds a table by name, in any case; nil if there is none.
func (s *Schema) Table(name string) *Table {
	if t, ok := s.Tables[name]; ok {
		return t
	}
	return s.Tables[strings.ToLower(name)]
}

// HasView tells whether there is a view of that name, in any case.
func (s *Schema) HasView(name string) bool { return s.Views[strings.ToLower(name)] != nil }

// References returns the constraints of all tables whose parent is this table.
func (s *Snapshot) References(database, table string) []sql.ForeignKeyConstraint {
	var out []sql.ForeignKeyConstraint
	for _, schema := range s.Schemas() {
		for _, name := range slices.Sorted(maps.Keys(schema.Tables)) {
			child := schema.Tables[name]
			for _, f := range child.ForeignKeys {
				if strings.EqualFold(f.ParentTable, table) && strings.EqualFold(f.ParentDatabase, database) {
					out = append(out, f.Constraint(schema.Name, child.Name))
				}
			}
		}
	}
	return out
}

// Keep puts the descriptors of an older snapshot in place of equal ones of s,
// which nobody else has seen yet: what is compiled for them stays in use. A
// table's id and version say what its descriptor holds.
func (s *Snapshot) Keep(old *Snapshot) {
	for name, schema := range s.schemas {
		before := old.schemas[name]
		if before == nil {
			continue
		}
		for table, desc := range schema.Tables {
			if was := before.Tables[table]; was != nil && was.ID == desc.ID && was.Version == desc.Version {
				schema.Tables[table] = was
			}
		}
	}
	s.Version = old.Version + 1
}

// Kind says what a Change is about.
type Kind string

// The kinds of objects. They are part of the record keys.
const (
	KindDatabase  Kind = "database"
	KindTable     Kind = "table"
	KindView      Kind = "view"
	KindTrigger   Kind = "trigger"
	KindProcedure Kind = "procedure"
	KindEvent     Kind = "event"
)

// Change puts one object in place, or removes it when Value is nil. Value is a
// pointer to the kind's descriptor. Dropping a database needs one Change per
// object in it as well.
type Change struct {
	Kind     Kind
	Database string // lower-case name
	Name     string // lower-case name; empty for KindDatabase
	Value    any
}

// Apply returns the catalog after the changes, in order. The receiver and its
// parts stay as they are.
func (s *Snapshot) Apply(changes []Change) *Snapshot {
	next := &Snapshot{Version: s.Version + 1, schemas: maps.Clone(s.schemas)}
	copied := map[string]bool{}
	for _, c := range changes {
		if c.Kind == KindDatabase {
			next.applyDatabase(c, copied)
			continue
		}
		schema := next.schemas[c.Database]
		if schema == nil {
			continue // its database was dropped in the same transaction
		}
		if !copied[c.Database] {
			schema = schema.clone()
			next.schemas[c.Database], copied[c.Database] = schema, true
		}
		schema.apply(c)
	}
	return next
}

func (s *Snapshot) applyDatabase(c Change, copied map[string]bool) {
	if c.Value == nil {
		delete(s.schemas, c.Database)
		return
	}
	schema := s.schemas[c.Database]
	if schema == nil {
		schema = &Schema{}
	}
	schema = schema.clone()
	schema.Database = *c.Value.(*Database)
	s.schemas[c.Database], copied[c.Database] = schema, true
}

func (s *Schema) clone() *Schema {
	return &Schema{
		Database: s.Database, Tables: cloneMap(s.Tables), Views: cloneMap(s.Views), Triggers: cloneMap(s.Triggers),
		Procedures: cloneMap(s.Procedures), Events: cloneMap(s.Events),
	}
}

func cloneMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

func (s *Schema) apply(c Change) {
	switch c.Kind {
	case KindTable:
		put[Table](s.Tables, c)
	case KindView:
		put[sql.ViewDefinition](s.Views, c)
	case KindTrigger:
		put[Trigger](s.Triggers, c)
	case KindProcedure:
		put[sql.StoredProcedureDetails](s.Procedures, c)
	case KindEvent:
		put[sql.EventDefinition](s.Events, c)
	}
}

func put[V any](m map[string]*V, c Change) {
	if c.Value == nil {
		delete(m, c.Name)
		return
	}
	m[c.Name] = c.Value.(*V)
}

// New returns an empty descriptor of the kind, to decode a record into.
func (k Kind) New() any {
	switch k {
	case KindDatabase:
		return &Database{}
	case KindTable:
		return &Table{}
	case KindView:
		return &sql.ViewDefinition{}
	case KindTrigger:
		return &Trigger{}
	case KindProcedure:
		return &sql.StoredProcedureDetails{}
	case KindEvent:
		return &sql.EventDefinition{}
	}
	return nil
}
