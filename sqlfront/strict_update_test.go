package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// UPDATE refuses a number that the column cannot hold and changes no row of the
// statement; IGNORE and a mode that is not strict take the nearest one.
func TestUpdateOutOfRange(t *testing.T) {
	_, db := app(t, "CREATE TABLE s (id INT PRIMARY KEY, v TINYINT, u SMALLINT UNSIGNED)")
	run(t, db, "INSERT INTO s VALUES (1, 1, 1), (2, 120, 2), (3, 3, NULL)")
	c := connection(t, db)
	for _, q := range []string{
		"UPDATE s SET v = v + 10", "UPDATE s SET v = -300 WHERE id = 2", "UPDATE s SET u = 70000", "UPDATE s SET u = -1",
		"UPDATE s a JOIN s b ON a.id = b.id SET a.v = b.v + 100",
	} {
		fails(t, c, 1264, q)
		require.Equal(t, []string{"1,1,1", "2,120,2", "3,3,NULL"}, query(t, c, "SELECT * FROM s ORDER BY id"), q)
	}
	run(t, c, "UPDATE s SET v = v + 7, u = 65535 WHERE id = 2")
	require.Equal(t, []string{"2,127,65535"}, query(t, c, "SELECT * FROM s WHERE id = 2"))
	run(t, c, "UPDATE IGNORE s SET v = v + 10 WHERE id = 2")
	run(t, c, "SET sql_mode = ''")
	run(t, c, "UPDATE s SET v = 1000 WHERE id = 1")
	require.Equal(t, []string{"127", "127"}, query(t, c, "SELECT v FROM s WHERE id < 3"))
}
