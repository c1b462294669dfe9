package sqlfront

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// everyWriter makes statements of every kind that writes, over few rows.
func everyWriter(r *rand.Rand) string {
	id, v, u := r.IntN(12), r.IntN(5), r.IntN(12)
	switch r.IntN(14) {
	case 0:
		return fmt.Sprintf("INSERT INTO t (id, v, u, n) VALUES (%d, %d, %d, 0)", id, v, u)
	case 1:
		return fmt.Sprintf("INSERT INTO t (id, v, u, n) VALUES (%d, NULL, NULL, 1), (%d, %d, NULL, 1)", id, id+1, v)
	case 2:
		return fmt.Sprintf("INSERT IGNORE INTO t (id, v, u, n) VALUES (%d, %d, %d, 2), (%d, %d, %d, 2)", id, v, u, id+2, v, u+1)
	case 3:
		return fmt.Sprintf("REPLACE INTO t (id, v, u, n) VALUES (%d, %d, %d, 3)", id, v, u)
	case 4:
		return fmt.Sprintf("INSERT INTO t (id, v, u, n) VALUES (%d, %d, %d, 4) ON DUPLICATE KEY UPDATE v = v + 1, u = %d", id, v, u, r.IntN(12))
	case 5:
		return fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", id)
	case 6:
		return fmt.Sprintf("UPDATE t SET u = %d WHERE id = %d", u, id)
	case 7:
		return fmt.Sprintf("UPDATE t SET id = %d WHERE id = %d", r.IntN(12), id)
	case 8:
		return fmt.Sprintf("UPDATE t SET v = %d, n = n + 1 WHERE v = %d", r.IntN(5), v)
	case 9:
		return fmt.Sprintf("UPDATE t SET u = u + 1 WHERE u > %d ORDER BY u DESC", u)
	case 10:
		return fmt.Sprintf("DELETE FROM t WHERE id = %d", id)
	case 11:
		return fmt.Sprintf("DELETE FROM t WHERE v = %d LIMIT 2", v)
	case 12:
		return fmt.Sprintf("INSERT INTO t (id, v, u, n) SELECT id + 1, v, u + 20, n FROM t WHERE id = %d", id)
	default:
		return fmt.Sprintf("UPDATE t SET n = n + 1 WHERE id = %d", id)
	}
}

// Whatever sessions write at once, at every level, with transactions, savepoints and
// statements that fail: each snapshot has the same rows through every index, and in the
// end every row has its entries, and every entry its row.
func TestIndexesUnderEveryWriter(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, u INT, n INT, KEY v (v), KEY vn (v, n), UNIQUE KEY u (u))",
		"CREATE TABLE child (id INT PRIMARY KEY AUTO_INCREMENT, up INT, KEY (up), FOREIGN KEY (up) REFERENCES t (id) ON DELETE CASCADE ON UPDATE SET NULL)")
	var writing, reading sync.WaitGroup
	var ended atomic.Bool
	for w := range 5 {
		c := connection(t, db)
		writing.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for range 120 {
				writeSome(t, c, r)
			}
		})
	}
	reader := connection(t, db)
	reading.Go(func() {
		for !ended.Load() && !t.Failed() {
			sameByEveryIndex(t, reader)
		}
	})
	writing.Wait()
	ended.Store(true)
	reading.Wait()
	sound(t, db, "t")
	sound(t, db, "child")
}

// sameByEveryIndex compares a snapshot's rows by index with those of the table.
func sameByEveryIndex(t *testing.T, c *sql.Conn) {
	rows := func(where string) string {
		got, err := tryQuery(c, "SELECT COUNT(*), CAST(COALESCE(SUM(id), 0) AS SIGNED) FROM t WHERE "+where)
		if err != nil {
			t.Error(err)
			return ""
		}
		return got[0]
	}
	if err := execErr(c, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		t.Error(err)
	}
	all := rows("COALESCE(n, 0) >= 0")
	for _, by := range []string{"v >= 0 OR v IS NULL", "u >= 0 OR u IS NULL"} {
		if got := rows(by); got != all {
			t.Errorf("%s by %s, %s in the table", got, by, all)
		}
	}
	if err := execErr(c, "COMMIT"); err != nil {
		t.Error(err)
	}
}

