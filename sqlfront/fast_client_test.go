package sqlfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// rawClient speaks the MySQL protocol and shows every packet of an answer as it
// came, so that two servers can be compared byte by byte.
type rawClient struct {
	t            testing.TB
	conn         net.Conn
	capabilities uint32
}

// The capabilities that change what a server sends.
const (
	clientFoundRows       = 0x2
	clientConnectWithDB   = 0x8
	clientProtocol41      = 0x200
	clientSSL             = 0x800
	clientTransactions    = 0x2000
	clientSecure          = 0x8000
	clientMultiStatements = 0x10000
	clientMultiResults    = 0x20000
	clientPluginAuth      = 0x80000
	clientDeprecateEOF    = 0x1000000
)

// rawConnect logs in without a password.
func rawConnect(t testing.TB, s *Server, user, database string, more uint32) *rawClient {
	conn, err := s.Dial(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{t: t, conn: conn, capabilities: more | clientProtocol41 | clientSecure | clientTransactions | clientPluginAuth | clientMultiResults}
	if database != "" {
		c.capabilities |= clientConnectWithDB
	}
	c.read() // the greeting
	sequence := byte(1)
	if more&clientSSL != 0 {
		b := binary.LittleEndian.AppendUint32(nil, c.capabilities)
		c.write(sequence, append(b, make([]byte, 28)...))
		c.conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		sequence++
	}
	b := binary.LittleEndian.AppendUint32(nil, c.capabilities)
	b = binary.LittleEndian.AppendUint32(b, 1<<24-1)
	b = append(b, 255) // utf8mb4_0900_ai_ci
	b = append(b, make([]byte, 23)...)
	b = append(append(b, user...), 0, 0) // and no password
	if database != "" {
		b = append(append(b, database...), 0)
	}
	b = append(append(b, "mysql_native_password"...), 0)
	c.write(sequence, b)
	answer := c.read()
	if answer[0] == 0xFE { // another method
		c.write(sequence+2, nil)
		answer = c.read()
	}
	require.Equal(t, byte(0), answer[0], "login: %q", answer)
	return c
}

func (c *rawClient) write(sequence byte, body []byte) {
	packet := append([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), sequence}, body...)
	_, err := c.conn.Write(packet)
	require.NoError(c.t, err)
}

// read returns the body of one packet.
func (c *rawClient) read() []byte {
	body, err := c.tryRead()
	require.NoError(c.t, err)
	return body
}

func (c *rawClient) tryRead() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(c.conn, header[:]); err != nil {
		return nil, err
	}
	body := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	_, err := io.ReadFull(c.conn, body)
	return body, err
}

// query runs a text and returns the packets of its answers.
func (c *rawClient) query(text string) [][]byte {
	c.write(0, append([]byte{0x03}, text...))
	return c.results()
}

// results reads results until the last one.
func (c *rawClient) results() (packets [][]byte) {
	for {
		first := c.read()
		packets = append(packets, first)
		status := uint16(0)
		switch first[0] {
		case 0xFF:
			return packets
		case 0x00:
			status = okStatus(first)
		default:
			rows := c.resultSet(first)
			packets = append(packets, rows...)
			last := rows[len(rows)-1]
			switch {
			case last[0] == 0xFF:
				return packets
			case c.capabilities&clientDeprecateEOF != 0:
				status = okStatus(last)
			default:
				status = binary.LittleEndian.Uint16(last[3:])
			}
		}
		if status&0x8 == 0 { // no more results
			return packets
		}
	}
}

func okStatus(packet []byte) uint16 {
	b := packet[1:]
	for range 2 { // affected rows, insert id
		switch b[0] {
		case 0xFC:
			b = b[3:]
		case 0xFD:
			b = b[4:]
		case 0xFE:
			b = b[9:]
		default:
			b = b[1:]
		}
	}
	return binary.LittleEndian.Uint16(b)
}

func (c *rawClient) resultSet(first []byte) (packets [][]byte) {
	for range int(first[0]) {
		packets = append(packets, c.read())
	}
	if c.capabilities&clientDeprecateEOF == 0 {
		packets = append(packets, c.read())
	}
	for {
		p := c.read()
		packets = append(packets, p)
		if p[0] == 0xFF || p[0] == 0xFE && len(p) < 1<<16 {
			return packets
		}
	}
}

