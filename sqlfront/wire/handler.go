package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
)

// Handler wraps the engine's protocol handler: it bounds the time of SELECTs, maps errors, answers for panics, and ends
// connections that must not go on. It passes everything else through, the binlog commands included.
type Handler struct {
	mysql.Handler
	options HandlerOptions
	ended   sync.Map // *mysql.Conn that must not go on: an unknown outcome, a panic
	// asking is the context to read a session's variables under. They do not depend on it, and making one for every statement
	// costs more than a point read.
	asking *sql.Context

	direct      atomic.Uintptr // the code of the protocol layer's callback without a cursor
	cursors     sync.Map       // *mysql.Conn to its *cursorRows
	cursorBytes atomic.Int64
}

// HandlerOptions are the choices of NewHandler; the zero value is usable.
type HandlerOptions struct {
	// RequireSecureTransport tells whether to refuse authenticated connections without TLS (error 3159), except those that
	// never leave the process (InProcess). nil refuses none.
	RequireSecureTransport func() bool
	// Session finds the session of a connection, whose max_execution_time bounds its SELECTs. Without it, or where it returns
	// nil, the global value holds.
	Session func(*mysql.Conn) sql.Session
	// Stopping tells whether the server is being stopped: then what it interrupts ends with error 1053, which is not the
	// client's doing, instead of 1317. nil is never.
	Stopping func() bool
	// Logger gets the panics of statements; nil is slog.Default.
	Logger *slog.Logger
	// NumberConnection returns the number of a new connection, and FreeNumber takes it back when its session is over. nil
	// leaves the protocol layer's.
	NumberConnection func() uint32
	FreeNumber       func(uint32)
	// Fast answers what it can before the engine sees it; nil leaves everything to the engine.
	Fast FastPath
	// CursorMemory bounds the bytes that the rows of all open cursors take; 0 is 256 MB.
	CursorMemory int64
}

// NewHandler wraps h; use it in server.NewServerWithHandler's wrapper.
func NewHandler(h mysql.Handler, o HandlerOptions) *Handler {
	return &Handler{Handler: h, options: o, asking: sql.NewEmptyContext()}
}

var _ mysql.BinlogReplicaHandler = (*Handler)(nil)

// NewConnection implements mysql.Handler. Nothing was sent yet, so that the number can still be chosen.
func (h *Handler) NewConnection(c *mysql.Conn) {
	if h.options.NumberConnection != nil {
		c.ConnectionID = h.options.NumberConnection()
	}
	h.Handler.NewConnection(c)
}

// ConnectionAuthenticated implements mysql.Handler: the handshake deadline ends here.
func (h *Handler) ConnectionAuthenticated(c *mysql.Conn) error {
	if require := h.options.RequireSecureTransport; require != nil && !c.TLSEnabled() && !c.IsUnixSocket() && !inProcess(c.Conn) && require() {
		return mysql.NewSQLError(3159, "HY000", "Connections using insecure transport are prohibited while --require_secure_transport=ON.")
	}
	if inner := limited(c.Conn); inner != nil {
		inner.authenticated()
	}
	if over, ok := c.Conn.(*tls.Conn); ok {
		c.Conn = &secured{Conn: over}
	}
	return mapped(h.Handler.ConnectionAuthenticated(c))
}

// InProcess is implemented by connections below NewListener's whose two ends are in one process.
type InProcess interface{ InProcess() bool }

func inProcess(c net.Conn) bool {
	inner := limited(c)
	if inner == nil {
		return false
	}
	local, ok := inner.Conn.(InProcess)
	return ok && local.InProcess()
}

// ConnectionClosed implements mysql.Handler.
func (h *Handler) ConnectionClosed(c *mysql.Conn) {
	h.ended.Delete(c)
	if rows, ok := h.cursors.LoadAndDelete(c); ok {
		rows.(*cursorRows).free()
	}
	if h.options.FreeNumber != nil {
		defer h.options.FreeNumber(c.ConnectionID)
	}
	h.Handler.ConnectionClosed(c)
}

// ComInitDB implements mysql.Handler.
func (h *Handler) ComInitDB(c *mysql.Conn, database string) error {
	return h.end(c, h.Handler.ComInitDB(c, database))
}

// ComQuery implements mysql.Handler.
func (h *Handler) ComQuery(ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn) error {
	taken, pupil, err := h.fast(ctx, c, query, nil, func(r *sqltypes.Result) error { return callback(r, false) })
	if taken {
		return err
	}
	query = explainTree(query)
	return h.run(ctx, c, query, func(ctx context.Context) error {
		err := h.Handler.ComQuery(ctx, c, query, func(r *sqltypes.Result, more bool) error {
			pupil.listen(r)
			return callback(r, more)
		})
		pupil.end(err)
		return err
	})
}

