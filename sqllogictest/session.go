package sqllogictest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// defaultThreshold is the number of values above which results are written as a
// hash when the script does not say.
const defaultThreshold = 8

// session is one script's run: its connections, and what its control lines,
// labels and variables have set so far. One goroutine uses it.
type session struct {
	options   *Options
	database  string
	db        *sql.DB
	conns     map[string]*sql.Conn
	labels    map[string]labelled
	variables map[string]string
	folder    string // temporary, made when a script first asks for it

	sort       SortMode
	mode       ResultMode
	threshold  int
	substitute bool
	subtest    string
}

type labelled struct {
	hash string
	at   Position
}

func newSession(o *Options, db *sql.DB, database string) *session {
	return &session{
		options: o, db: db, database: database,
		conns: map[string]*sql.Conn{}, labels: map[string]labelled{}, variables: map[string]string{},
		sort: NoSort, threshold: defaultThreshold,
	}
}

func (s *session) close() {
	for _, c := range s.conns {
		c.Close()
	}
	if s.folder != "" {
		os.RemoveAll(s.folder)
	}
}

// errNoConnection marks a failure to reach the endpoint at all.
var errNoConnection = errors.New("no connection to the endpoint")

// perform runs one record, with its retries. An error ends the script; a record
// that went wrong is an outcome.
func (s *session) perform(ctx context.Context, r *Record) (outcome, error) {
	for attempt := 0; ; attempt++ {
		o, err := s.once(ctx, r)
		if err != nil || !o.failed() || attempt >= r.Retry.Attempts {
			return o, err
		}
		if err := pause(ctx, r.Retry.Backoff); err != nil {
			return o, err
		}
	}
}

func (s *session) once(ctx context.Context, r *Record) (outcome, error) {
	switch r.Kind {
	case HashThreshold:
		s.threshold = r.Threshold
	case Subtest:
		s.subtest = r.Name
	case Control:
		s.control(r)
	case Sleep:
		return pass(), pause(ctx, r.Pause)
	case System:
		return s.system(ctx, r), ctx.Err()
	default:
		return s.sql(ctx, r)
	}
	return pass(), nil
}

