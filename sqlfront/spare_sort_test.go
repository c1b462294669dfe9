package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
)

// A queue with a state and an index that has the order: a consumer locks the jobs
// it takes, not all that match.
func TestQueueByIndexLocksWhatItTakes(t *testing.T) {
	s, db := app(t, "CREATE TABLE q (id INT PRIMARY KEY, done INT NOT NULL, prio INT, KEY d (done, prio))")
	for id := range 60 {
		run(t, db, fmt.Sprintf("INSERT INTO q VALUES (%d, %d, %d)", id, id%2, id%7))
	}
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	run(t, b, "BEGIN")
	const take = "SELECT id FROM q WHERE done = 0 ORDER BY prio, id LIMIT 3 FOR UPDATE SKIP LOCKED"
	require.Equal(t, []string{"0", "14", "28"}, query(t, a, take))
	held, _ := s.lockCount(t)
	require.LessOrEqual(t, held, 20, "two locks for each row, and pages that double")
	require.Equal(t, []string{"42"}, query(t, b, take)[:1])
	run(t, a, "COMMIT")
	run(t, b, "COMMIT")
}

// A spared sort gives the rows that the sort gives.
func TestSparedSortsAgree(t *testing.T) {
	_, db := app(t, "CREATE TABLE r (id INT PRIMARY KEY, a INT, b BIGINT, c VARCHAR(5), KEY ab (a, b), KEY ca (c, a))")
	seed := explore.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	values := []string{"NULL", "-3", "0", "1", "2", "70000"}
	pick := func() string { return values[random.IntN(len(values))] }
	for id := range 150 {
		run(t, db, fmt.Sprintf("INSERT INTO r VALUES (%d, %s, %s, '%c')", id-75, pick(), pick(), 'a'+rune(random.IntN(3))))
	}
	c := connection(t, db)
	for range 40 {
		order := []string{"b, id", "b, id DESC", "b DESC, id", "id", "a, b, id", "a, id", "b + 1, id", "c, id"}[random.IntN(8)]
		where := []string{"a = 1", "a = 70000 AND b > -1", "a IS NULL", "a IN (0, 1)", "c = 'a'", "c = 'b' AND a = 2", "a = 1 AND b = 0", "a > 0"}[random.IntN(8)]
		q := fmt.Sprintf("SELECT id, a, b, c FROM r WHERE %s ORDER BY %s LIMIT %d", where, order, 1+random.IntN(8))
		run(t, c, "BEGIN")
		require.Equal(t, query(t, c, q), query(t, c, q+" FOR UPDATE SKIP LOCKED"), q)
		require.Equal(t, query(t, c, q), query(t, c, q+" FOR UPDATE"), q)
		run(t, c, "ROLLBACK")
	}
}
