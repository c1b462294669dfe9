package catalog

import (
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage"
)

// ID names a database, a table or an index. One counter serves all three and no
// number is given out twice, so that rows of a dropped index can never be taken
// for rows of a new one.
type ID uint64

// Database is a schema in MySQL's sense.
type Database struct {
	ID        ID     `json:"id"`
	Name      string `json:"name"`
	Collation uint16 `json:"collation"`
	// Frozen is the gateway that is about to change the database as a whole: no
	// other uses it until the change is over. 0: none.
	Frozen uint64 `json:"frozen,omitempty"`
}

// Table describes one base table.
type Table struct {
	ID       ID     `json:"id"`
	Database ID     `json:"database"`
	Name     string `json:"name"`
	// Version rises with every change of the table; rows carry the version that
	// wrote them.
	Version   uint64   `json:"version"`
	Collation uint16   `json:"collation"`
	Comment   string   `json:"comment,omitempty"`
	Columns   []Column `json:"columns"`
	// NextColumn is the id that the next new column gets.
	NextColumn uint32 `json:"next_column"`
	// Rows is the index that holds the rows themselves, ordered by Key.
	Rows ID `json:"rows"`
	// Public is the timestamp from which on a snapshot shows all that is stored
	// under Rows.
	Public storage.Timestamp `json:"public,omitempty"`
	// Key lists the primary key's columns in key order. Empty means that rows
	// are keyed by a hidden row id.
	Key []IndexColumn `json:"key,omitempty"`
	// Placement lists the columns of PARTITION BY KEY; empty means the whole key.
	Placement []uint32 `json:"placement,omitempty"`
	// Blocks is how many low bits of the primary key, one integer, do not matter to
	// where a row lives; 0: all matter. It goes with Rows, for as long as those are.
	Blocks      uint8        `json:"blocks,omitempty"`
	Indexes     []Index      `json:"indexes,omitempty"`
	Checks      []Check      `json:"checks,omitempty"`
	ForeignKeys []ForeignKey `json:"foreign_keys,omitempty"`
	// AutoID names the AUTO_INCREMENT counter, whose first value is AutoFirst. 0 is
	// a counter named like the table, which starts at 1.
	AutoID    ID     `json:"auto_id,omitempty"`
	AutoFirst uint64 `json:"auto_first,omitempty"`
	// Frozen is the gateway that is about to change the table: no other uses it
	// until the next version is there. 0: none.
	Frozen uint64 `json:"frozen,omitempty"`
}

// Column is one column of a table; ID is its identity inside rows at rest.
type Column struct {
	ID        uint32 `json:"id"`
	Name      string `json:"name"`
	Type      Type   `json:"type"`
	Nullable  bool   `json:"nullable,omitempty"`
	Default   string `json:"default,omitempty"`
	Generated string `json:"generated,omitempty"`
	OnUpdate  string `json:"on_update,omitempty"`
	Comment   string `json:"comment,omitempty"`
	Extra     string `json:"extra,omitempty"`
	// Virtual columns are computed when read and stored only inside indexes.
	Virtual       bool `json:"virtual,omitempty"`
	AutoIncrement bool `json:"auto_increment,omitempty"`
	Hidden        bool `json:"hidden,omitempty"`
	HiddenSystem  bool `json:"hidden_system,omitempty"`
	// Missing is the encoded value of rows that were written before the column
	// was added; nil is NULL.
	Missing []byte `json:"missing,omitempty"`
}

// IndexColumn is one part of an index. Prefix counts characters (bytes for
// binary strings); 0 means the whole value.
type IndexColumn struct {
	Column uint32 `json:"column"`
	Prefix uint16 `json:"prefix,omitempty"`
}

// Index is a secondary index.
type Index struct {
	ID      ID            `json:"id"`
	Name    string        `json:"name"`
	Columns []IndexColumn `json:"columns"`
	Unique  bool          `json:"unique,omitempty"`
	// Public is the timestamp from which on a snapshot shows all entries.
	Public  storage.Timestamp `json:"public,omitempty"`
	Comment string            `json:"comment,omitempty"`
	// State is how far an index has come that is being added or dropped.
	State IndexState `json:"state,omitempty"`
}

