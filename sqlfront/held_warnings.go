package sqlfront

import "github.com/dolthub/go-mysql-server/sql"

// earlySession is a session for what is done before its turn: warnings are kept apart.
// They cannot be taken out of those of the session again: a client may have locked them
// (lock_warnings), and there may be many. Others, in the engine's goroutines, meanwhile
// warn in the session itself.
type earlySession struct {
	*Session
	held []*sql.Warning
}

// early is a context whose warnings go to the earlySession.
func early(ctx *sql.Context) (*sql.Context, *earlySession) {
	session := &earlySession{Session: sessionOf(ctx)}
	ahead := *ctx
	ahead.Session = session
	return &ahead, session
}

// Warn implements sql.Session.
func (s *earlySession) Warn(w *sql.Warning) { s.held = append(s.held, w) }

// take returns the warnings since it was called last.
func (s *earlySession) take() []*sql.Warning {
	held := s.held
	s.held = nil
	return held
}
