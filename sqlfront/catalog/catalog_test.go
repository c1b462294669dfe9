package catalog

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/planbuilder"
	"github.com/stretchr/testify/require"
)

func sampleTable() *Table {
	srid := uint32(4326)
	return &Table{
		ID: 7, Database: 3, Name: "Orders", Version: 2, Collation: 255, Comment: "what was ordered", NextColumn: 4, Rows: 9,
		Columns: []Column{
			{ID: 1, Name: "id", Type: Type{Base: 265, Length: 11}, AutoIncrement: true},
			{ID: 2, Name: "kind", Type: Type{Base: 2074, Collation: 255, Values: []string{"a", "b"}}, Nullable: true, Default: "'a'"},
			{ID: 4, Name: "place", Type: Type{Base: 2061, Geometry: "point", SRID: &srid}, Nullable: true, Missing: []byte{1, 2}},
		},
		Key:         []IndexColumn{{Column: 1}},
		Placement:   []uint32{1},
		Indexes:     []Index{{ID: 10, Name: "kind", Columns: []IndexColumn{{Column: 2, Prefix: 3}}, Unique: true}},
		Checks:      []Check{{Name: "c", Expression: "(id > 0)", Enforced: true}},
		ForeignKeys: []ForeignKey{{Name: "f", Columns: []string{"kind"}, ParentDatabase: "d", ParentTable: "p", ParentColumns: []string{"k"}, OnDelete: "CASCADE", Resolved: true}},
	}
}

// The golden file is what a table descriptor looks like on disk. It changes
// only together with the record version.
func TestRecordGolden(t *testing.T) {
	data, err := EncodeRecord(sampleTable())
	require.NoError(t, err)
	golden, err := os.ReadFile("testdata/table.hex")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(golden)), hex.EncodeToString(data))
	var back Table
	require.NoError(t, DecodeRecord(data, &back))
	require.Equal(t, sampleTable(), &back)
}

// What an older release would take for a table like all others has another version, and
// so has nothing else.
func TestTablesWithBlocks(t *testing.T) {
	table := sampleTable()
	table.Placement, table.Blocks = nil, 7
	data, err := EncodeRecord(table)
	require.NoError(t, err)
	golden, err := os.ReadFile("testdata/table_blocks.hex")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(golden)), hex.EncodeToString(data))
	require.EqualValues(t, 2, data[0])
	var back Table
	require.NoError(t, DecodeRecord(data, &back))
	require.Equal(t, table, &back)
	require.Equal(t, table, table.Clone())

	data, err = EncodeRecord(sampleTable())
	require.NoError(t, err)
	require.EqualValues(t, 1, data[0])
	data[0] = 3
	binary.BigEndian.PutUint32(data[len(data)-4:], crc32.Checksum(data[:len(data)-4], castagnoli))
	require.ErrorIs(t, DecodeRecord(data, &back), ErrFormat)
}

func TestRecordDetectsEveryFlippedBit(t *testing.T) {
	data, err := EncodeRecord(&Database{ID: 1, Name: "d"})
	require.NoError(t, err)
	for i := range data {
		for bit := range 8 {
			broken := append([]byte{}, data...)
			broken[i] ^= 1 << bit
			require.Error(t, DecodeRecord(broken, &Database{}), "byte %d bit %d", i, bit)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	data, err := EncodeRecord(sampleTable())
	require.NoError(f, err)
	f.Add(data)
	f.Add(append([]byte{2}, data[1:]...))
	f.Add([]byte{})
	f.Add([]byte{1, '{', '}', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var table Table
		if err := DecodeRecord(data, &table); err != nil {
			return
		}
		for _, c := range table.Columns {
			_, _ = c.Type.SQL()
		}
	})
}

// Every type that a column can have survives the catalog.
func TestTypesSurvive(t *testing.T) {
	for _, text := range []string{
		"tinyint", "tinyint(1)", "smallint unsigned", "mediumint", "int", "int unsigned", "bigint", "bigint unsigned", "float", "double",
		"decimal(10,3)", "decimal(65,30)", "bit(17)", "char(10)", "varchar(255)", "varchar(20) collate latin1_swedish_ci",
		"tinytext", "text", "mediumtext", "longtext", "longtext collate utf8mb4_0900_ai_ci", "binary(5)", "varbinary(300)", "tinyblob",
		"blob", "mediumblob", "longblob", "date", "datetime", "datetime(6)", "timestamp(3)", "time", "year", "json",
		"enum('a','b','c')", "set('x','y')", "point", "geometry", "linestring", "polygon srid 4326", "geometrycollection",
	} {
		typ, err := planbuilder.ParseColumnTypeString(context.Background(), text)
		require.NoError(t, err, text)
		stored, err := NewType(typ)
		require.NoError(t, err, text)
		data, err := EncodeRecord(stored)
		require.NoError(t, err)
		var read Type
		require.NoError(t, DecodeRecord(data, &read))
		back, err := read.SQL()
		require.NoError(t, err, text)
		require.Equal(t, typ.String(), back.String())
		require.True(t, typ.Equals(back), text)
	}
}

func TestSnapshotsNeverChange(t *testing.T) {
	first := NewSnapshot().Apply([]Change{
		{Kind: KindDatabase, Database: "d", Value: &Database{ID: 1, Name: "D"}},
		{Kind: KindTable, Database: "d", Name: "orders", Value: sampleTable()},
	})
	second := first.Apply([]Change{
		{Kind: KindTable, Database: "d", Name: "orders"},
		{Kind: KindView, Database: "d", Name: "v", Value: &sql.ViewDefinition{Name: "v"}},
	})
	third := second.Apply([]Change{{Kind: KindDatabase, Database: "d"}})

	require.NotNil(t, first.Schema("d").Table("ORDERS"))
	require.Empty(t, first.Schema("D").Views)
	require.Len(t, first.References("d", "p"), 1)
	require.Nil(t, second.Schema("d").Table("orders"))
	require.Len(t, second.Schema("d").Views, 1)
	require.Nil(t, third.Schema("d"))
	require.Equal(t, []uint64{1, 2, 3}, []uint64{first.Version, second.Version, third.Version})
}

func TestMetadataLocks(t *testing.T) {
	ctx := context.Background()
	l := NewLocks()
	var reader, writer, late Holder
	require.NoError(t, l.Acquire(ctx, &reader, "t", SharedRead, time.Hour))
	require.ErrorIs(t, l.Acquire(ctx, &writer, "t", Exclusive, time.Millisecond), ErrLockTimeout)
	require.NoError(t, l.Acquire(ctx, &late, "t", SharedRead, time.Hour), "an exclusive request that gave up blocks nobody")
	l.ReleaseAll(&late)

	granted := make(chan error, 1)
	go func() { granted <- l.Acquire(ctx, &writer, "t", Exclusive, time.Hour) }()
	for waiting := false; !waiting; { // until the writer stands in the queue
		l.mu.Lock()
		waiting = l.mu.names["t"].waiting[waitExclusive] == 1
		l.mu.Unlock()
	}
	require.ErrorIs(t, l.Acquire(ctx, &late, "t", SharedRead, time.Millisecond), ErrLockTimeout, "a later reader waits behind the writer")
	l.ReleaseAll(&reader)
	require.NoError(t, <-granted)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.True(t, errors.Is(l.Acquire(cancelled, &late, "t", SharedRead, time.Hour), context.Canceled))
	l.ReleaseAll(&writer)
	require.Empty(t, l.mu.names, "idle names are forgotten")
}
