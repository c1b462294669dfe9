package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// What MySQL 8.0 answers to each statement, one after the other on one connection.
func TestErrorNumbers(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	const ok = 0
	for _, step := range []struct {
		query string
		num   int
		state string
		part  string // of the message
	}{
		{"CREATE TABLE t (id INT PRIMARY KEY, v TINYINT NOT NULL, s VARCHAR(3), e ENUM('a','b'), d DATE, u INT, UNIQUE KEY uk (u), CHECK (id < 1000))", ok, "", ""},
		{"CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES t (id))", ok, "", ""},
		{"CREATE DATABASE test", 1007, "HY000", "Can't create database 'test'; database exists"},
		{"DROP DATABASE nosuch", 1008, "HY000", "Can't drop database 'nosuch'; database doesn't exist"},
		{"USE nosuch", 1049, "42000", "Unknown database 'nosuch'"},
		{"CREATE TABLE t (id INT)", 1050, "42S01", "Table 't' already exists"},
		{"DROP TABLE nosuch", 1051, "42S02", "Unknown table"},
		{"SELECT * FROM nosuch", 1146, "42S02", "Table 'nosuch' doesn't exist"},
		{"SELECT nosuch FROM t", 1054, "42S22", "Unknown column 'nosuch' in 'field list'"},
		{"SELECT id FROM t a JOIN t b ON 1=1", 1052, "23000", "ambiguous"},
		{"UPDATE t SET nosuch = 1", 1054, "42S22", "Unknown column"},
		{"SELEC 1", 1064, "42000", "You have an error in your SQL syntax"},
		{"INSERT INTO t VALUES (1,1,'a','a','2026-01-01',1)", ok, "", ""},
		{"INSERT INTO t VALUES (1,1,'a','a','2026-01-01',2)", 1062, "23000", "Duplicate entry '1' for key"},
		{"INSERT INTO t VALUES (2,1,'a','a','2026-01-01',1)", 1062, "23000", "Duplicate entry '1' for key"},
		{"INSERT INTO t (id, v) VALUES (3, NULL)", 1048, "23000", "Column 'v' cannot be null"},
		{"INSERT INTO t (id) VALUES (3)", 1364, "HY000", "Field 'v' doesn't have a default value"},
		{"INSERT INTO t (id, v, s) VALUES (3, 1, 'abcd')", 1406, "22001", "Data too long for column"},
		{"INSERT INTO t (id, v) VALUES (3, 300)", 1264, "22003", "Out of range value for column"},
		{"INSERT INTO t (id, v, d) VALUES (3, 1, 'x')", 1292, "22007", "Incorrect"},
		{"INSERT INTO t (id, v) VALUES (3, 'x')", 1366, "HY000", "Incorrect"},
		{"INSERT INTO t (id, v, e) VALUES (3, 1, 'z')", 1265, "01000", "Data truncated for column"},
		{"INSERT INTO t (id, v) VALUES (1000, 1)", 3819, "HY000", "is violated"},
		{"INSERT INTO t (id, id) VALUES (1, 1)", 1110, "42000", "specified twice"},
		{"INSERT INTO t (id, v) VALUES (1)", 1136, "21S01", "Column count doesn't match"},
		{"INSERT INTO child VALUES (1, 77)", 1452, "23000", "Cannot add or update a child row"},
		{"INSERT INTO child VALUES (1, 1)", ok, "", ""},
		{"DELETE FROM t WHERE id = 1", 1451, "23000", "Cannot delete or update a parent row"},
		{"DROP TABLE t", 3730, "HY000", "referenced by a foreign key"},
		{"TRUNCATE t", 1701, "42000", "Cannot truncate"},
		{"CREATE TABLE a (x INT, x INT)", 1060, "42S21", "Duplicate column name 'x'"},
		{"CREATE TABLE a (x TEXT, KEY (x))", 1170, "42000", "without a key length"},
		{"CREATE TABLE a (x INT, KEY (nosuch))", 1072, "42000", "Key column 'nosuch' doesn't exist"},
		{"CREATE TABLE a (x INT AUTO_INCREMENT)", 1075, "42000", "there can be only one auto column"},
		{"CREATE INDEX uk ON t (v)", 1061, "42000", "Duplicate key name 'uk'"},
		{"ALTER TABLE t DROP COLUMN nosuch", 1091, "42000", "Can't DROP"},
		{"ALTER TABLE t DROP INDEX nosuch", 1091, "42000", "Can't DROP"},
		{"ALTER TABLE t ADD COLUMN v INT", 1060, "42S21", "Duplicate column name 'v'"},
		{"SELECT (SELECT 1, 2)", 1241, "21000", "Operand should contain 1 column"},
		{"SELECT (SELECT 1 UNION SELECT 2)", 1242, "21000", "Subquery returns more than 1 row"},
		{"SELECT 1 UNION SELECT 1, 2", 1222, "21000", "different number of columns"},
		{"SELECT nosuch(1)", 1305, "42000", "FUNCTION nosuch does not exist"},
		{"CALL nosuch()", 1305, "42000", "PROCEDURE nosuch does not exist"},
		{"SELECT ABS(1, 2)", 1582, "42000", "Incorrect parameter count"},
		{"SELECT @@nosuch", 1193, "HY000", "Unknown system variable 'nosuch'"},
		{"SET sql_mode = 'nosuch'", 1231, "42000", "can't be set to the value of"},
		{"SET GLOBAL version = 'x'", 1238, "HY000", "read only"},
		{"SELECT id, COUNT(*) FROM t", 1140, "42000", "In aggregated query without GROUP BY"},
		{"SELECT CAST('{' AS JSON)", 3141, "22032", "Invalid JSON"},
		{"CREATE TABLE a (x INT) PARTITION BY HASH (x)", 1235, "42000", "PARTITION BY HASH"},
		{"SELECT * FROM t PARTITION (p0)", 1747, "HY000", "non partitioned"},
		{"SELECT * FROM t INTO OUTFILE '/nowhere/x'", 1290, "HY000", "secure-file-priv"},
		{"LOAD DATA INFILE '/etc/passwd' INTO TABLE t", 1290, "HY000", "secure-file-priv"},
		{"EXECUTE nosuch", 1243, "HY000", "Unknown prepared statement handler"},
		{"CREATE PROCEDURE p() SELECT 1", ok, "", ""},
		{"CREATE PROCEDURE p() SELECT 1", 1304, "42000", "PROCEDURE p already exists"},
		{"CALL p(1)", 1318, "42000", ""},
		{"SELECT * FROM t a, t a", 1066, "42000", "Not unique table/alias"},
		{"DROP TRIGGER nosuch", 1360, "HY000", "Trigger does not exist"},
		{"CREATE VIEW w AS SELECT nosuch FROM t", 1054, "42S22", "Unknown column"},
		{"DROP VIEW nosuch", 1051, "42S02", "Unknown table"},
		{"SELECT * FROM t ORDER BY nosuch", 1054, "42S22", "Unknown column"},
		{"SELECT ST_X('a')", -2, "", ""},
		{"SET innodb_lock_wait_timeout = 7", ok, "", ""},
		{"SELECT * FROM t WHERE 'a' REGEXP '['", 3696, "HY000", ""},
		{"KILL QUERY CONNECTION_ID()", -2, "", ""},
	} {
		_, err := drain(c, step.query)
		num, state, message := number(err)
		if step.num == -2 {
			continue // whatever it answers, the connection has to live on
		}
		if num != step.num || step.state != "" && state != step.state || !strings.Contains(message, step.part) {
			t.Errorf("%s\n  want %d %s %q\n  got  %d %s %q", step.query, step.num, step.state, step.part, num, state, message)
		}
	}
}

