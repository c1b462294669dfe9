package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A join through an index of integers finds what it finds without: 1.5 is not 2.
func TestJoinsByKeysOfOtherTypes(t *testing.T) {
	_, db := app(t, "CREATE TABLE a (id INT PRIMARY KEY, v INT, w VARCHAR(5), KEY (v))")
	run(t, db, "INSERT INTO a VALUES (-1, -1, 'm'), (1, 1, 'n'), (2, 2, 'o'), (3, 3, 'p')")
	run(t, db, "CREATE TABLE d (n INT PRIMARY KEY, x DECIMAL(10,3), f DOUBLE)")
	run(t, db, "INSERT INTO d VALUES (1, 1.5, 1.5), (2, 2, 2), (3, 2.4, 2.4), (4, -0.6, -0.6), (5, NULL, NULL)")
	for _, on := range []string{"a.id = d.x", "a.id = d.f", "a.v = d.x", "d.f = a.v"} {
		require.Equal(t, []string{"2,2"}, query(t, db, "SELECT n, a.id FROM d JOIN a ON "+on), on)
		require.Equal(t, []string{"2,2"}, query(t, db, "SELECT /*+ LOOKUP_JOIN(d,a) */ n, a.id FROM d JOIN a ON "+on), on)
		require.Equal(t, []string{"1,NULL", "2,2", "3,NULL", "4,NULL", "5,NULL"},
			query(t, db, "SELECT n, a.id FROM d LEFT JOIN a ON "+on+" ORDER BY n"), on)
		require.Equal(t, []string{"2"}, query(t, db, "SELECT n FROM d WHERE EXISTS (SELECT 1 FROM a WHERE "+on+")"), on)
		require.Equal(t, []string{"1", "3", "4", "5"}, query(t, db, "SELECT n FROM d WHERE NOT EXISTS (SELECT 1 FROM a WHERE "+on+") ORDER BY n"), on)
	}
	run(t, db, "DELETE a FROM a JOIN d ON a.id = d.x WHERE d.n <> 2")
	require.Equal(t, []string{"-1", "1", "2", "3"}, query(t, db, "SELECT id FROM a ORDER BY id"))
}
