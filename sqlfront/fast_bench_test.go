package sqlfront

import (
	"fmt"
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
