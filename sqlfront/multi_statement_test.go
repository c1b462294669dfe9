package sqlfront

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of several statements in one text those behind an error are not run, and the
// connection goes on.
func TestMultiStatementEndsAtAnError(t *testing.T) {
	s, db := app(t, "CREATE TABLE m (id INT PRIMARY KEY)")
	address, err := s.server.Listen("127.0.0.1:0")
	require.NoError(t, err)
	multi, err := sql.Open("mysql", fmt.Sprintf("root@tcp(%s)/app?multiStatements=true", address))
	require.NoError(t, err)
	t.Cleanup(func() { multi.Close() })
	c := connection(t, multi)
	for _, broken := range []string{"INSERT INTO m VALUES (1)", "SELECT bad bad bad", "SELECT * FROM nowhere"} {
		run(t, db, "DELETE FROM m")
		_, err := c.ExecContext(t.Context(), "INSERT INTO m VALUES (1); "+broken+"; INSERT INTO m VALUES (2)")
		require.Error(t, err, broken)
		for i := range 3 {
			require.Equal(t, []string{fmt.Sprintf("%d,1", i)}, query(t, c, fmt.Sprintf("SELECT %d, GROUP_CONCAT(id) FROM m", i)), broken)
		}
	}
}