// IndexState says who keeps an index. Gateways may use a table with two
// neighbouring states at the same time, in either direction.
type IndexState string

// The states of an index, between one that is not there and one that is.
const (
	IndexPublic     IndexState = ""         // read and written
	IndexWriteOnly  IndexState = "write"    // written, but not complete: nobody reads it
	IndexTolerant   IndexState = "tolerant" // a unique one: duplicates are noted and let pass
	IndexDeleteOnly IndexState = "delete"   // what leaves it is removed, nothing is added
)

// Check is a CHECK constraint.
type Check struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
	Enforced   bool   `json:"enforced,omitempty"`
}

// ForeignKey is stored with the child table. Names, not ids, because a
// constraint may be declared before its parent exists.
type ForeignKey struct {
	Name           string   `json:"name"`
	Columns        []string `json:"columns"`
	ParentDatabase string   `json:"parent_database"`
	ParentTable    string   `json:"parent_table"`
	ParentColumns  []string `json:"parent_columns"`
	OnUpdate       string   `json:"on_update,omitempty"`
	OnDelete       string   `json:"on_delete,omitempty"`
	Resolved       bool     `json:"resolved,omitempty"`
}

// Clone returns a copy whose slices may be changed freely.
func (t *Table) Clone() *Table {
	c := *t
	c.Columns = slices.Clone(t.Columns)
	c.Key = slices.Clone(t.Key)
	c.Placement = slices.Clone(t.Placement)
	c.Indexes = slices.Clone(t.Indexes)
	c.Checks = slices.Clone(t.Checks)
	c.ForeignKeys = slices.Clone(t.ForeignKeys)
	return &c
}

// Column returns the position of the column with this name (any case), or -1.
func (t *Table) Column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
}

// ColumnByID returns the position of the column with this id, or -1.
func (t *Table) ColumnByID(id uint32) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.ID == id })
}

// Index returns the position of the index with this name (any case), or -1.
func (t *Table) Index(name string) int {
	return slices.IndexFunc(t.Indexes, func(i Index) bool { return strings.EqualFold(i.Name, name) })
}

// InKey tells whether the column is part of the primary key.
func (t *Table) InKey(column uint32) bool {
	return slices.ContainsFunc(t.Key, func(k IndexColumn) bool { return k.Column == column })
}

// AutoColumn is the position of the AUTO_INCREMENT column, or -1.
func (t *Table) AutoColumn() int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.AutoIncrement })
}

// DataIDs are the ids under which the table's rows and entries are stored.
func (t *Table) DataIDs() []ID {
	ids := []ID{t.Rows}
	for _, x := range t.Indexes {
		ids = append(ids, x.ID)
	}
	return ids
}

// Constraint is f as the SQL engine wants it, declared by a table.
func (f ForeignKey) Constraint(database, table string) sql.ForeignKeyConstraint {
	return sql.ForeignKeyConstraint{
		Name: f.Name, Database: database, Table: table,
		ParentDatabase: f.ParentDatabase, ParentTable: f.ParentTable,
		OnUpdate: sql.ForeignKeyReferentialAction(f.OnUpdate), OnDelete: sql.ForeignKeyReferentialAction(f.OnDelete),
		Columns: slices.Clone(f.Columns), ParentColumns: slices.Clone(f.ParentColumns), IsResolved: f.Resolved,
	}
}

// NewForeignKey is the stored form of a constraint.
func NewForeignKey(c sql.ForeignKeyConstraint) ForeignKey {
	return ForeignKey{
		Name: c.Name, Columns: slices.Clone(c.Columns), ParentDatabase: c.ParentDatabase, ParentTable: c.ParentTable,
		ParentColumns: slices.Clone(c.ParentColumns), OnUpdate: string(c.OnUpdate), OnDelete: string(c.OnDelete),
		Resolved: c.IsResolved,
	}
}
