package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"testing"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// keysUnder counts what is stored under an id on all shards.
func (s *stack) keysUnder(t testing.TB, id catalog.ID) int {
	t.Helper()
	ctx := context.Background()
	tx := s.coordinator.Begin(txn.Options{Isolation: txn.ReadCommitted})
	defer tx.Rollback(ctx)
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: dataPrefix(id), Hi: keycodec.PrefixEnd(dataPrefix(id))})
	require.NoError(t, err)
	defer cursor.Close()
	for n := 0; ; n++ {
		_, ok, err := cursor.Next(ctx)
		require.NoError(t, err)
		if !ok {
			return n
		}
	}
}

// records counts system records with a prefix.
func (s *stack) records(t testing.TB, prefix string) int {
	t.Helper()
	ctx := context.Background()
	tx := s.coordinator.Begin(txn.Options{Isolation: txn.ReadCommitted})
	defer tx.Rollback(ctx)
	n := 0
	require.NoError(t, eachRecord(ctx, tx, prefix, func(string, []byte) error { n++; return nil }))
	return n
}

func (s *stack) table(database, name string) *catalog.Table {
	return s.server.catalog.snapshot.Load().Schema(database).Table(name)
}

// collected waits until the garbage collector has nothing left to do.
func (s *stack) collected(t testing.TB) {
	for s.records(t, keyGarbage) > 0 {
	}
}

func fillRows(n int) string {
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("(%d, %d, 'row %d')", i, i%10, i))
	}
	return "INSERT INTO t VALUES " + strings.Join(rows, ", ")
}

func TestDroppedDataGoesAway(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20), KEY v (v), UNIQUE KEY s (s)) PARTITION BY KEY (id)", fillRows(1200))
	before := s.table("app", "t")
	for _, id := range before.DataIDs() {
		require.Equal(t, 1200, s.keysUnder(t, id))
	}
	run(t, db, "ALTER TABLE t MODIFY COLUMN v BIGINT") // rewrites
	s.collected(t)
	for _, id := range before.DataIDs() {
		require.Zero(t, s.keysUnder(t, id))
	}
	rewritten := s.table("app", "t")
	require.Equal(t, []string{"120"}, query(t, db, "SELECT COUNT(*) FROM t WHERE v = 3"))
	run(t, db, "TRUNCATE TABLE t")
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM t"))
	s.collected(t)
	for _, id := range rewritten.DataIDs() {
		require.Zero(t, s.keysUnder(t, id))
	}
}

func TestACrashDuringABuildLeavesTheOldSchema(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(700))
	// A session that adds an index and dies when the entries are there and the
	// descriptor is not.
	session := newSession(gms.NewBaseSession(), s.server)
	session.SetCurrentDatabase("app")
	ctx := gms.NewContext(context.Background(), gms.WithSession(session))
	handle, ok, err := (&Database{provider: s.server.provider, name: "app"}).GetTableInsensitive(ctx, "t")
	require.NoError(t, err)
	require.True(t, ok)
	table := handle.(*Table)
	def := gms.IndexDef{Name: "v", Columns: []gms.IndexColumn{{Name: "v"}}}
	require.NoError(t, table.CreateIndexForForeignKey(ctx, def))
	built := table.now().indexes[0].id
	require.Equal(t, 700, s.keysUnder(t, built))
	require.Equal(t, 1, s.records(t, keyBuild))

	s.crash()
	s.start()
	require.Empty(t, s.table("app", "t").Indexes)
	s.collected(t)
	require.Zero(t, s.records(t, keyBuild))
	require.Zero(t, s.keysUnder(t, built))
	db = s.db("app", "")
	run(t, db, "CREATE INDEX v ON t (v)")
	require.NotEqual(t, built, s.table("app", "t").Indexes[0].ID)
	require.Equal(t, []string{"70"}, query(t, db, "SELECT COUNT(*) FROM t WHERE v = 3"))
}

func TestAFailedChangeChangesNothing(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(300))
	before := s.table("app", "t")
	require.Equal(t, 1062, number(execErr(db, "ALTER TABLE t ADD COLUMN n INT, ADD UNIQUE KEY v (v)")))
	after := s.table("app", "t").Clone()
	require.Greater(t, after.Version, before.Version, "the fence stays")
	after.Version, after.Frozen = before.Version, 0
	require.Equal(t, before.Clone(), after)
	require.Error(t, execErr(db, "CREATE TABLE u (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES nothing (id))"))
	require.Nil(t, s.table("app", "u"))
	run(t, db, "INSERT INTO t VALUES (1000, 1, 'x')")
	for s.records(t, keyBuild)+s.records(t, keyGarbage) > 0 {
	}
}