func (s *session) control(r *Record) {
	switch r.ControlName {
	case "sortmode":
		s.sort = sortNames[r.ControlValue]
	case "resultmode":
		s.mode = ResultValues
		if r.ControlValue == "rowwise" {
			s.mode = ResultRows
		}
	case "substitution":
		s.substitute = r.ControlValue == "on"
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sql runs a statement, query or let under the time limit.
func (s *session) sql(ctx context.Context, r *Record) (outcome, error) {
	text := r.SQL
	if s.substitute {
		replaced, err := substitute(text, s.lookup)
		if err != nil {
			return fail(err.Error()), nil
		}
		text = replaced
	}
	conn, err := s.conn(ctx, r.Connection)
	if err != nil {
		return outcome{}, err
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if s.options.Timeout > 0 {
		limited, cancel = context.WithTimeout(ctx, s.options.Timeout)
	}
	defer cancel()
	o, err := s.run(limited, conn, r, text)
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	if limited.Err() != nil || lost(err) {
		s.drop(r.Connection)
	}
	if limited.Err() != nil && o.failed() {
		o = fail(fmt.Sprintf("no answer within %v", s.options.Timeout))
		o.timedOut = true
	}
	return o, nil
}

func (s *session) run(ctx context.Context, conn *sql.Conn, r *Record, text string) (outcome, error) {
	if r.Kind == Statement {
		return s.statement(ctx, conn, r, text)
	}
	format := formatter{unicode: hasUnicode(r.Want)}
	res, err := fetch(ctx, conn, text, r.Types, format)
	if r.WantError != nil {
		return checkError(r.WantError, err), err
	}
	if err != nil {
		return failed(err), err
	}
	if r.Kind == Let {
		return s.bind(r, res), nil
	}
	return s.checkQuery(r, res), nil
}

func (s *session) statement(ctx context.Context, conn *sql.Conn, r *Record, text string) (outcome, error) {
	done, err := conn.ExecContext(ctx, text)
	if r.WantError != nil {
		return checkError(r.WantError, err), err
	}
	if err != nil {
		return failed(err), err
	}
	if r.WantCount < 0 {
		return pass(), nil
	}
	n, err := done.RowsAffected()
	if err != nil {
		return failed(err), err
	}
	if n == r.WantCount {
		return pass(), nil
	}
	o := fail(fmt.Sprintf("%d rows affected instead of %d", n, r.WantCount))
	o.affected = n
	return o, nil
}

// failed is the outcome of a record that gave an error it must not give.
func failed(err error) outcome { return outcome{reason: err.Error(), err: err} }

// checkQuery compares the result, and then its hash with that of its label.
func (s *session) checkQuery(r *Record, res *result) outcome {
	mode := r.Sort
	if mode == SortDefault {
		mode = s.sort
	}
	res.sort(mode)
	if !r.Unchecked {
		if o := checkResult(r, res, s.mode); o.failed() {
			return o
		}
	}
	if r.Label == "" {
		return pass()
	}
	hash := hashText(len(res.values), res.hash())
	first, known := s.labels[r.Label]
	if !known {
		s.labels[r.Label] = labelled{hash, r.Position}
		return pass()
	}
	if first.hash != hash {
		reason := "label " + r.Label + " had another result at " + first.at.String()
		return differ(reason, []string{first.hash}, []string{hash})
	}
	return pass()
}

func (s *session) bind(r *Record, res *result) outcome {
	if res.rows() == 0 {
		return fail("let needs a row, got none")
	}
	if res.columns != len(r.Variables) {
		return fail(fmt.Sprintf("let names %d variables, the query gave %d columns", len(r.Variables), res.columns))
	}
	for i, name := range r.Variables {
		s.variables[name] = res.values[i]
	}
	return pass()
}

func hasUnicode(lines []string) bool {
	for _, line := range lines {
		for i := range len(line) {
			if line[i] >= 0x80 {
				return true
			}
		}
	}
	return false
}

// fetch runs a query and formats its values under the column letters.
func fetch(ctx context.Context, conn *sql.Conn, text, letters string, f formatter) (*result, error) {
	rows, err := conn.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	res := &result{columns: len(types)}
	cells := make([]cell, len(types))
	into := make([]any, len(types))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i := range cells {
			letter := byte('T')
			if i < len(letters) {
				letter = letters[i]
			}
			res.values = append(res.values, f.format(cells[i].value(), letter, types[i].DatabaseTypeName() == "BIT"))
		}
	}
	return res, rows.Err()
}

func (s *session) conn(ctx context.Context, name string) (*sql.Conn, error) {
	if c := s.conns[name]; c != nil {
		return c, nil
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoConnection, err)
	}
	s.conns[name] = c
	return c, nil
}

// drop throws a connection away for good: the pool must not hand out one on
// which a statement may still be running.
func (s *session) drop(name string) {
	c := s.conns[name]
	if c == nil {
		return
	}
	delete(s.conns, name)
	c.Raw(func(any) error { return driver.ErrBadConn })
	c.Close()
}

// lost reports whether an error means that the connection is gone. The text is
// go-sql-driver's, which this package does not import.
func lost(err error) bool {
	return err != nil && (errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		strings.Contains(err.Error(), "invalid connection"))
}

// lookup finds a variable: let's own, the special ones, the environment.
func (s *session) lookup(name string) (string, bool) {
	if v, ok := s.variables[name]; ok {
		return v, true
	}
	switch name {
	case "__DATABASE__":
		return s.database, true
	case "__NOW__":
		return strconv.FormatInt(time.Now().UnixNano(), 10), true
	case "__TEST_DIR__":
		if s.folder == "" {
			s.folder, _ = os.MkdirTemp("", "sqllogictest-")
		}
		return s.folder, s.folder != ""
	}
	return os.LookupEnv(name)
}

// system runs a shell command and compares what it prints.
func (s *session) system(ctx context.Context, r *Record) outcome {
	if !s.options.AllowSystem {
		return fail("system records are shell commands and are refused unless they are allowed")
	}
	command := r.SQL
	if s.substitute {
		for _, name := range []string{"__DATABASE__", "__NOW__", "__TEST_DIR__"} {
			if strings.Contains(command, "$"+name) {
				value, _ := s.lookup(name)
				command = strings.ReplaceAll(command, "$"+name, value)
			}
		}
	}
	if s.options.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		ctx = limited
	}
	printed, err := exec.CommandContext(ctx, "sh", "-c", command).Output()
	if err != nil {
		return fail(err.Error())
	}
	got := strings.TrimSpace(string(printed))
	if !r.Unchecked && got != r.Want[0] {
		return differ("the command printed something else", r.Want, []string{got})
	}
	return pass()
}
