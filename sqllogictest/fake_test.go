package sqllogictest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// endpoint is a server for tests: it answers texts it was told, and keeps what
// it was asked. Databases must be created before they are opened.
type endpoint struct {
	answers map[string]answer

	mu struct {
		sync.Mutex
		databases map[string]bool
		dropped   int
		asked     []string
		conns     int
	}
}

type answer struct {
	columns  int
	values   []any // row after row
	affected int64
	err      error
	// failures is how many times err is given before the answer.
	failures *int
	block    bool // until the context ends
}

func newEndpoint(answers map[string]answer) *endpoint {
	e := &endpoint{answers: answers}
	e.mu.databases = map[string]bool{"": true}
	return e
}

func (e *endpoint) open(_ context.Context, database string) (*sql.DB, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.mu.databases[database] {
		return nil, fmt.Errorf("no database %q", database)
	}
	return sql.OpenDB(&fakeConnector{e, database}), nil
}

type fakeConnector struct {
	e        *endpoint
	database string
}

func (c *fakeConnector) Driver() driver.Driver { return nil }
func (c *fakeConnector) Connect(context.Context) (driver.Conn, error) {
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	c.e.mu.conns++
	return &fakeConn{c.e}, nil
}

type fakeConn struct{ e *endpoint }

func (c *fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not used") }
func (c *fakeConn) Close() error                        { return nil }
func (c *fakeConn) Begin() (driver.Tx, error)           { return nil, errors.New("not used") }

func (c *fakeConn) ask(ctx context.Context, text string) (answer, error) {
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	c.e.mu.asked = append(c.e.mu.asked, text)
	if name, ok := strings.CutPrefix(text, "CREATE DATABASE "); ok {
		c.e.mu.databases[name] = true
		return answer{}, nil
	}
	if name, ok := strings.CutPrefix(text, "DROP DATABASE "); ok {
		delete(c.e.mu.databases, name)
		c.e.mu.dropped++
		return answer{}, nil
	}
	a, ok := c.e.answers[text]
	switch {
	case !ok:
		return a, fmt.Errorf("Error 1064 (42000): no answer to %s", text)
	case a.block:
		<-ctx.Done()
		return a, ctx.Err()
	case a.failures != nil && *a.failures > 0:
		*a.failures--
		return a, a.err
	case a.failures == nil && a.err != nil:
		return a, a.err
	}
	return a, nil
}

func (c *fakeConn) ExecContext(ctx context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	a, err := c.ask(ctx, text)
	return driver.RowsAffected(a.affected), err
}

func (c *fakeConn) QueryContext(ctx context.Context, text string, _ []driver.NamedValue) (driver.Rows, error) {
	a, err := c.ask(ctx, text)
	if err != nil {
		return nil, err
	}
	return &fakeRows{answer: a}, nil
}

type fakeRows struct {
	answer answer
	next   int
}

func (r *fakeRows) Columns() []string { return make([]string, r.answer.columns) }
func (r *fakeRows) Close() error      { return nil }
func (r *fakeRows) Next(into []driver.Value) error {
	if r.next >= len(r.answer.values) {
		return io.EOF
	}
	for i := range into {
		into[i] = r.answer.values[r.next]
		r.next++
	}
	return nil
}
