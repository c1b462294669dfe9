package sqlfront

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A procedure that ends or begins transactions leaves the session as MySQL
// would: what is acknowledged afterwards under autocommit is committed.
func TestTransactionsInsideProcedures(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (200, 0)",
		`CREATE PROCEDURE fails() BEGIN INSERT INTO t VALUES (400, 1); INSERT INTO t VALUES (200, 1); END`,
		`CREATE PROCEDURE opens() BEGIN START TRANSACTION; INSERT INTO t VALUES (500, 1); INSERT INTO t VALUES (200, 1); END`,
		`CREATE PROCEDURE adds(n INT) BEGIN INSERT INTO t VALUES (n, 1); INSERT INTO t VALUES (n + 1, 1); END`)
	a, b := connection(t, db), connection(t, db)
	ids := func() []string { return query(t, b, "SELECT id FROM t ORDER BY id") }

	// Of these the engine would skip the body, or run the procedure for ever.
	for _, body := range []string{"BEGIN ROLLBACK; END", "ROLLBACK", "SET @a = 1", "BEGIN SET a = 1; SET a = 2; END"} {
		require.Equal(t, 1235, number(attempt(a, "CREATE PROCEDURE p() BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION "+body+"; SELECT 1; END")))
	}
	run(t, a, `CREATE PROCEDURE handled() BEGIN
		DECLARE failed INT DEFAULT 0;
		DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN SET failed = 1; END;
		START TRANSACTION; INSERT INTO t VALUES (300, 1); INSERT INTO t VALUES (200, 1);
		IF failed THEN ROLLBACK; ELSE COMMIT; END IF; END`,
		"CALL handled()", "INSERT INTO t VALUES (1, 1)")
	require.Equal(t, []string{"1", "200"}, ids())
	run(t, a, "ALTER TABLE t ADD COLUMN z INT")
	require.Len(t, query(t, b, "SHOW COLUMNS FROM t"), 3)

	run(t, a, "ALTER TABLE t DROP COLUMN z")
	// Under autocommit each statement of the body is its own transaction.
	require.Equal(t, 1062, number(attempt(a, "CALL fails()")))
	run(t, a, "INSERT INTO t VALUES (2, 1)")
	require.Equal(t, []string{"1", "2", "200", "400"}, ids())

	// A transaction that the body opened stays open, and is the client's to end.
	require.Equal(t, 1062, number(attempt(a, "CALL opens()")))
	run(t, a, "INSERT INTO t VALUES (3, 1)")
	require.Equal(t, []string{"1", "2", "200", "400"}, ids())
	run(t, a, "ROLLBACK", "INSERT INTO t VALUES (4, 1)")
	require.Equal(t, []string{"1", "2", "4", "200", "400"}, ids())

	// Inside the client's transaction the body belongs to it.
	run(t, a, "BEGIN", "CALL adds(5)", "INSERT INTO t VALUES (7, 1)", "ROLLBACK")
	require.Equal(t, []string{"1", "2", "4", "200", "400"}, ids())
	run(t, a, "BEGIN", "CALL adds(5)", "INSERT INTO t VALUES (7, 1)", "COMMIT")
	require.Equal(t, []string{"1", "2", "4", "5", "6", "7", "200", "400"}, ids())
	run(t, a, "SET autocommit = 0", "CALL adds(8)", "ROLLBACK", "SET autocommit = 1")
	require.Equal(t, []string{"1", "2", "4", "5", "6", "7", "200", "400"}, ids())
}

// A cursor shows the rows that there were when it was opened, whatever its loop writes
// or commits, and however many there are.
func TestCursorsOfProceduresKeepTheirRows(t *testing.T) {
	_, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY)", "CREATE TABLE inside (id INT PRIMARY KEY, v INT)",
		"CREATE TABLE third (id INT PRIMARY KEY, v INT)", "CREATE TABLE seen (id INT, v INT, w INT)",
		series("outside", 40, "id", func(i int) string { return fmt.Sprintf("(%d)", i) }),
		series("inside", 1200, "id,v", func(i int) string { return fmt.Sprintf("(%d,0)", i) }),
		series("third", 1200, "id,v", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }))
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprintf("%d,0,0", i))
	}
	two := "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v, 0 FROM outside o JOIN inside i ON i.id = o.id"
	three := "SELECT /*+ JOIN_ORDER(o,i,j) LOOKUP_JOIN(o,i) LOOKUP_JOIN(i,j) */ o.id, i.v, j.v FROM outside o JOIN inside i ON i.id = o.id JOIN third j ON j.id = i.v"
	for _, tc := range []struct{ name, query, after string }{
		{"one table", "SELECT id, v, 0 FROM inside WHERE id < 40", ""},
		{"two tables", two, ""},
		{"three tables", three, ""},
		{"a loop that commits", three, "COMMIT;"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := strings.ReplaceAll(tc.name, " ", "_")
			run(t, c, "CREATE PROCEDURE "+name+`() BEGIN
				DECLARE a, b, c INT;
				DECLARE done INT DEFAULT 0;
				DECLARE k CURSOR FOR `+tc.query+`;
				DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
				OPEN k;
				l: LOOP
					FETCH k INTO a, b, c;
					IF done = 1 THEN LEAVE l; END IF;
					INSERT INTO seen VALUES (a, b, c);
					REPLACE INTO inside VALUES (a + 1, b + 1);
					`+tc.after+`
				END LOOP;
				CLOSE k; END`)
			for _, within := range []string{"SET autocommit = 1", "BEGIN"} {
				for _, level := range []string{"REPEATABLE READ", "READ COMMITTED", "SERIALIZABLE"} {
					for _, batched := range []int{0, 1} {
						run(t, c, "DELETE FROM seen", "UPDATE inside SET v = 0", fmt.Sprintf("SET rowlock_batched_joins = %d", batched),
							"SET SESSION TRANSACTION ISOLATION LEVEL "+level, within, "CALL "+name+"()", "COMMIT")
						require.Equal(t, want, query(t, c, "SELECT * FROM seen ORDER BY id"), "%s, %s, batched: %d", within, level, batched)
					}
				}
			}
		})
	}
}
