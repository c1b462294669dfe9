package sqlfront

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cursorStack is a server that also speaks TLS, with a table t of 400 rows.
func cursorStack(t *testing.T) *stack {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	s := newStack(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}})
	run(t, s.db("", ""), "CREATE DATABASE app")
	run(t, s.db("app", ""), "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), KEY (k))", fillTwin(400))
	return s
}

// overCursors runs a test for the ways of a connection and of the statements.
func overCursors(t *testing.T, test func(t *testing.T, s *stack, capabilities uint32, fast string)) {
	s := cursorStack(t)
	for _, capabilities := range []uint32{0, clientDeprecateEOF, clientDeprecateEOF | clientSSL} {
		for _, fast := range []string{"ON", "OFF"} {
			t.Run(fmt.Sprintf("%x/%s", capabilities, fast), func(t *testing.T) { test(t, s, capabilities, fast) })
		}
	}
}

func cursorClient(t *testing.T, s *stack, capabilities uint32, fast string) *rawClient {
	c := rawConnect(t, s.server, "root", "app", capabilities)
	c.query("SET SESSION rowlock_fast_path = " + fast)
	return c
}

// A client takes its time between the rows. What others do meanwhile does not reach them, and neither does what the same
// session does.
func TestCursorWaitsForItsClient(t *testing.T) {
	overCursors(t, func(t *testing.T, s *stack, capabilities uint32, fast string) {
		c, other := cursorClient(t, s, capabilities, fast), cursorClient(t, s, capabilities, fast)
		for _, text := range []string{"SELECT id, c FROM t WHERE id BETWEEN 1 AND ?", "SELECT id, REPEAT(c, 2) FROM t WHERE k + id >= 0 ORDER BY id LIMIT ?"} {
			id, _ := c.prepare(text)
			otherID, _ := other.prepare(text)
			for i, last := range []int64{0, 1, 127, 128, 129, 400} {
				want := rowPackets(c.execute(id, []any{last}))
				require.Len(t, want, int(last))
				c.query([]string{"ROLLBACK", "BEGIN"}[i%2])
				packets, open := c.openCursor(id, []any{last})
				for open {
					if last == 129 {
						time.Sleep(100 * time.Millisecond) // the engine looks after a client that is this late
					}
					other.query("SELECT id, REPEAT('x', 30) FROM t")
					other.cursor(otherID, []any{int64(10)})
					require.Equal(t, byte(0), c.query("SET @x = 1")[0][0])
					var part [][]byte
					part, open = c.fetch(id, 100)
					packets = append(packets, part...)
				}
				require.Equal(t, want, rowPackets(packets), "%s, %d", text, last)
				c.query("ROLLBACK")
			}
		}
	})
}

// The statement of a cursor is over when the client hears of the cursor: it holds no snapshot, no lock and no name of a table.
func TestCursorHoldsNothing(t *testing.T) {
	overCursors(t, func(t *testing.T, s *stack, capabilities uint32, fast string) {
		c, other := cursorClient(t, s, capabilities, fast), cursorClient(t, s, capabilities, fast)
		id, _ := c.prepare("SELECT id FROM t WHERE id <= ? FOR UPDATE")
		_, open := c.openCursor(id, []any{int64(300)})
		require.True(t, open)
		require.Equal(t, byte(0), other.query("UPDATE t SET k = k + 1")[0][0])
		require.Equal(t, byte(0), other.query("ALTER TABLE t COMMENT = 'while a cursor is open'")[0][0])
		rows, _ := c.fetch(id, 299)
		require.Len(t, rowPackets(rows), 299)
		c.write(0, binary.LittleEndian.AppendUint32([]byte{0x1A}, id)) // reset
		require.Equal(t, byte(0), c.read()[0])
		_, open = c.openCursor(id, []any{int64(300)})
		require.True(t, open, "after a reset")
		c.write(0, binary.LittleEndian.AppendUint32([]byte{0x19}, id)) // close
		id, _ = c.prepare("SELECT id FROM t WHERE id <= ?")
		require.NotZero(t, id)
		_, open = c.openCursor(id, []any{int64(300)})
		require.True(t, open, "after a close")
		require.NoError(t, c.conn.Close())
	})
}

// A client that goes, and one whose connection is ended, leave no lock of a transaction whose cursor is open.
func TestCursorOfAConnectionThatEnds(t *testing.T) {
	s := cursorStack(t)
	other := cursorClient(t, s, 0, "ON")
	for _, capabilities := range []uint32{0, clientDeprecateEOF | clientSSL} {
		for _, killed := range []bool{false, true} {
			c := cursorClient(t, s, capabilities, "OFF")
			connection := rowText(c.query("SELECT CONNECTION_ID()"))
			id, _ := c.prepare("SELECT id FROM t WHERE id <= ? FOR UPDATE")
			c.query("BEGIN")
			_, open := c.openCursor(id, []any{int64(300)})
			require.True(t, open)
			if killed {
				require.Equal(t, byte(0), other.query("KILL QUERY " + connection)[0][0])
				_, open = c.fetch(id, 10)
				require.True(t, open, "no statement runs any more")
				require.Equal(t, byte(0), other.query("KILL " + connection)[0][0])
				_, err := c.tryRead()
				require.Error(t, err)
			} else {
				require.NoError(t, c.conn.Close())
			}
			require.Equal(t, byte(0), other.query("UPDATE t SET k = k + 1")[0][0])
		}
	}
}

// rowText is the only value of a result of one row.
func rowText(packets [][]byte) string {
	row := packets[len(packets)-2]
	return string(row[1:])
}

// A cursor's statement fails with the error of the statement.
func TestCursorErrors(t *testing.T) {
	overCursors(t, func(t *testing.T, s *stack, capabilities uint32, fast string) {
		c := cursorClient(t, s, capabilities, fast)
		for text, want := range map[string]int{
			"INSERT INTO t VALUES (?, 0, 'twice')":                          1062,
			"SELECT (SELECT id FROM t WHERE id > ?)":                        1242,
			"SELECT /*+ MAX_EXECUTION_TIME(20) */ SLEEP(30), id + ? FROM t": 3024,
		} {
			id, _ := c.prepare(text)
			for range 2 {
				packets, open := c.openCursor(id, []any{int64(1)})
				require.False(t, open)
				require.Equal(t, byte(0xFF), packets[0][0], text)
				require.Equal(t, want, int(binary.LittleEndian.Uint16(packets[0][1:])), "%s: %q", text, packets[0])
				require.Equal(t, c.execute(id, []any{int64(1)}), packets, "as without a cursor")
			}
		}
	})
}
