package wire

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/netutil"
	"github.com/dolthub/vitess/go/sqltypes"
)

// The protocol layer runs the statement of a cursor in a goroutine of its own and goes on with the connection's next commands
// meanwhile. The engine is not made for that: it holds a client that sends something while its statement runs for one that has
// gone, its session belongs to one statement at a time, and the memory of its last rows is used again once it has answered. So
// a cursor's statement runs to its end before the client learns of the cursor, and the rows wait here, in memory of their own.

// cursorMemory bounds what the rows of all open cursors take [HandlerOptions.CursorMemory].
const cursorMemory = 256 << 20

// openCursor executes a statement whose rows are to be fetched later, and hands them out as they are.
func (h *Handler) openCursor(ctx context.Context, c *mysql.Conn, prepare *mysql.PrepareData, callback func(*sqltypes.Result) error) error {
	rows := &cursorRows{held: &h.cursorBytes, limit: h.options.CursorMemory}
	if rows.limit == 0 {
		rows.limit = cursorMemory
	}
	defer rows.free()
	if err := h.execute(ctx, c, prepare, rows.add); err != nil {
		m := MapError(err)
		if s := swapped(c.Conn); s != nil {
			s.instead.Store(errorAnswer(m))
		}
		return m
	}
	// The layer takes a cursor for closed in every case but one: that it could not write the columns. Then it leaves this
	// goroutine waiting; ConnectionClosed takes the rows from it.
	h.cursors.Store(c, rows)
	defer h.cursors.CompareAndDelete(c, rows)
	for r := rows.next(); r != nil; r = rows.next() {
		if err := callback(r); err != nil {
			return err // the client has closed the cursor
		}
	}
	return nil
}

// forCursor tells whether the protocol layer executes a statement for a cursor, which it tells nobody: then it calls the handler
// from a goroutine that it started for that. To be called by the handler's method itself.
func (h *Handler) forCursor(callback func(*sqltypes.Result) error) bool {
	code := reflect.ValueOf(callback).Pointer()
	if code == h.direct.Load() {
		return false
	}
	var outer [1]uintptr
	runtime.Callers(4, outer[:]) // above Callers, forCursor, the handler's method and who called it
	frame, _ := runtime.CallersFrames(outer[:]).Next()
	if frame.Function == "runtime.goexit" {
		return true
	}
	h.direct.Store(code)
	return false
}

// cursorRows are the rows of a cursor that were not handed out yet.
type cursorRows struct {
	held  *atomic.Int64 // by all cursors
	limit int64

	mu      sync.Mutex
	results []*sqltypes.Result
	bytes   int64
}

// What a row and a value take besides their bytes.
const (
	rowBytes   = 24
	valueBytes = 40
)

// add takes a part of the result. Its bytes are copied: they are the engine's, who uses them again.
func (r *cursorRows) add(part *sqltypes.Result) error {
	if len(part.Rows) == 0 && len(r.results) > 0 {
		return nil
	}
	size := 0
	for _, row := range part.Rows {
		for _, v := range row {
			size += v.Len()
		}
	}
	bytes := int64(size + len(part.Rows)*(rowBytes+valueBytes*len(part.Fields)))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += bytes
	if r.held.Add(bytes) > r.limit {
		return newError(1114, fmt.Sprintf("The rows of the open cursors take more than %d MB: fetch them without a cursor", r.limit>>20))
	}
	own := *part
	own.Rows = make([][]sqltypes.Value, len(part.Rows))
	text := make([]byte, 0, size)
	for i, row := range part.Rows {
		own.Rows[i] = make([]sqltypes.Value, len(row))
		for j, v := range row {
			start := len(text)
			text = append(text, v.Raw()...)
			own.Rows[i][j] = sqltypes.MakeTrusted(v.Type(), text[start:len(text):len(text)])
		}
	}
	r.results = append(r.results, &own)
	return nil
}

// next hands out a part; nil after the last.
func (r *cursorRows) next() *sqltypes.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.results) == 0 {
		return nil
	}
	part := r.results[0]
	r.results[0] = nil
	r.results = r.results[1:]
	return part
}

// free gives up what is left. It may be called again.
func (r *cursorRows) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.Add(-r.bytes)
	r.results, r.bytes = nil, 0
}

// noResult ends the error that the protocol layer sends whatever error a cursor's statement ended with.
var noResult = []byte("missing result set")

// swap holds the error that is to be sent instead.
type swap struct{ instead atomic.Pointer[errorToSend] }

type errorToSend struct {
	num            uint16
	state, message string
}

func errorAnswer(e *mysql.SQLError) *errorToSend {
	return &errorToSend{num: uint16(e.Num), state: e.State, message: e.Message}
}

// packet is what to write for p, which is one packet with its header.
func (s *swap) packet(p []byte) []byte {
	if s.instead.Load() == nil {
		return p
	}
	e := s.instead.Swap(nil)
	if len(p) < 5 || p[4] != 0xFF || !bytes.HasSuffix(p, noResult) {
		return p
	}
	return errorPacket(p[3], e.num, e.state, e.message)
}

// secured is a connection with TLS, above it.
type secured struct {
	net.Conn
	swap swap
}

// Write implements net.Conn.
func (s *secured) Write(p []byte) (int, error) { return writeSwapped(s.Conn, p, s.swap.packet(p)) }

// writeSwapped writes what is sent for p and answers as if p had been written.
func writeSwapped(c net.Conn, p, sent []byte) (int, error) {
	n, err := c.Write(sent)
	if err == nil || n > len(p) {
		n = len(p)
	}
	return n, err
}

// swapped finds the swap below what the protocol layer put around a connection.
func swapped(c net.Conn) *swap {
	for {
		switch outer := c.(type) {
		case *secured:
			return &outer.swap
		case *conn:
			return &outer.swap
		case *netutil.ConnWithTimeouts:
			c = outer.Conn
		default:
			return nil
		}
	}
}
