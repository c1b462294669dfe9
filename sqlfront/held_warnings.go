package sqlfront

import "github.com/dolthub/go-mysql-server/sql"

// Warn implements sql.Session.
func (s *Session) Warn(w *sql.Warning) {
	if s.held != nil {
		*s.held = append(*s.held, w)
		return
	}
	s.BaseSession.Warn(w)
}

// warningsOf runs f, which does early what the client must not see yet, and returns
// the warnings it gives instead of adding them to the session's. They cannot be taken
// out of those again: a client may have locked them (lock_warnings), and there may be
// many.
func (s *Session) warningsOf(f func()) (held []*sql.Warning) {
	around := s.held
	s.held = &held
	defer func() { s.held = around }()
	f()
	return held
}
