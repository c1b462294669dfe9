package wire

import (
	"context"
	dsql "database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

// scalar runs a query of one value; NULL is "NULL".
func scalar(t *testing.T, c *dsql.Conn, query string) (string, error) {
	t.Helper()
	var v dsql.NullString
	if err := c.QueryRowContext(context.Background(), query).Scan(&v); err != nil {
		return "", err
	}
	if !v.Valid {
		return "NULL", nil
	}
	return v.String, nil
}

func TestFunctions(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	for query, want := range map[string]string{
		`SELECT 'Straße' REGEXP 'STRA.E'`:                                             "1",
		`SELECT 'Straße' NOT REGEXP '^s'`:                                             "0",
		`SELECT NULL REGEXP 'a'`:                                                      "NULL",
		`SELECT 'a' RLIKE NULL`:                                                       "NULL",
		`SELECT 'abab' REGEXP '^(ab)\\1$'`:                                            "1",
		`SELECT 'ab' REGEXP 'a(?=b)'`:                                                 "1",
		`SELECT 'x7' REGEXP '^[[:alpha:]][[:digit:]]$'`:                               "1",
		`SELECT REGEXP_LIKE('ABC', 'abc', 'c')`:                                       "0",
		`SELECT REGEXP_LIKE('ABC', 'abc', 'ci')`:                                      "1",
		`SELECT REGEXP_LIKE('a\nb', '^b$', 'm')`:                                      "1",
		`SELECT REGEXP_LIKE('a\nb', 'a.b')`:                                           "0",
		`SELECT REGEXP_LIKE('a\nb', 'a.b', 'n')`:                                      "1",
		`SELECT REGEXP_LIKE('ABC' COLLATE utf8mb4_0900_bin, 'abc')`:                   "0",
		`SELECT REGEXP_INSTR('äöü äöü', 'ö')`:                                         "2",
		`SELECT REGEXP_INSTR('äöü äöü', 'ö', 3)`:                                      "6",
		`SELECT REGEXP_INSTR('äöü äöü', 'ö', 1, 2)`:                                   "6",
		`SELECT REGEXP_INSTR('äöü äöü', 'ö', 1, 2, 1)`:                                "7",
		`SELECT REGEXP_INSTR('abc', 'x')`:                                             "0",
		`SELECT REGEXP_SUBSTR('äbc äbd', 'ä..', 2)`:                                   "äbd",
		`SELECT REGEXP_SUBSTR('abc', 'x')`:                                            "NULL",
		`SELECT REGEXP_REPLACE('John Smith', '(\\w+) (\\w+)', '$2, $1')`:              "Smith, John",
		`SELECT REGEXP_REPLACE('aaa', 'a', 'ä')`:                                      "äää",
		`SELECT REGEXP_REPLACE('aaa', 'a', 'b', 2)`:                                   "abb",
		`SELECT REGEXP_REPLACE('aaa', 'a', 'b', 1, 2)`:                                "aba",
		`SELECT REGEXP_REPLACE('a', 'a', '\\$1')`:                                     "$1",
		`SELECT REPEAT('ab', 3)`:                                                      "ababab",
		`SELECT REPEAT('ab', -1)`:                                                     "",
		`SELECT REPEAT('0125', 200000000)`:                                            "NULL",
		`SELECT CONCAT('[', SPACE(3), ']')`:                                           "[   ]",
		`SELECT SPACE(4000000000)`:                                                    "NULL",
		`SELECT LPAD('ä', 3, 'xy')`:                                                   "xyä",
		`SELECT RPAD('äbcd', 2, 'x')`:                                                 "äb",
		`SELECT RPAD('a', 4, 'xy')`:                                                   "axyx",
		`SELECT RPAD('a', 4000000000, 'x')`:                                           "NULL",
		`SELECT CAST('a' AS BINARY(4294967295))`:                                      "NULL",
		`SELECT CAST('a' AS BINARY(2))`:                                               "a\x00",
		`SELECT LOAD_FILE('/etc/hostname')`:                                           "NULL",
		`SELECT COUNT(*) FROM (SELECT 'ab' x UNION SELECT 'cd') y WHERE x REGEXP 'B'`: "1",
	} {
		got, err := scalar(t, c, query)
		require.NoError(t, err, query)
		require.Equal(t, want, got, query)
	}
	for query, want := range map[string]int{
		`SELECT 'a' REGEXP ''`:                                        3685,
		`SELECT 'a' REGEXP '('`:                                       3691,
		`SELECT 'a' REGEXP '*'`:                                       3688,
		`SELECT REGEXP_INSTR('abc', 'b', 9)`:                          3686,
		`SELECT REGEXP_REPLACE('a', 'a', '$7')`:                       3686,
		`SELECT REGEXP_LIKE('a', 'a', 'z')`:                           1210,
		`SELECT REGEXP_INSTR('a', 'a', 1, 1, 2)`:                      1210,
		`SELECT REGEXP_LIKE('a')`:                                     1582,
		`SELECT REGEXP_LIKE(CONCAT(REPEAT('a', 64), 'b'), '^(a+)+$')`: 3699,
	} {
		_, err := scalar(t, c, query)
		num, _, _ := number(err)
		require.Equal(t, want, num, "%s: %v", query, err)
	}
	for query, function := range map[string]string{
		`SELECT REPEAT('0125', 200000000)`: "repeat",
		`SELECT SPACE(200000000)`:          "space",
		`SELECT LPAD('a', 200000000, 'b')`: "lpad",
	} {
		_, err = drain(c, query)
		require.NoError(t, err)
		var level, message string
		var code int
		require.NoError(t, c.QueryRowContext(context.Background(), "SHOW WARNINGS").Scan(&level, &code, &message), query)
		require.Equal(t, 1301, code)
		require.Contains(t, message, function+"() was larger than max_allowed_packet")
	}
}

func TestVariables(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	for query, want := range map[string]string{
		"SELECT @@innodb_lock_wait_timeout":   "50",
		"SELECT @@snapshot_isolation":         "1",
		"SELECT @@row_lock_durability":        "memory",
		"SELECT @@transaction_isolation":      "REPEATABLE-READ",
		"SELECT @@innodb_deadlock_detect":     "1",
		"SELECT @@innodb_rollback_on_timeout": "0",
		"SELECT @@version":                    Version,
		"SELECT VERSION()":                    Version,
		"SELECT @@local_infile":               "0",
		"SELECT @@secure_file_priv":           "NULL",
		"SELECT @@collation_server":           "utf8mb4_0900_ai_ci",
		"SELECT @@max_allowed_packet":         "67108864",
	} {
		got, err := scalar(t, c, query)
		require.NoError(t, err, query)
		require.Equal(t, want, got, query)
	}
	for _, query := range []string{"SET innodb_lock_wait_timeout = 5", "SET SESSION snapshot_isolation = OFF", "SET row_lock_durability = REPLICATED", "SET GLOBAL innodb_lock_wait_timeout = 1073741824"} {
		_, err := drain(c, query)
		require.NoError(t, err, query)
	}
	for _, query := range []string{"SET row_lock_durability = 'sometimes'", "SET GLOBAL row_lock_durability = 2", "SET innodb_lock_wait_timeout = 0", "SET innodb_lock_wait_timeout = 1073741825"} {
		_, err := drain(c, query)
		require.Error(t, err, query)
	}
	got, err := scalar(t, c, "SELECT @@innodb_lock_wait_timeout")
	require.NoError(t, err)
	require.Equal(t, "5", got)
	_, err = drain(c, "SET GLOBAL innodb_lock_wait_timeout = 50")
	require.NoError(t, err)
}
