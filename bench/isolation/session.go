package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// Errors of the server that a load meets as a matter of course.
const (
	columnThere    = 1060
	indexThere     = 1061
	duplicateKey   = 1062
	notThere       = 1091
	unavailable    = 1030
	stopping       = 1053
	unknownOutcome = 1180
	lockTimeout    = 1205
	deadlock       = 1213
	definition     = 1412 // the table's definition has changed
)

// errRollback makes a transaction end with ROLLBACK.
var errRollback = errors.New("rolled back on purpose")

// connectLimit bounds the wait for a server that was killed.
const connectLimit = 2 * time.Minute

// session is one connection, replaced when it is lost, and what it has seen. It
// belongs to one goroutine.
type session struct {
	*execution
	id     int
	random *rand.Rand
	db     *sql.DB
	conn   *sql.Conn
	turn   int // how often it has connected
	txns   []history.Txn
}

// ready waits for a connection.
func (s *session) ready(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	var last error
	for begun := time.Now(); time.Since(begun) < connectLimit; time.Sleep(20 * time.Millisecond) {
		if last = s.connect(ctx); last == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("connect: %w", last)
}

func (s *session) connect(ctx context.Context) error {
	s.turn++
	config := s.target.where(s.database, max(s.id, 0)+s.turn)
	if config == nil {
		return errors.New("no server")
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	s.db = sql.OpenDB(connector)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		s.drop()
		return err
	}
	for _, statement := range s.level.setup {
		if _, err := s.conn.ExecContext(ctx, statement); err != nil {
			s.drop()
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

func (s *session) drop() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.db != nil {
		s.db.Close()
	}
	s.conn, s.db = nil, nil
}

// exec runs a statement and says how many rows it changed.
func (s *session) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := s.conn.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", statement, err)
	}
	return result.RowsAffected()
}

// each runs a query and hands over each row.
func (s *session) each(ctx context.Context, into []any, do func(), query string, args ...any) error {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		do()
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

// The ways to begin a transaction; with autocommit, do is one statement.
const (
	autocommit = ""
	begin      = "BEGIN"
	readOnly   = "START TRANSACTION READ ONLY"
)

// attempt makes one transaction of do and says how it ended, with the error that
// ended it.
func (s *session) attempt(ctx context.Context, how string, do func() error) (history.Outcome, error) {
	if how != autocommit {
		if _, err := s.exec(ctx, how); err != nil {
			s.drop()
			return s.count(history.Aborted, err)
		}
	}
	if err := do(); err != nil {
		return s.count(s.failed(ctx, how, err), err)
	}
	if how == autocommit {
		return s.count(history.Committed, nil)
	}
	_, err := s.exec(ctx, "COMMIT")
	switch number := code(err); {
	case err == nil:
		return s.count(history.Committed, nil)
	case number == deadlock || number == lockTimeout:
		return s.count(history.Aborted, err)
	default:
		s.drop()
		return s.count(history.Unknown, err)
	}
}

// failed ends a transaction in which a statement failed before COMMIT was sent.
func (s *session) failed(ctx context.Context, how string, err error) history.Outcome {
	number := code(err)
	lost := number == 0 && !errors.Is(err, errRollback) || number == unknownOutcome
	switch {
	case how != autocommit && !lost:
		if _, err := s.exec(ctx, "ROLLBACK"); err != nil {
			s.drop()
		}
		return history.Aborted
	case how == autocommit && !lost:
		return history.Aborted
	case how == autocommit || number == unknownOutcome:
		s.drop()
		return history.Unknown
	default:
		s.drop()
		return history.Aborted // nobody asked for a commit
	}
}

// code is the number of an error that the server answered, or 0.
func code(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// retry repeats a transaction while it is rolled back by conflicts.
func (s *session) retry(ctx context.Context, try func() (history.Outcome, error)) error {
	const tries = 20
	for n := range tries {
		if err := s.ready(ctx); err != nil {
			return err
		}
		outcome, err := try()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if outcome != history.Aborted || errors.Is(err, errRollback) {
			return nil
		}
		if number := code(err); number != deadlock && number != lockTimeout && number != definition && number != 0 {
			return nil
		}
		time.Sleep(time.Duration(s.random.Int64N(int64(time.Millisecond) << min(n, 6))))
	}
	return nil
}
