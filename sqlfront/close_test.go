package sqlfront

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCloseEndsWhatIsOpen(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 10 WHERE id = 1")
	done := make(chan error, 1)
	go func() { done <- execErr(b, "UPDATE t SET v = 20 WHERE id = 1") }()
	s.waiting(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, s.server.Close(ctx))
	require.Error(t, <-done)
	_, err := s.server.Dial(ctx)
	require.ErrorIs(t, err, ErrClosed)
	s.stopNode(ctx)
	s.start()
	require.Equal(t, []string{"1", "2"}, query(t, s.db("app", ""), "SELECT v FROM t ORDER BY id"))
}

func TestPersistedVariables(t *testing.T) {
	s, db := app(t)
	run(t, db, "SET PERSIST max_allowed_packet = 4194304")
	s.stop()
	s.start()
	require.Equal(t, []string{"4194304"}, query(t, s.db("app", ""), "SELECT @@GLOBAL.max_allowed_packet"))
}

func TestConvertCharacterSet(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (s VARCHAR(20) PRIMARY KEY, n INT) COLLATE utf8mb4_0900_bin", "INSERT INTO t VALUES ('a', 1), ('B', 2)")
	require.Empty(t, query(t, db, "SELECT n FROM t WHERE s = 'b'"))
	run(t, db, "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci")
	require.Equal(t, []string{"2"}, query(t, db, "SELECT n FROM t WHERE s = 'b'"))
	require.Equal(t, 1062, number(execErr(db, "INSERT INTO t VALUES ('A', 3)")))
}

func TestDescriptionsDoNotHoldUpChanges(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	require.Equal(t, []string{"t"}, query(t, a, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'app'"))
	query(t, a, "SHOW CREATE TABLE t")
	run(t, b, "SET lock_wait_timeout = 1", "ALTER TABLE t ADD COLUMN n INT")
}