// prepare prepares a text; the id is 0 if that failed.
func (c *rawClient) prepare(text string) (id uint32, packets [][]byte) {
	c.write(0, append([]byte{0x16}, text...))
	first := c.read()
	packets = append(packets, first)
	if first[0] != 0 {
		return 0, packets
	}
	columns, params := binary.LittleEndian.Uint16(first[5:]), binary.LittleEndian.Uint16(first[7:])
	for _, n := range []uint16{params, columns} {
		for range n {
			packets = append(packets, c.read())
		}
		if n > 0 && c.capabilities&clientDeprecateEOF == 0 {
			packets = append(packets, c.read())
		}
	}
	return binary.LittleEndian.Uint32(first[1:]), packets
}

// execute runs a prepared statement. Parameters are nil, int64, uint64, int8,
// float64, string or []byte.
func (c *rawClient) execute(id uint32, parameters []any) [][]byte {
	c.write(0, c.execution(id, parameters))
	return c.results()
}

func (c *rawClient) execution(id uint32, parameters []any) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{0x17}, id)
	b = append(b, 0, 1, 0, 0, 0)
	if n := len(parameters); n > 0 {
		nulls := make([]byte, (n+7)/8)
		var types, values []byte
		for i, p := range parameters {
			switch p := p.(type) {
			case nil:
				nulls[i/8] |= 1 << (i % 8)
				types = append(types, 6, 0)
			case int8:
				types, values = append(types, 1, 0), append(values, byte(p))
			case int32:
				types, values = append(types, 3, 0), binary.LittleEndian.AppendUint32(values, uint32(p))
			case int64:
				types, values = append(types, 8, 0), binary.LittleEndian.AppendUint64(values, uint64(p))
			case uint64:
				types, values = append(types, 8, 0x80), binary.LittleEndian.AppendUint64(values, p)
			case float64:
				types, values = append(types, 5, 0), binary.LittleEndian.AppendUint64(values, math.Float64bits(p))
			case string:
				types, values = append(types, 253, 0), appendSizedText(values, p)
			case []byte:
				types, values = append(types, 252, 0), appendSizedText(values, string(p))
			default:
				c.t.Fatalf("parameter of type %T", p)
			}
		}
		b = append(append(append(append(b, nulls...), 1), types...), values...)
	}
	return b
}

func appendSizedText(b []byte, s string) []byte {
	if len(s) < 251 {
		return append(append(b, byte(len(s))), s...)
	}
	return append(binary.LittleEndian.AppendUint16(append(b, 0xFC), uint16(len(s))), s...)
}

// shown is packets for a message of a test.
func shown(packets [][]byte) string {
	var out bytes.Buffer
	for _, p := range packets {
		fmt.Fprintf(&out, "  %q\n", p)
	}
	return out.String()
}

// cursor runs a prepared statement with a cursor of the server, and fetches two rows
// at a time until there are no more.
func (c *rawClient) cursor(id uint32, parameters []any) (packets [][]byte) {
	packets, open := c.openCursor(id, parameters)
	for open {
		var part [][]byte
		part, open = c.fetch(id, 2)
		packets = append(packets, part...)
	}
	return packets
}

// openCursor runs a prepared statement with a cursor of the server.
func (c *rawClient) openCursor(id uint32, parameters []any) (packets [][]byte, open bool) {
	b := c.execution(id, parameters)
	b[5] = 1 // a cursor to read
	c.write(0, b)
	first := c.read()
	packets = append(packets, first)
	if first[0] == 0xFF || first[0] == 0 {
		return packets, false
	}
	for range int(first[0]) + 1 { // columns, and their end
		packets = append(packets, c.read())
	}
	require.NotZero(c.t, c.status(packets[len(packets)-1])&0x40, "the cursor exists")
	return packets, true
}

// fetch reads n rows from a cursor, and whether there may be more.
func (c *rawClient) fetch(id uint32, n int) (packets [][]byte, more bool) {
	c.write(0, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32([]byte{0x1C}, id), uint32(n)))
	for {
		p := c.read()
		packets = append(packets, p)
		switch p[0] {
		case 0xFF:
			return packets, false
		case 0xFE:
			return packets, c.status(p)&0x80 == 0 // the last row was sent
		}
	}
}

// status is what the end of columns or rows says of the connection.
func (c *rawClient) status(end []byte) uint16 {
	if c.capabilities&clientDeprecateEOF != 0 {
		return okStatus(end)
	}
	return binary.LittleEndian.Uint16(end[3:])
}
