package sqlfront

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkPointRead is a SELECT of one row by its primary key, from the client's
// packet to the client's packet, with the fast path and without.
func BenchmarkPointRead(b *testing.B) {
	s := newStack(b, Config{})
	run(b, s.db("", ""), "CREATE DATABASE app")
	db := s.db("app", "")
	run(b, db, "CREATE TABLE sbtest1 (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY (k))")
	for i := range 100 {
		run(b, db, fmt.Sprintf("INSERT INTO sbtest1 VALUES (%d, %d, REPEAT('c', 119), REPEAT('p', 59))", i+1, i))
	}
	for _, path := range []string{"ON", "OFF"} {
		c := rawConnect(b, s.server, "root", "app", clientDeprecateEOF)
		c.query("SET SESSION rowlock_fast_path = " + path)
		b.Run("prepared/"+path, func(b *testing.B) {
			id, _ := c.prepare("SELECT c FROM sbtest1 WHERE id=?")
			b.ReportAllocs()
			for i := range b.N {
				c.execute(id, []any{int64(i%100 + 1)})
			}
		})
		b.Run("text/"+path, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				c.query(fmt.Sprintf("SELECT c FROM sbtest1 WHERE id=%d", i%100+1))
			}
		})
	}
}

// BenchmarkWrites are statements that change a row by its primary key, with the fast
// path, from the client's packet to the client's packet.
func BenchmarkWrites(b *testing.B) {
	s := newStack(b, Config{})
	run(b, s.db("", ""), "CREATE DATABASE app")
	db := s.db("app", "")
	run(b, db, "CREATE TABLE sbtest1 (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY (k))",
		"CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)")
	c := rawConnect(b, s.server, "root", "app", clientDeprecateEOF)
	for i := range 100 {
		c.query(fmt.Sprintf("INSERT INTO sbtest1 VALUES (%d, %d, REPEAT('c', 119), REPEAT('p', 59))", i+1, i))
		c.query(fmt.Sprintf("INSERT INTO accounts VALUES (%d, 1000)", i+1))
	}
	text, pad := strings.Repeat("d", 119), strings.Repeat("q", 59)
	prepare := func(q string) uint32 {
		id, answer := c.prepare(q)
		if id == 0 {
			b.Fatal(shown(answer))
		}
		return id
	}
	named := func(name string, statement func(i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				statement(i)
			}
		})
	}
	update := prepare("UPDATE sbtest1 SET c=? WHERE id=?")
	named("update", func(i int) { c.execute(update, []any{fmt.Sprintf("%d%s", i%10, text), int64(i%100 + 1)}) })
	same := prepare("UPDATE sbtest1 SET k=k+? WHERE id=?")
	named("unchanged", func(i int) { c.execute(same, []any{int64(0), int64(i%100 + 1)}) })
	index := prepare("UPDATE sbtest1 SET k=k+1 WHERE id=?")
	named("index", func(i int) { c.execute(index, []any{int64(i%100 + 1)}) })
	insert, remove := prepare("INSERT INTO sbtest1 (id, k, c, pad) VALUES (?, ?, ?, ?)"), prepare("DELETE FROM sbtest1 WHERE id=?")
	named("delete and insert", func(i int) {
		c.execute(remove, []any{int64(i%100 + 1)})
		c.execute(insert, []any{int64(i%100 + 1), int64(i), text, pad})
	})
	begin, read, add, commit := prepare("BEGIN"), prepare("SELECT balance FROM accounts WHERE id = ? FOR UPDATE"),
		prepare("UPDATE accounts SET balance = balance + ? WHERE id = ?"), prepare("COMMIT")
	named("transfer", func(i int) {
		c.execute(begin, nil)
		c.execute(read, []any{int64(i%50 + 1)})
		c.execute(read, []any{int64(i%50 + 51)})
		c.execute(add, []any{int64(-1), int64(i%50 + 1)})
		c.execute(add, []any{int64(1), int64(i%50 + 51)})
		c.execute(commit, nil)
	})
	control := prepare("ROLLBACK")
	named("begin and rollback", func(i int) {
		c.execute(begin, nil)
		c.execute(control, nil)
	})
}

// BenchmarkRanges are reads of 100 rows by a range of the primary key, from the client's
// packet to the client's packet.
func BenchmarkRanges(b *testing.B) {
	s := newStack(b, Config{Blocks: func() bool { return true }})
	run(b, s.db("", ""), "CREATE DATABASE app")
	run(b, s.db("app", ""), "CREATE TABLE sbtest1 (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY (k))")
	c := rawConnect(b, s.server, "root", "app", clientDeprecateEOF)
	for i := range 1000 {
		c.query(fmt.Sprintf("INSERT INTO sbtest1 VALUES (%d, %d, '%011d-%s', REPEAT('p', 59))", i+1, i, i*7919%1000, strings.Repeat("c", 107)))
	}
	for _, of := range [][2]string{{"plain", "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?"}, {"sum", "SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN ? AND ?"},
		{"order", "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c"}, {"distinct", "SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c"}} {
		b.Run(of[0], func(b *testing.B) {
			id, _ := c.prepare(of[1])
			b.ReportAllocs()
			for i := range b.N {
				c.execute(id, []any{int64(i%900 + 1), int64(i%900 + 100)})
			}
		})
	}
}