func TestMapErrorByKind(t *testing.T) {
	for _, tc := range []struct {
		err   error
		num   int
		state string
	}{
		{sql.NewUniqueKeyErr("[1]", true, nil), 1062, "23000"},
		{sql.NewWrappedInsertError(nil, sql.NewUniqueKeyErr("[1]", false, nil)), 1062, "23000"},
		{fmt.Errorf("insert: %w", mysql.NewSQLError(1205, "HY000", "waited")), 1205, "HY000"},
		{mysql.NewSQLError(1062, "", "x"), 1062, "23000"},
		{mysql.NewSQLError(1105, "", "context canceled"), 1317, "70100"},
		{sql.ErrSyntaxError.New(errPartitioning("x").Error()), 1235, "42000"},
		{context.Canceled, 1317, "70100"},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), 1317, "70100"},
		{errors.New("something new"), 1105, "HY000"},
		{sql.ErrLockDeadlock.New("x"), 1213, "40001"},
		{sql.ErrReadOnlyTransaction.New(), 1792, "25006"},
		{&txn.Error{Code: txn.Deadlock}, 1213, "40001"},
		{fmt.Errorf("commit: %w", &txn.Error{Code: txn.LockLost}), 1213, "40001"},
		{&txn.Error{Code: txn.Conflict}, 1213, "40001"},
		{&txn.Error{Code: txn.LockTimeout}, 1205, "HY000"},
		{&txn.Error{Code: txn.WouldBlock}, 3572, "HY000"},
		{&txn.Error{Code: txn.ReadOnly}, 1792, "25006"},
		{&txn.Error{Code: txn.Interrupted}, 1317, "70100"},
		{&txn.Error{Code: txn.SchemaChanged}, 1412, "HY000"},
		{&txn.Error{Code: txn.SnapshotTooOld}, 1412, "HY000"},
		{&txn.Error{Code: txn.TooLarge}, 1197, "HY000"},
		{&txn.Error{Code: txn.Unknown}, 1180, "HY000"},
		{&txn.Error{Code: txn.Unavailable}, 1030, "HY000"},
		{&txn.Error{Code: txn.Bug}, 1815, "HY000"},
	} {
		m := MapError(tc.err)
		require.Equal(t, tc.num, m.Num, "%v", tc.err)
		require.Equal(t, tc.state, m.State, "%v", tc.err)
		again := MapError(m)
		require.Equal(t, m.Num, again.Num, "mapping twice is mapping once")
		require.Equal(t, m.State, again.State)
		require.Equal(t, tc.num == 1180, ClosesConnection(tc.err))
	}
	require.Nil(t, MapError(nil))
}

