package sqlfront

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatementsOverTheWire(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	run(t, db, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT, s VARCHAR(50), KEY v (v), UNIQUE KEY s (s))")
	app := s.db("app", "")
	run(t, app, "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 20, 'c'), (4, NULL, NULL), (5, NULL, NULL)")
	require.Equal(t, []string{"2,20,b"}, query(t, app, "SELECT * FROM t WHERE id = 2"))
	require.Equal(t, []string{"2", "3"}, query(t, app, "SELECT id FROM t WHERE v = 20 ORDER BY id"))
	require.Equal(t, []string{"c", "b", "a"}, query(t, app, "SELECT s FROM t WHERE id BETWEEN 1 AND 3 ORDER BY id DESC"))
	require.Equal(t, []string{"3"}, query(t, app, "SELECT id FROM t WHERE s = 'C'"))
	require.Equal(t, []string{"5"}, query(t, app, "SELECT COUNT(*) FROM t"))
	run(t, app, "UPDATE t SET v = v + 1 WHERE v = 20", "DELETE FROM t WHERE id = 1")
	require.Equal(t, []string{"2,21", "3,21", "4,NULL", "5,NULL"}, query(t, app, "SELECT id, v FROM t ORDER BY id"))
	_, err := app.Exec("INSERT INTO t VALUES (9, 1, 'B')")
	require.ErrorContains(t, err, "1062")
	require.Equal(t, []string{"4"}, query(t, app, "SELECT COUNT(*) FROM t"))
}

func TestTransactions(t *testing.T) {
	s := newStack(t, Config{})
	run(t, s.db("", ""), "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1, 1), (2, 2)")
	db := s.db("app", "")
	ctx := context.Background()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	run(t, tx, "UPDATE t SET v = 100 WHERE id = 1", "INSERT INTO t VALUES (3, 3)", "SAVEPOINT p", "DELETE FROM t", "ROLLBACK TO p")
	require.Equal(t, []string{"1,100", "2,2", "3,3"}, query(t, tx, "SELECT * FROM t ORDER BY id"))
	require.Equal(t, []string{"1,1", "2,2"}, query(t, db, "SELECT * FROM t ORDER BY id"))
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"1,100", "2,2", "3,3"}, query(t, db, "SELECT * FROM t ORDER BY id"))

	tx, err = db.BeginTx(ctx, nil)
	require.NoError(t, err)
	run(t, tx, "DELETE FROM t")
	require.NoError(t, tx.Rollback())
	require.Equal(t, []string{"3"}, query(t, db, "SELECT COUNT(*) FROM t"))
}

func TestRestartKeepsEverything(t *testing.T) {
	s := newStack(t, Config{})
	run(t, s.db("", ""), "CREATE DATABASE app",
		"CREATE TABLE app.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v INT DEFAULT 7, KEY v (v))",
		"INSERT INTO app.t () VALUES (), (), ()",
		"USE app", "CREATE VIEW w AS SELECT v FROM t",
		"CREATE USER u IDENTIFIED BY 'p'")
	s.stop()
	s.start()
	db := s.db("app", "")
	run(t, db, "INSERT INTO t () VALUES ()")
	require.Equal(t, []string{"1,7", "2,7", "3,7", "4,7"}, query(t, db, "SELECT * FROM t ORDER BY id"))
	require.Equal(t, []string{"4"}, query(t, db, "SELECT COUNT(*) FROM w"))
	require.Equal(t, []string{"1"}, query(t, db, "SELECT COUNT(*) FROM mysql.user WHERE user = 'u'"))
}

func TestUsersOverTCP(t *testing.T) {
	s := newStack(t, Config{})
	open := func(account string) *sql.DB {
		addr, err := s.server.Listen("127.0.0.1:0")
		require.NoError(t, err)
		db, err := sql.Open("mysql", account+"@tcp("+addr.String()+")/")
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	root := open("root")
	run(t, root, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)", "CREATE USER u@localhost IDENTIFIED BY 'secret'", "GRANT SELECT ON app.* TO u@localhost")
	require.Equal(t, 1045, number(open("nobody").Ping()))
	require.Equal(t, 1045, number(open("u:wrong").Ping()))
	s.stop()
	s.start()
	user := open("u:secret")
	require.Empty(t, query(t, user, "SELECT * FROM app.t"))
	require.Error(t, execErr(user, "INSERT INTO app.t VALUES (1)"))
	run(t, open("root"), "INSERT INTO app.t VALUES (1)")
}
