package sqlfront

import (
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// sessionVariables are the variables of a session that every statement looks at, as
// what they mean. They are read once after a change: looking one up by its name costs
// as much as finding a row. They belong to the session's goroutine.
type sessionVariables struct {
	known           bool
	autocommit      bool
	characteristics characteristics // of a transaction of which nothing else was said
	rowLockWait     time.Duration   // 0: the default
	metadataWait    time.Duration
	sizeLimit       int64 // 0: the server's
	fast            fastSettings
}

// variables are what the variables mean now. They change by SetSessionVariable and
// its kin only, which forget them.
func (s *Session) variables() *sessionVariables {
	if !s.known.known {
		s.known = sessionVariables{
			known: true, autocommit: s.flagOr(s.plain, "autocommit", true),
			characteristics: characteristics{
				isolation: s.isolation(s.plain), readOnly: s.flagOr(s.plain, "transaction_read_only", false),
				firstWins: s.flagOr(s.plain, "snapshot_isolation", true),
				durable:   s.durableLocks(s.plain), staleness: s.seconds(s.plain, "rowlock_read_staleness"),
			},
			rowLockWait: s.seconds(s.plain, "innodb_lock_wait_timeout"), metadataWait: s.metadataWait(s.plain),
			sizeLimit: s.sizeLimit(s.plain),
		}
		s.known.fast = s.fastSettings(&s.known)
	}
	return &s.known
}

// forgetVariables has the variables read again: one of them may have changed.
func (s *Session) forgetVariables() {
	if !mutated("0070.old-variables") {
		s.known.known = false
	}
}

// InitSessionVariable implements sql.Session.
func (s *Session) InitSessionVariable(ctx *sql.Context, name string, value any) error {
	defer s.forgetVariables()
	return s.BaseSession.InitSessionVariable(ctx, name, value)
}

// InitSessionVariableDefault implements sql.Session.
func (s *Session) InitSessionVariableDefault(ctx *sql.Context, name string, value any) error {
	defer s.forgetVariables()
	return s.BaseSession.InitSessionVariableDefault(ctx, name, value)
}

// SetCurrentDatabase implements sql.Session.
func (s *Session) SetCurrentDatabase(name string) {
	defer s.forgetVariables()
	s.BaseSession.SetCurrentDatabase(name)
}

// assign sets one variable.
func (s *Session) assign(ctx *sql.Context, name string, value any) error {
	defer s.forgetVariables()
	return s.BaseSession.SetSessionVariable(ctx, name, value)
}

// autocommit tells whether statements outside of a transaction are their own.
func (s *Session) autocommit() bool { return s.variables().autocommit }

func (s *Session) flag(ctx *sql.Context, name string) bool { return s.flagOr(ctx, name, false) }

func (s *Session) flagOr(ctx *sql.Context, name string, missing bool) bool {
	v, err := s.GetSessionVariable(ctx, name)
	if err != nil || v == nil {
		return missing
	}
	b, err := sql.ConvertToBool(ctx, v)
	return err == nil && b
}

// durableLocks tells whether the session's row locks outlive their owner.
func (s *Session) durableLocks(ctx *sql.Context) bool {
	v, err := s.GetSessionVariable(ctx, "row_lock_durability")
	return err == nil && v == "replicated"
}

// seconds reads a variable that holds a number of seconds; 0 if it is unusable.
func (s *Session) seconds(ctx *sql.Context, name string) time.Duration {
	v, err := s.GetSessionVariable(ctx, name)
	if err != nil {
		return 0
	}
	n, _, err := types.Int64.Convert(ctx, v)
	if err != nil || n == nil {
		return 0
	}
	return time.Duration(min(n.(int64), 1<<30)) * time.Second
}
