package sqlfront

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// tableInfo is a descriptor compiled for use: the engine's schema and the
// codecs of rows and entries. It is immutable and shared by all sessions.
type tableInfo struct {
	database     string
	lock         string // the name of its metadata lock
	desc         *catalog.Table
	schema       sql.Schema
	keySchema    sql.PrimaryKeySchema
	rows         *codec.RowCodec
	stored       []int       // schema positions of the columns that rows hold
	position     map[int]int // schema position -> position in stored
	primary      *indexInfo
	indexes      []*indexInfo // secondary
	virtual      virtualColumns
	virtualIndex bool // some index is made of a virtual column
	exactIndexes bool // what an index lookup finds needs no second check
	checks       virtualChecks
	ownChecks    bool  // constraints are checked here, not by the engine
	temporary    bool  // belongs to one session
	placement    []int // positions of PARTITION BY KEY; nil: the whole key
	place        *codec.KeyCodec
}

// indexInfo is one index compiled for use; the primary index holds the rows.
type indexInfo struct {
	id      catalog.ID
	name    string
	comment string
	unique  bool
	primary bool
	state   catalog.IndexState
	public  storage.Timestamp // snapshots below it do not show everything
	columns []int             // schema positions
	prefix  []uint16
	start   []byte // the id as key prefix
	blocks  rowBlocks
	key     *codec.KeyCodec
	// Entries of secondary indexes carry the values of these columns, so that
	// a query that needs no others is answered from the entry.
	cover []int
	entry *codec.RowCodec
	// extended are the columns that order the index: its own, then those of the
	// primary key that it lacks.
	extended []int
}

// compileTable checks a descriptor and prepares it.
func compileTable(database string, desc *catalog.Table) (*tableInfo, error) {
	t := &tableInfo{database: database, lock: tableLock(database, desc.Name), desc: desc, position: map[int]int{}}
	if err := t.compileColumns(); err != nil {
		return nil, fmt.Errorf("table %s.%s: %w", database, desc.Name, err)
	}
	if err := t.compileIndexes(); err != nil {
		return nil, fmt.Errorf("table %s.%s: %w", database, desc.Name, err)
	}
	t.exactIndexes = t.integersOnly()
	return t, nil
}

// integersOnly tells whether all indexes are of integer columns. Their ranges
// are made so that they say exactly what the conditions say; see
// indexConditions and decision 0023.
func (t *tableInfo) integersOnly() bool {
	for _, x := range append(t.indexes, t.primary) {
		for _, c := range x.columns {
			if !types.IsInteger(t.schema[c].Type) {
				return false
			}
		}
	}
	return true
}

func (t *tableInfo) compileColumns() error {
	var stored []codec.Column
	for i, c := range t.desc.Columns {
		typ, err := c.Type.SQL()
		if err != nil {
			return err
		}
		t.schema = append(t.schema, t.column(c, typ))
		if c.Virtual {
			continue
		}
		t.position[i] = len(t.stored)
		t.stored = append(t.stored, i)
		stored = append(stored, codec.Column{ID: c.ID, Type: typ, Default: c.Missing})
	}
	var ordinals []int
	for _, k := range t.desc.Key {
		ordinals = append(ordinals, t.desc.ColumnByID(k.Column))
	}
	t.keySchema = sql.NewPrimaryKeySchema(t.schema, ordinals...)
	var err error
	t.rows, err = codec.NewRowCodec(t.desc.Version, stored)
	return err
}

func (t *tableInfo) column(c catalog.Column, typ sql.Type) *sql.Column {
	return &sql.Column{
		Name: c.Name, Type: typ, Source: t.desc.Name, DatabaseSource: t.database, Nullable: c.Nullable,
		Default: expressionText(c.Default), Generated: expressionText(c.Generated), OnUpdate: expressionText(c.OnUpdate),
		Comment: c.Comment, Extra: c.Extra, Virtual: c.Virtual, AutoIncrement: c.AutoIncrement, Hidden: c.Hidden,
		HiddenSystem: c.HiddenSystem, PrimaryKey: t.desc.InKey(c.ID),
	}
}

func expressionText(text string) *sql.ColumnDefaultValue {
	if text == "" {
		return nil
	}
	return sql.NewUnresolvedColumnDefaultValue(text)
}

