package sqlfront

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The statements of sysbench's scripts and of a bank are all taken, prepared and as
// text.
func TestFastPathTakesWhatApplicationsSend(t *testing.T) {
	w := newTwin(t, "CREATE TABLE sbtest1 (id INTEGER NOT NULL AUTO_INCREMENT, k INTEGER DEFAULT '0' NOT NULL, c CHAR(120) DEFAULT '' NOT NULL, pad CHAR(60) DEFAULT '' NOT NULL, PRIMARY KEY (id)) /*! ENGINE = innodb */",
		"INSERT INTO sbtest1 (k, c, pad) VALUES (1, '"+strings.Repeat("12345678901-", 9)+"', 'x'), (2, 'b', 'y'), (3, 'c', 'z')", "CREATE INDEX k_1 ON sbtest1 (k)",
		"CREATE TABLE accounts (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, touched INT NOT NULL DEFAULT 0)", "INSERT INTO accounts (id, balance) VALUES (1, 1000), (2, 1000), (3, 1000)")
	c := w.session("root", clientMultiStatements)
	for _, statement := range []struct {
		text       string
		parameters []any
	}{
		{"SELECT c FROM sbtest1 WHERE id=?", []any{int32(1)}},
		{"SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?", []any{int32(1), int32(100)}},
		{"SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN ? AND ?", []any{int32(1), int32(100)}},
		{"SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", []any{int32(1), int32(100)}},
		{"SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", []any{int32(1), int32(100)}},
		{"UPDATE sbtest1 SET k=k+1 WHERE id=?", []any{int32(1)}},
		{"UPDATE sbtest1 SET c=? WHERE id=?", []any{strings.Repeat("12345678901-", 9), int32(1)}},
		{"DELETE FROM sbtest1 WHERE id=?", []any{int32(2)}},
		{"INSERT INTO sbtest1 (id, k, c, pad) VALUES (?, ?, ?, ?)", []any{int32(2), int32(50), "c", "pad"}},
		{"INSERT INTO sbtest1 (id, k, c, pad) VALUES (0, ?, ?, ?)", []any{int32(504), strings.Repeat("12345678901-", 9), strings.Repeat("12345678901-", 4)}},
		{"BEGIN", nil},
		{"SELECT balance FROM accounts WHERE id = ? FOR UPDATE", []any{int32(1)}},
		{"UPDATE accounts SET balance = balance - ?, touched = touched + 1 WHERE id = ?", []any{int32(7), int32(1)}},
		{"UPDATE accounts SET balance = balance + ?, touched = touched + 1 WHERE id = ?", []any{int32(7), int32(2)}},
		{"COMMIT", nil},
	} {
		text := statement.text
		for _, p := range statement.parameters {
			literal := fmt.Sprintf("'%v'", p)
			if _, ok := p.(int32); ok {
				literal = fmt.Sprint(p)
			}
			text = strings.Replace(text, "?", literal, 1)
		}
		var before uint64
		for range 3 { // what fails teaches nothing
			c.query("DELETE FROM sbtest1 WHERE id > 1")
			before = w.taken()
			c.query(text)
			c.query("DELETE FROM sbtest1 WHERE id > 1")
			c.execute(statement.text, statement.parameters...)
		}
		require.Equal(t, before+2, w.taken(), text)
	}
}