// ComMultiQuery implements mysql.Handler.
func (h *Handler) ComMultiQuery(ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn) (rest string, err error) {
	taken, pupil, err := h.fast(ctx, c, query, nil, func(r *sqltypes.Result) error { return callback(r, false) })
	if taken {
		return "", err
	}
	query = explainTree(query)
	err = h.run(ctx, c, query, func(ctx context.Context) (err error) {
		rest, err = h.Handler.ComMultiQuery(ctx, c, query, func(r *sqltypes.Result, more bool) error {
			pupil.listen(r)
			return callback(r, more)
		})
		pupil.end(err)
		return err
	})
	if err != nil {
		return "", err // the connection would go on with the rest, whose answers nobody expects
	}
	return rest, nil
}

// ComPrepare implements mysql.Handler.
func (h *Handler) ComPrepare(ctx context.Context, c *mysql.Conn, query string, prepare *mysql.PrepareData) (fields []*querypb.Field, err error) {
	defer h.recovered(c, &err)
	query = explainTree(query)
	prepare.PrepareStmt = explainTree(prepare.PrepareStmt)
	if h.refused(c) {
		return nil, errEnded()
	}
	fields, err = h.Handler.ComPrepare(ctx, c, query, prepare)
	return fields, h.answer(c, query, err)
}

// ComStmtExecute implements mysql.Handler.
func (h *Handler) ComStmtExecute(ctx context.Context, c *mysql.Conn, prepare *mysql.PrepareData, callback func(*sqltypes.Result) error) error {
	if h.forCursor(callback) {
		return h.openCursor(ctx, c, prepare, callback)
	}
	return h.execute(ctx, c, prepare, callback)
}

func (h *Handler) execute(ctx context.Context, c *mysql.Conn, prepare *mysql.PrepareData, callback func(*sqltypes.Result) error) error {
	taken, pupil, err := h.fast(ctx, c, prepare.PrepareStmt, prepare, callback)
	if taken {
		return err
	}
	return h.run(ctx, c, prepare.PrepareStmt, func(ctx context.Context) error {
		err := h.Handler.ComStmtExecute(ctx, c, prepare, func(r *sqltypes.Result) error {
			pupil.listen(r)
			return callback(r)
		})
		pupil.end(err)
		return err
	})
}

// WarningCount implements mysql.Handler. The engine's handler looks for the session under a lock of all connections.
func (h *Handler) WarningCount(c *mysql.Conn) uint16 {
	if h.options.Session != nil {
		if s := h.options.Session(c); s != nil {
			return s.WarningCount()
		}
	}
	return h.Handler.WarningCount(c)
}

// ComResetConnection implements mysql.Handler.
func (h *Handler) ComResetConnection(c *mysql.Conn) error {
	return h.end(c, h.Handler.ComResetConnection(c))
}

// ComRegisterReplica implements mysql.BinlogReplicaHandler.
func (h *Handler) ComRegisterReplica(c *mysql.Conn, host string, port uint16, user, password string) error {
	if inner, ok := h.Handler.(mysql.BinlogReplicaHandler); ok {
		return mapped(inner.ComRegisterReplica(c, host, port, user, password))
	}
	return nil
}

// ComBinlogDumpGTID implements mysql.BinlogReplicaHandler.
func (h *Handler) ComBinlogDumpGTID(c *mysql.Conn, file string, position uint64, set mysql.GTIDSet) error {
	if inner, ok := h.Handler.(mysql.BinlogReplicaHandler); ok {
		return mapped(inner.ComBinlogDumpGTID(c, file, position, set))
	}
	return nil
}