func (t *tableInfo) compileIndexes() error {
	var err error
	t.primary, err = t.index(catalog.Index{ID: t.desc.Rows, Name: "PRIMARY", Columns: t.desc.Key, Unique: true, Public: t.desc.Public})
	if err != nil {
		return err
	}
	t.primary.primary = true
	if err := t.compileBlocks(); err != nil {
		return err
	}
	for _, x := range t.desc.Indexes {
		index, err := t.index(x)
		if err != nil {
			return err
		}
		if err := t.compileCover(index); err != nil {
			return err
		}
		t.indexes = append(t.indexes, index)
	}
	t.virtualIndex = t.hasVirtualIndex()
	t.ownChecks = len(t.desc.Checks) > 0 && t.hasVirtual()
	t.bindHidden()
	return t.compilePlacement()
}

func (t *tableInfo) compilePlacement() error {
	if t.desc.Placement == nil {
		return nil
	}
	var columns []codec.KeyColumn
	for _, id := range t.desc.Placement {
		i := t.desc.ColumnByID(id)
		t.placement = append(t.placement, i)
		columns = append(columns, codec.KeyColumn{Type: t.schema[i].Type})
	}
	var err error
	t.place, err = codec.NewKeyCodec(columns)
	return err
}

func (t *tableInfo) index(x catalog.Index) (*indexInfo, error) {
	index := &indexInfo{
		id: x.ID, name: x.Name, comment: x.Comment, unique: x.Unique, public: x.Public, start: dataPrefix(x.ID), state: x.State,
	}
	var columns []codec.KeyColumn
	prefixed := false
	for _, c := range x.Columns {
		i := t.desc.ColumnByID(c.Column)
		if i < 0 {
			return nil, fmt.Errorf("%w: index %s names column id %d", catalog.ErrCorrupt, x.Name, c.Column)
		}
		index.columns = append(index.columns, i)
		index.prefix = append(index.prefix, c.Prefix)
		prefixed = prefixed || c.Prefix > 0
		columns = append(columns, codec.KeyColumn{Type: t.schema[i].Type, PrefixLength: int(c.Prefix)})
	}
	if !prefixed {
		index.prefix = nil
	}
	if len(columns) == 0 {
		return index, nil
	}
	var err error
	index.key, err = codec.NewKeyCodec(columns)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", x.Name, err)
	}
	return index, nil
}

// compileCover chooses what an entry carries: the columns of the index and of
// the primary key, except those that the index has only a prefix of.
func (t *tableInfo) compileCover(x *indexInfo) error {
	var columns []codec.Column
	for n, i := range append(append([]int{}, x.columns...), t.primary.columns...) {
		if slices.Contains(x.extended, i) {
			continue
		}
		x.extended = append(x.extended, i)
		if n < len(x.prefix) && x.prefix[n] > 0 {
			continue
		}
		x.cover = append(x.cover, i)
		columns = append(columns, codec.Column{ID: t.desc.Columns[i].ID, Type: t.schema[i].Type})
	}
	var err error
	x.entry, err = codec.NewRowCodec(t.desc.Version, columns)
	return err
}

// dataPrefix starts every key of the data stored under id.
func dataPrefix(id catalog.ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

// keyless tells that rows have no primary key.
func (t *tableInfo) keyless() bool { return len(t.desc.Key) == 0 }

// covers tells whether an entry of x has all the schema positions wanted.
func (x *indexInfo) covers(positions []int) bool {
	if x.primary {
		return true
	}
	for _, p := range positions {
		if !slices.Contains(x.cover, p) {
			return false
		}
	}
	return true
}

// owns tells whether what is found at the key of a row's entry is that entry. A
// unique index that is not complete may hold another row's there.
func (x *indexInfo) owns(home location, found txn.Row) bool {
	if !found.Found || x.state == catalog.IndexPublic || !x.unique {
		return found.Found
	}
	at, _, err := decodeEntry(catalog.ID(binary.BigEndian.Uint64(home.key)), found.Value)
	return err == nil && bytes.Equal(at.key, home.key)
}

// leaves tells whether what is found at the key of a row's entry goes with the
// row. Where older rows are still being entered, a missing entry goes, too: the
// removal is what tells indexFill that the row has changed.
func (x *indexInfo) leaves(home location, found txn.Row) bool {
	if (x.state == catalog.IndexWriteOnly || x.state == catalog.IndexTolerant) && !found.Found {
		return !mutated("H11.no-trace")
	}
	return x.state == catalog.IndexPublic || x.owns(home, found)
}

// byName finds an index by name in any case, the primary one included.
func (t *tableInfo) byName(name string) *indexInfo {
	if strings.EqualFold(name, "PRIMARY") && !t.keyless() {
		return t.primary
	}
	for _, x := range t.indexes {
		if strings.EqualFold(x.name, name) {
			return x
		}
	}
	return nil
}