func TestSchemaChangesWaitForTransactions(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	require.Equal(t, []string{"1,1"}, query(t, a, "SELECT * FROM t"))
	run(t, b, "SET lock_wait_timeout = 1")
	require.Equal(t, 1205, number(execErr(b, "ALTER TABLE t ADD COLUMN n INT DEFAULT 3")))
	require.Equal(t, []string{"1,1"}, query(t, a, "SELECT * FROM t"))
	run(t, b, "SET lock_wait_timeout = 50")
	done := make(chan error, 1)
	go func() { done <- execErr(b, "ALTER TABLE t ADD COLUMN n INT DEFAULT 3") }()
	run(t, a, "UPDATE t SET v = 2", "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, []string{"1,2,3"}, query(t, a, "SELECT * FROM t"))
}

func TestAnOldSnapshotDoesNotReadANewTable(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1, 1)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	require.Empty(t, query(t, a, "SELECT * FROM other"))
	run(t, b, "ALTER TABLE t MODIFY COLUMN v BIGINT NOT NULL")
	_, err := tryQuery(a, "SELECT * FROM t")
	require.Equal(t, 1412, number(err))
	run(t, a, "ROLLBACK")
	require.Equal(t, []string{"1,1"}, query(t, a, "SELECT * FROM t"))
}

func TestDefinitionsEndTheTransaction(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "INSERT INTO t VALUES (1)", "CREATE TABLE u (id INT PRIMARY KEY)")
	require.Equal(t, []string{"1"}, query(t, b, "SELECT * FROM t"))
	run(t, a, "INSERT INTO t VALUES (2)")
	require.Equal(t, []string{"1", "2"}, query(t, b, "SELECT * FROM t ORDER BY id"))
}

func TestDeleteWithoutWhereCanBeRolledBack(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(50))
	c := connection(t, db)
	run(t, c, "BEGIN", "DELETE FROM t")
	require.Equal(t, []string{"0"}, query(t, c, "SELECT COUNT(*) FROM t"))
	run(t, c, "ROLLBACK")
	require.Equal(t, []string{"50"}, query(t, c, "SELECT COUNT(*) FROM t"))
}

func TestAutoIncrementAfterACrash(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v INT)", "INSERT INTO t (v) VALUES (1), (2), (3)")
	require.Equal(t, []string{"3"}, query(t, db, "SELECT MAX(id) FROM t"))
	s.crash()
	s.start()
	db = s.db("app", "")
	run(t, db, "INSERT INTO t (v) VALUES (4)")
	ids := query(t, db, "SELECT id FROM t ORDER BY id")
	require.Len(t, ids, 4)
	require.Equal(t, []string{"1", "2", "3"}, ids[:3])
}

func TestColocationByPartitionKey(t *testing.T) {
	s, _ := app(t, "CREATE TABLE parent (a INT, id INT, PRIMARY KEY (a, id)) PARTITION BY KEY (a)",
		"CREATE TABLE child (a INT, id INT, n INT, PRIMARY KEY (a, id, n)) PARTITION BY KEY (a)")
	ctx := context.Background()
	schema := s.server.catalog.snapshot.Load().Schema("app")
	parent, err := s.server.catalog.info(schema, schema.Table("parent"))
	require.NoError(t, err)
	child, err := s.server.catalog.info(schema, schema.Table("child"))
	require.NoError(t, err)
	for a := range int32(20) {
		p, err := parent.rowLocation(ctx, gms.Row{a, int32(1)})
		require.NoError(t, err)
		c, err := child.rowLocation(ctx, gms.Row{a, int32(7), int32(9)})
		require.NoError(t, err)
		require.Equal(t, p.token, c.token)
	}
}

func TestAddColumnLeavesTheRows(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(20))
	rows := s.table("app", "t").Rows
	run(t, db, "ALTER TABLE t ADD COLUMN a INT NOT NULL DEFAULT 5 AFTER id, ADD COLUMN b VARCHAR(10) DEFAULT 'new' FIRST, ADD COLUMN c DATETIME")
	require.Equal(t, rows, s.table("app", "t").Rows)
	require.Equal(t, []string{"new,3,5,3,row 3,NULL"}, query(t, db, "SELECT * FROM t WHERE id = 3"))
	run(t, db, "INSERT INTO t (id) VALUES (100)", "ALTER TABLE t ALTER COLUMN a SET DEFAULT 9", "UPDATE t SET v = 0 WHERE id = 4")
	require.Equal(t, []string{"5", "5", "5"}, query(t, db, "SELECT a FROM t WHERE id IN (3, 4, 100)"))
	run(t, db, "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t ADD COLUMN a INT DEFAULT 7")
	require.Equal(t, rows, s.table("app", "t").Rows)
	require.Equal(t, []string{"7", "7"}, query(t, db, "SELECT a FROM t WHERE id IN (3, 100)"))
}