// run executes one statement under its time limit and maps its error.
func (h *Handler) run(ctx context.Context, c *mysql.Conn, query string, statement func(context.Context) error) (err error) {
	defer h.recovered(c, &err)
	if h.refused(c) {
		return errEnded()
	}
	defer h.dismiss(c)
	limit := h.timeLimit(c, query)
	if limit == 0 {
		return h.answer(c, query, statement(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = statement(ctx)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		if m := MapError(err); m.Num == erQueryInterrupted {
			return newError(erQueryTimeout, timedOut)
		}
	}
	return h.answer(c, query, err)
}

// dismiss ends the connection of a session that leaves (COMMIT RELEASE).
func (h *Handler) dismiss(c *mysql.Conn) {
	if h.options.Session == nil {
		return
	}
	if s, ok := h.options.Session(c).(interface{ Leaving() bool }); ok && s.Leaving() {
		h.finish(c)
	}
}

// answer is end for an error whose number depends on the statement.
func (h *Handler) answer(c *mysql.Conn, query string, err error) error {
	if err == nil {
		return nil
	}
	return h.end(c, refine(query, MapError(err)))
}

// end maps err and, when it leaves a transaction's outcome open, sees to it that the connection ends once the error was sent.
func (h *Handler) end(c *mysql.Conn, err error) error {
	if err == nil {
		return nil
	}
	m := MapError(err)
	if strings.HasPrefix(m.Message, enginePanic) {
		return h.panicked(c, m.Message)
	}
	if stopping := h.options.Stopping; m.Num == erQueryInterrupted && stopping != nil && stopping() {
		m = newError(erServerShutdown, "Server shutdown in progress")
	}
	if ClosesConnection(m) {
		h.finish(c)
	}
	return m
}

// enginePanic begins the text, with a stack, that the engine makes of a panic in a goroutine of its own.
const enginePanic = "panic recovered: "

// finish ends the connection once the answer to its present command was sent.
func (h *Handler) finish(c *mysql.Conn) {
	h.ended.Store(c, struct{}{})
	if inner := limited(c.Conn); inner != nil {
		inner.finish()
	}
}

// recovered makes an error of a panic; it is deferred itself.
func (h *Handler) recovered(c *mysql.Conn, err *error) {
	if cause := recover(); cause != nil {
		*err = h.panicked(c, fmt.Sprintf("%v\n%s", cause, debug.Stack()))
	}
}

// panicked answers a statement that panicked with error 1815 (ER_INTERNAL_ERROR). What the panic left of the session cannot be
// trusted, so the connection ends after that, which rolls its transaction back; the server goes on.
func (h *Handler) panicked(c *mysql.Conn, trace string) error {
	logger := h.options.Logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Error("statement panicked", "connection", c.ConnectionID, "trace", trace)
	h.finish(c)
	return newError(1815, "Internal error: the statement failed; its transaction is rolled back and the connection is closed")
}

// refused ends a connection that came back with another command after its last answer.
func (h *Handler) refused(c *mysql.Conn) bool {
	if _, ok := h.ended.Load(c); !ok {
		return false
	}
	c.Close()
	return true
}

func errEnded() error {
	return newError(erServerShutdown, "The connection is closed: an earlier statement left it in doubt")
}

// mapped is MapError for callers that return an error: a nil *SQLError must not become a non-nil error.
func mapped(err error) error {
	if err == nil {
		return nil
	}
	return MapError(err)
}

// timeLimit is how long a statement may run; 0 is no limit. MySQL bounds SELECT statements only, by the optimizer hint
// MAX_EXECUTION_TIME(milliseconds) or else by the variable of that name (Reference Manual, "Optimizer Hints").
func (h *Handler) timeLimit(c *mysql.Conn, query string) time.Duration {
	hint, ok := selects(query)
	if !ok {
		return 0
	}
	if limit, ok := hintedLimit(hint); ok {
		return limit
	}
	if h.options.Session != nil {
		if s := h.options.Session(c); s != nil {
			if v, err := s.GetSessionVariable(h.asking, "max_execution_time"); err == nil {
				return milliseconds(v)
			}
		}
	}
	if _, v, ok := sql.SystemVariables.GetGlobal("max_execution_time"); ok {
		return milliseconds(v)
	}
	return 0
}

// selects tells whether query reads and returns rows at its top level, and returns the text of its optimizer hint.
func selects(query string) (hint string, ok bool) {
	s := &scanner{text: query}
	first := s.word()
	for first == "(" {
		first = s.word()
	}
	if first == "SELECT" {
		s.skipBlank()
		return s.hint, true
	}
	return "", first == "TABLE" || first == "VALUES" || first == "WITH" && withSelects(s)
}

// withSelects looks for the statement behind the definitions of a WITH, all of which stand in parentheses.
func withSelects(s *scanner) bool {
	depth := 0
	for t := s.word(); t != ""; t = s.word() {
		switch {
		case t == "(":
			depth++
		case t == ")":
			depth--
		case depth == 0 && t == "SELECT":
			return true
		case depth == 0 && (t == "UPDATE" || t == "DELETE" || t == "INSERT" || t == "REPLACE"):
			return false
		}
	}
	return false
}

func hintedLimit(hint string) (time.Duration, bool) {
	if !mayHold(hint, "MAX_EXECUTION_TIME") {
		return 0, false
	}
	s := &scanner{text: hint}
	for t := s.word(); t != ""; t = s.word() {
		if t != "MAX_EXECUTION_TIME" || s.next() != "(" {
			continue
		}
		if ms, err := strconv.ParseUint(strings.TrimSpace(s.next()), 10, 32); err == nil {
			return time.Duration(ms) * time.Millisecond, true
		}
	}
	return 0, false
}

func milliseconds(v any) time.Duration {
	switch v := v.(type) {
	case int64:
		return time.Duration(v) * time.Millisecond
	case uint64:
		return time.Duration(v) * time.Millisecond
	}
	return 0
}
