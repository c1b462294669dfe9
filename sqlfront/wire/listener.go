package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dolthub/vitess/go/netutil"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// ListenerOptions are the limits of NewListener; zero values mean the defaults in brackets.
type ListenerOptions struct {
	MaxPacket      func() int    // bytes of one command, asked once per packet [the global max_allowed_packet]
	ConnectTimeout time.Duration // from accept to the end of the handshake [10 s]
	MaxConnections int           // error 1040 above it; 0 is no limit
}

const (
	defaultMaxPacket      = 64 << 20
	defaultConnectTimeout = 10 * time.Second
	handshakeMaxPacket    = 16 << 10
	maxFragment           = 1<<24 - 1 // a packet this long goes on in the next one
	comStmtPrepare        = 0x16
	capabilitySSL         = 0x800
	sslRequestSize        = 32
)

// NewListener wraps l: every accepted connection has a deadline for its handshake, is cut when a packet is longer than allowed,
// and gets FOR SHARE rewritten in COM_STMT_PREPARE, which the protocol layer parses with its own grammar before anybody else
// sees it. Behind TLS the packets cannot be seen: there only the deadline and the number of connections hold, and FOR SHARE in
// a prepared statement is a syntax error.
func NewListener(l net.Listener, o ListenerOptions) net.Listener {
	if o.MaxPacket == nil {
		o.MaxPacket = globalMaxPacket
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = defaultConnectTimeout
	}
	return &listener{Listener: l, options: o}
}

type listener struct {
	net.Listener
	options ListenerOptions
	open    atomic.Int64
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if n := l.open.Add(1); l.options.MaxConnections > 0 && n > int64(l.options.MaxConnections) {
			go l.turnAway(c)
			continue
		}
		limited := &conn{Conn: c, maxPacket: l.options.MaxPacket, closed: func() { l.open.Add(-1) }}
		limited.mu.handshake = time.Now().Add(l.options.ConnectTimeout)
		if err := limited.SetDeadline(time.Time{}); err != nil {
			_ = limited.Close()
			continue
		}
		return limited, nil
	}
}

// tooManyConnections is the first and last packet a refused client gets: ER_CON_COUNT_ERROR. Before the handshake an error has
// no SQLSTATE.
var tooManyConnections = errorPacket(0, 1040, "", "Too many connections")

func errorPacket(sequence byte, num uint16, state, message string) []byte {
	body := binary.LittleEndian.AppendUint16([]byte{0xFF}, num)
	if state != "" {
		body = append(append(body, '#'), state...)
	}
	body = append(body, message...)
	return append([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), sequence}, body...)
}

func (l *listener) turnAway(c net.Conn) {
	defer l.open.Add(-1)
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = c.Write(tooManyConnections)
	_ = c.Close()
}

// conn is one client's connection. Reads come from one goroutine at a time, as the protocol layer guarantees; the rest may be
// called from anywhere.
type conn struct {
	net.Conn
	maxPacket func() int
	closed    func()
	once      sync.Once
	finished  atomic.Bool // no command is read any more
	trusted   atomic.Bool // the handshake is over

	mu struct {
		sync.Mutex
		handshake time.Time // the deadline of the handshake; zero when it is over
	}

	// What Read works with.
	opaque  bool   // TLS has begun: the bytes mean nothing here
	buffer  []byte // what was read from the network; in is its unread part
	in      []byte
	ready   []byte // decided on and to be handed out
	body    int    // bytes of the current packet that go by unseen
	command int    // bytes of the current command so far
	chained bool   // the next packet continues the last

	preparing atomic.Bool // the last command was COM_STMT_PREPARE
	swap      swap
}

// limited finds our connection below what the protocol layer put around it.
func limited(c net.Conn) *conn {
	for {
		switch outer := c.(type) {
		case *conn:
			return outer
		case *secured:
			c = outer.Conn
		case *tls.Conn:
			c = outer.NetConn()
		case *netutil.ConnWithTimeouts:
			c = outer.Conn
		default:
			return nil
		}
	}
}

// authenticated ends the handshake: its deadline and its small packets.
func (c *conn) authenticated() {
	c.trusted.Store(true)
	c.mu.Lock()
	c.mu.handshake = time.Time{}
	c.mu.Unlock()
	_ = c.Conn.SetDeadline(time.Time{})
}

// finish lets the answer that is being written go out and ends the connection at the next read.
func (c *conn) finish() { c.finished.Store(true) }

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// SetDeadline implements net.Conn. During the handshake no deadline can be later than the handshake's.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(c.earlier(t)) }

// SetReadDeadline implements net.Conn, like SetDeadline.
func (c *conn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.earlier(t)) }

// SetWriteDeadline implements net.Conn, like SetDeadline.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.earlier(t)) }