// writeSome runs a transaction.
func writeSome(t *testing.T, c *sql.Conn, r *rand.Rand) {
	may := []int{0, 1062, 1205, 1213, 1364, 1452}
	do := func(q string) {
		if err := execErr(c, q); err != nil && !slices.Contains(may, number(err)) {
			t.Errorf("%s: %v", q, err)
		}
	}
	do("SET snapshot_isolation = " + []string{"ON", "OFF"}[r.IntN(2)])
	do("SET SESSION innodb_lock_wait_timeout = 1")
	do("SET SESSION TRANSACTION ISOLATION LEVEL " + []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[r.IntN(3)])
	if r.IntN(2) == 0 {
		do(everyWriter(r))
		return
	}
	do("BEGIN")
	if r.IntN(2) == 0 {
		_, _ = tryQuery(c, "SELECT * FROM t WHERE v = 3")
	}
	do(everyWriter(r))
	do(fmt.Sprintf("INSERT INTO child (up) VALUES (%d)", r.IntN(12)))
	do("SAVEPOINT s")
	do(everyWriter(r))
	if r.IntN(2) == 0 {
		_ = execErr(c, "ROLLBACK TO s") // gone with the transaction, perhaps
	}
	do(everyWriter(r))
	do([]string{"COMMIT", "COMMIT", "ROLLBACK"}[r.IntN(3)])
}

// Unique keys that go from row to row in a statement, and one that is in the way of a
// row before the statement comes to its owner.
func TestUniqueKeysChangePlaces(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, u INT, n INT, UNIQUE KEY u (u))", "INSERT INTO t VALUES (1, 1, 0), (2, 2, 0), (3, 3, 0), (4, NULL, 0)")
	for _, c := range []struct {
		statement string
		number    int
		rows      string
	}{
		{"UPDATE t SET u = u - 1 ORDER BY id", 0, "1:0 2:1 3:2 4:-"},
		{"UPDATE t SET u = u + 1 ORDER BY id", 1062, "1:0 2:1 3:2 4:-"},
		{"UPDATE t SET u = u + 1 ORDER BY id DESC", 0, "1:1 2:2 3:3 4:-"},
		{"UPDATE t SET u = 4 - u", 1062, "1:1 2:2 3:3 4:-"},
		{"UPDATE t SET u = CASE u WHEN 1 THEN NULL WHEN 2 THEN 1 ELSE 2 END ORDER BY id", 1062, "1:1 2:2 3:3 4:-"},
		{"UPDATE t SET u = CASE id WHEN 1 THEN NULL WHEN 2 THEN 1 WHEN 3 THEN 2 ELSE 3 END ORDER BY id", 0, "1:- 2:1 3:2 4:3"},
		{"UPDATE t SET n = n + 1, u = u", 0, "1:- 2:1 3:2 4:3"},
		{"DELETE FROM t WHERE u = 1", 0, "1:- 3:2 4:3"},
		{"INSERT INTO t VALUES (5, 3, 0)", 1062, "1:- 3:2 4:3"},
		{"INSERT INTO t VALUES (5, 1, 0)", 0, "1:- 3:2 4:3 5:1"},
	} {
		require.Equal(t, c.number, number(execErr(db, c.statement)), c.statement)
		require.Equal(t, []string{c.rows}, query(t, db, "SELECT GROUP_CONCAT(CONCAT(id, ':', COALESCE(u, '-')) ORDER BY id SEPARATOR ' ') FROM t"), c.statement)
		sound(t, db, "t")
	}
}