// An error of a transaction keeps its number where the engine has made a text of it, whatever else that says.
func TestMapTransactionText(t *testing.T) {
	id := storage.TxnID{Start: 0x6880d26764c0001, Gateway: 0x2000000000003, Seq: 0x29}
	late := fmt.Errorf("extend the oracle's window: %w", context.DeadlineExceeded)
	for code, known := range transactionErrors {
		for _, e := range []*txn.Error{{Code: code}, {Code: code, Txn: id}, {Code: code, Err: late}, {Code: code, Txn: id, Detail: "x", Err: context.Canceled}} {
			for _, text := range []string{e.Error(), "users and variables: " + e.Error()} {
				require.Equal(t, known.num, MapError(mysql.NewSQLError(1105, "", "%s", text)).Num, text)
			}
		}
	}
	for _, text := range []string{"transaction: nothing of ours", "syntax error near 'a: transaction: deadlock: x'",
		"'a: transaction: outcome unknown: x': not JSON", "a: transaction: deadlock"} { // as clients may write
		require.NotContains(t, []int{1213, 1180}, MapError(mysql.NewSQLError(1105, "", "%s", text)).Num, text)
	}
	require.Equal(t, 1317, MapError(mysql.NewSQLError(1105, "", "read: context canceled")).Num)
}

// Every kind's own message must be recognised after the engine has flattened it.
func TestRulesRecogniseTheirOwnText(t *testing.T) {
	for _, r := range rules {
		if r.kind == nil {
			continue
		}
		flat := verb.ReplaceAllString(strings.ReplaceAll(r.kind.Message, "%q", `"x"`), "7")
		require.True(t, r.text.MatchString(flat), flat)
	}
}