func (c *conn) earlier(t time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.mu.handshake; !h.IsZero() && (t.IsZero() || h.Before(t)) {
		return h
	}
	return t
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		switch {
		case c.finished.Load():
			return 0, io.EOF
		case len(c.ready) > 0 || len(p) == 0:
			n := copy(p, c.ready)
			c.ready = c.ready[n:]
			return n, nil
		case len(c.in) == 0 && c.opaque:
			return c.Conn.Read(p)
		case len(c.in) == 0 && c.body > 0:
			n, err := c.Conn.Read(p[:min(len(p), c.body)])
			c.body -= n
			return n, err
		}
		if decided, err := c.decide(); err != nil {
			return 0, err
		} else if !decided {
			if err := c.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// fill reads once from the network, behind what is unread. An interrupted read loses nothing: what came stays in place.
func (c *conn) fill() error {
	if c.buffer == nil {
		c.buffer = make([]byte, handshakeMaxPacket)
	}
	held := copy(c.buffer, c.in)
	if held == len(c.buffer) {
		c.buffer = append(c.buffer, make([]byte, len(c.buffer))...)
	}
	n, err := c.Conn.Read(c.buffer[held:])
	c.in = c.buffer[:held+n]
	if n > 0 {
		return nil
	}
	return err
}

// decide hands out the next piece of what was read. It answers false when it has to see more before it can tell.
func (c *conn) decide() (bool, error) {
	if c.opaque {
		c.ready, c.in = c.in, nil
		return len(c.ready) > 0, nil
	}
	if c.body > 0 {
		c.pass(min(c.body, len(c.in)))
		return len(c.ready) > 0, nil
	}
	if len(c.in) < 4 {
		return false, nil
	}
	size, sequence := int(c.in[0])|int(c.in[1])<<8|int(c.in[2])<<16, c.in[3]
	total := size
	if c.chained {
		total += c.command
	}
	if limit := c.limit(); total > limit {
		return false, c.tooLarge(sequence, limit)
	}
	trusted := c.trusted.Load()
	switch {
	case !trusted && sequence == 1 && size == sslRequestSize:
		if len(c.in) < 4+size {
			return false, nil
		}
		c.opaque = binary.LittleEndian.Uint32(c.in[4:])&capabilitySSL != 0
	case trusted && !c.chained && sequence == 0 && size > 1 && size < maxFragment:
		if len(c.in) < 5 || c.in[4] == comStmtPrepare && len(c.in) < 4+size {
			return false, nil
		}
		if c.in[4] == comStmtPrepare {
			c.prepare(size)
			return true, nil
		}
	}
	c.command, c.chained = total, size == maxFragment
	c.body = 4 + size
	c.pass(min(c.body, len(c.in)))
	return true, nil
}

// pass moves n bytes of the current packet from what was read to what is handed out.
func (c *conn) pass(n int) {
	c.ready, c.in = c.in[:n], c.in[n:]
	c.body -= n
}

// prepare hands out a whole COM_STMT_PREPARE, its text rewritten if need be.
func (c *conn) prepare(size int) {
	c.preparing.Store(true)
	packet := c.in[:4+size]
	c.in = c.in[4+size:]
	query := string(packet[5:])
	text, edits := rewriteForShare(query)
	if edits != nil {
		if _, err := sqlparser.Parse(query); err == nil {
			edits = nil // the words, not the clause
		}
	}
	if edits == nil || len(text) >= maxFragment-1 {
		c.ready = packet
		return
	}
	n := 1 + len(text)
	c.ready = append([]byte{byte(n), byte(n >> 8), byte(n >> 16), 0, comStmtPrepare}, text...)
}

// Write implements net.Conn. The protocol layer answers a syntax error in COM_STMT_PREPARE by itself, with number 1105: here it
// gets MySQL's number and state, which take the same room. Header and body of an answer come in two writes.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) > 4 && c.preparing.CompareAndSwap(true, false) && syntaxError(p) {
		p = append([]byte(nil), p...)
		binary.LittleEndian.PutUint16(p[1:], erParse)
		copy(p[4:], states[erParse])
	}
	return writeSwapped(c.Conn, p, c.swap.packet(p))
}

// syntaxError recognises the body of such an answer.
func syntaxError(p []byte) bool {
	return len(p) > 9 && p[0] == 0xFF && binary.LittleEndian.Uint16(p[1:]) == erUnknown && p[3] == '#' &&
		bytes.Contains(p[9:], []byte("syntax error at position"))
}

func (c *conn) limit() int {
	if !c.trusted.Load() {
		return handshakeMaxPacket
	}
	return c.maxPacket()
}

// tooLarge answers ER_NET_PACKET_TOO_LARGE, as MySQL does, and ends the connection: the rest of the packet is not worth reading.
func (c *conn) tooLarge(sequence byte, limit int) error {
	c.finish()
	if c.trusted.Load() {
		_, _ = c.Conn.Write(errorPacket(sequence+1, 1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes"))
	}
	return fmt.Errorf("packet of more than %d bytes", limit)
}
