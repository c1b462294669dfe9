package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRowLockDurability(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
	a, b := connection(t, db), connection(t, db)
	show := "SHOW VARIABLES LIKE 'row_lock_durability'"
	require.Equal(t, []string{"row_lock_durability,memory"}, query(t, a, show))
	fails(t, a, 1231, "SET row_lock_durability = 'sometimes'")
	run(t, a, "SET row_lock_durability = REPLICATED")
	require.Equal(t, []string{"row_lock_durability,replicated"}, query(t, a, show))
	require.Equal(t, []string{"row_lock_durability,memory"}, query(t, b, show), "the other session keeps its own")

	// The statement is answered after its locks are in the log, one round for
	// what it locks on a shard; in the other session no log is asked.
	require.NoError(t, s.coordinator.Flush(t.Context()))
	rounds := func(of func()) uint64 {
		before := s.node.Router().Rounds()
		of()
		return s.node.Router().Rounds() - before
	}
	lock := "SELECT v FROM t WHERE id = 1 FOR UPDATE"
	run(t, a, "BEGIN")
	require.Equal(t, uint64(1), rounds(func() { query(t, a, lock) }))
	require.Zero(t, rounds(func() { query(t, a, lock) }), "they are written down already")
	run(t, b, "BEGIN")
	require.Zero(t, rounds(func() { query(t, b, "SELECT v FROM t WHERE id = 2 FOR UPDATE") }))
	run(t, b, "ROLLBACK")

	// They exclude like others, and are free after COMMIT and ROLLBACK.
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		fails(t, b, 3572, lock+" NOWAIT")
		run(t, a, "UPDATE t SET v = v + 1 WHERE id IN (1, 2)", end)
		require.Len(t, query(t, b, "SELECT v FROM t FOR UPDATE NOWAIT"), 3)
		run(t, a, "BEGIN")
		query(t, a, lock)
	}
	run(t, a, "COMMIT", "SET GLOBAL row_lock_durability = replicated")
	defer run(t, a, "SET GLOBAL row_lock_durability = memory")
	require.Equal(t, []string{"row_lock_durability,replicated"}, query(t, connection(t, db), show))
	require.Equal(t, []string{"1,2", "2,3", "3,3"}, query(t, a, "SELECT * FROM t ORDER BY id"))

	// A statement that is its own transaction needs no record: it ends with its
	// answer.
	require.NoError(t, s.coordinator.Flush(t.Context()))
	require.Equal(t, uint64(1), rounds(func() { run(t, a, "UPDATE t SET v = 9 WHERE id = 3") }))
}
