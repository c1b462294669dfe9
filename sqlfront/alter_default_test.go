package sqlfront

import (
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/stretchr/testify/require"
)

// columnsAsTheyAre is what the columns of a schema hold, and what their expressions do.
type columnsAsTheyAre struct {
	columns  []sql.Column
	defaults []sql.ColumnDefaultValue
}

func lookAt(schema sql.Schema) (c columnsAsTheyAre) {
	for _, column := range schema {
		c.columns = append(c.columns, *column)
		for _, d := range []*sql.ColumnDefaultValue{column.Default, column.Generated, column.OnUpdate} {
			if d != nil {
				c.defaults = append(c.defaults, *d)
			}
		}
	}
	return c
}

// The columns of a table are shared by all sessions: no statement writes into them,
// whether it succeeds or fails.
func TestStatementsLeaveSharedColumnsAlone(t *testing.T) {
	for _, change := range []string{
		"ALTER TABLE t ALTER COLUMN c SET DEFAULT 'e'",
		"ALTER TABLE t ALTER COLUMN c DROP DEFAULT",
		"ALTER TABLE t ALTER COLUMN c SET DEFAULT 'e', ADD COLUMN more INT, ALTER COLUMN n DROP DEFAULT",
		"ALTER TABLE t RENAME COLUMN n TO m",
		"ALTER TABLE t MODIFY COLUMN c VARCHAR(20) NOT NULL DEFAULT 'f'",
		"ALTER TABLE t MODIFY COLUMN c TEXT COMMENT 'x' FIRST",
		"ALTER TABLE t CHANGE COLUMN c d CHAR(7) CHARACTER SET latin1",
		"ALTER TABLE t COMMENT 'a table'",
		"ALTER TABLE t AUTO_INCREMENT = 100",
		"ALTER TABLE t CONVERT TO CHARACTER SET latin1",
		"ALTER TABLE t DEFAULT CHARACTER SET latin1",
		"ALTER TABLE t MODIFY COLUMN id INT NOT NULL",
		"ALTER TABLE t MODIFY COLUMN id INT NOT NULL, DROP PRIMARY KEY",
		"ALTER TABLE t DROP COLUMN g",
		"ALTER TABLE t ADD COLUMN g2 INT AS (n + 2) STORED FIRST",
		"ALTER TABLE t ADD COLUMN d2 INT DEFAULT 5",
		"ALTER TABLE t ADD INDEX by_n ((n + 1))",
		"ALTER TABLE t ADD CHECK (n < 100)",
		"ALTER TABLE t RENAME TO u",
		"CREATE TABLE u LIKE t",
		"CREATE TABLE u AS SELECT * FROM t",
		"INSERT INTO t (n) VALUES (1) ON DUPLICATE KEY UPDATE n = 2",
		"REPLACE INTO t (id, n) VALUES (1, DEFAULT)",
		"UPDATE t SET c = DEFAULT, n = n + 1",
		"TRUNCATE TABLE t",
	} {
		t.Run(change, func(t *testing.T) {
			s, db := app(t, `CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, c VARCHAR(5) DEFAULT 'd', n INT DEFAULT 7,
				at DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, g INT AS (n + 1) STORED, e INT DEFAULT (n + 1))`,
				"INSERT INTO t (c) VALUES ('a')")
			run(t, db, "SELECT * FROM t")
			c := s.server.catalog
			info, err := c.info(c.snapshot.Load().Schema("app"), s.table("app", "t"))
			require.NoError(t, err)
			before := lookAt(info.schema)
			run(t, db, change)
			require.Equal(t, before, lookAt(info.schema))
		})
	}
}

// A change of a default that fails changes nothing, whatever runs beside it.
func TestDefaultsAreNotChangedByWhatFails(t *testing.T) {
	for _, change := range []string{"ALTER TABLE t ALTER COLUMN c SET DEFAULT 'e'", "ALTER TABLE t ALTER COLUMN c DROP DEFAULT"} {
		t.Run(change, func(t *testing.T) {
			_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, c VARCHAR(5) DEFAULT 'd')")
			a, b := connection(t, db), connection(t, db)
			run(t, a, "SET rowlock_fast_path = OFF", "BEGIN", "INSERT INTO t (id) VALUES (1)") // it has the default in its plan
			run(t, b, "SET lock_wait_timeout = 1")
			require.Equal(t, 1205, number(execErr(b, change)))
			run(t, a, "INSERT INTO t (id) VALUES (2)", "COMMIT", "INSERT INTO t (id) VALUES (3)")
			require.Equal(t, []string{"d", "d", "d"}, query(t, db, "SELECT c FROM t ORDER BY id"))
		})
	}
}

// Defaults change for everybody when the statement is done, beside its other changes.
func TestAlterDefault(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, c VARCHAR(5) DEFAULT 'd', n INT DEFAULT 1)")
	for _, tc := range []struct{ change, want string }{
		{"ALTER TABLE t ALTER COLUMN C SET DEFAULT 'e'", "1,e,1"},
		{"ALTER TABLE t ALTER c DROP DEFAULT, ALTER n SET DEFAULT 2", "1,NULL,2"},
		{"ALTER TABLE t RENAME COLUMN n TO m, ALTER c SET DEFAULT 'f'", "1,f,2"},
		{"ALTER TABLE t MODIFY COLUMN c CHAR(3), ALTER c SET DEFAULT 'g'", "1,g,2"},
	} {
		run(t, db, tc.change, "INSERT INTO t (id) VALUES (1)")
		require.Equal(t, []string{tc.want}, query(t, db, "SELECT * FROM t")[:1], tc.change)
		run(t, db, "DELETE FROM t")
	}
	_, err := db.Exec("ALTER TABLE t ALTER nothing SET DEFAULT 1")
	require.Error(t, err)
	_, err = db.Exec("ALTER TABLE t ALTER nothing DROP DEFAULT")
	require.Error(t, err)
}
