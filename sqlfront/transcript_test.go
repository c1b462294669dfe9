package sqlfront

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// TestTranscripts plays concurrent sessions over the wire, step by step, and
// compares what each saw, and who waited for whom on what, with the files of
// testdata/transcripts. Their commands:
//
//	setup       statements that make the tables of what follows
//	scenario    steps, one "session: statement" a line. Played at every level, in a
//	            fresh database each; levels at which the same happens stand together
//
// A step that waits for a lock prints whom it waits for, and its result appears
// after the step that let it go on. A session that waits takes no step: the
// scenario's line is then put off until the session is free ("later").
func TestTranscripts(t *testing.T) {
	s, _ := app(t)
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		var setup []string
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "setup":
				setup = lines(d.Input)
				return ""
			case "scenario":
				return playAll(t, s, setup, lines(d.Input))
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// isolationLevels are the levels of a scenario.
var isolationLevels = []struct {
	name, level string
	current     bool // snapshot_isolation=OFF
}{
	{"READ COMMITTED", "READ-COMMITTED", false},
	{"REPEATABLE READ", "REPEATABLE-READ", false},
	{"REPEATABLE READ without snapshot isolation", "REPEATABLE-READ", true},
	{"SERIALIZABLE", "SERIALIZABLE", false},
}

func playAll(t *testing.T, s *stack, setup, steps []string) string {
	var outputs []string
	names := map[string][]string{}
	for _, l := range isolationLevels {
		p := newPlay(t, s, setup)
		p.level, p.current = l.level, l.current
		output := p.run(steps)
		if names[output] == nil {
			outputs = append(outputs, output)
		}
		names[output] = append(names[output], l.name)
	}
	var out strings.Builder
	for _, o := range outputs {
		at := strings.Join(names[o], ", ")
		if len(outputs) == 1 {
			at = "every level"
		}
		fmt.Fprintf(&out, "-- %s\n%s", at, o)
	}
	return out.String()
}

func lines(text string) []string {
	var out []string
	for _, l := range strings.Split(text, "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, l)
		}
	}
	return out
}

// play is one scenario on its way.
type play struct {
	t        *testing.T
	stack    *stack
	db       *sql.DB
	level    string
	current  bool // snapshot_isolation=OFF
	sessions map[string]*player
	order    []string
	out      strings.Builder
}

// player is one session of a play.
type player struct {
	name   string
	conn   *sql.Conn
	id     uint64      // of its connection
	result chan string // of the statement under way; nil if none
	later  []string    // statements put off
}

func newPlay(t *testing.T, s *stack, setup []string) *play {
	run(t, s.db("", ""), "DROP DATABASE IF EXISTS play", "CREATE DATABASE play")
	p := &play{t: t, stack: s, db: s.db("play", ""), sessions: map[string]*player{}}
	run(t, p.db, setup...)
	return p
}

func (p *play) run(steps []string) string {
	for _, step := range steps {
		name, statement, ok := strings.Cut(step, ":")
		require.True(p.t, ok, "step without a session: %s", step)
		p.step(p.session(name), strings.TrimSpace(statement))
	}
	for _, name := range p.order {
		x := p.sessions[name]
		require.Nil(p.t, x.result, "%s is blocked at the end of the scenario", name)
		x.conn.Close()
	}
	p.db.Close()
	return p.out.String()
}

func (p *play) session(name string) *player {
	if x := p.sessions[name]; x != nil {
		return x
	}
	x := &player{name: name, conn: connection(p.t, p.db)}
	run(p.t, x.conn, fmt.Sprintf("SET SESSION transaction_isolation = '%s'", p.level))
	if p.current {
		run(p.t, x.conn, "SET SESSION snapshot_isolation = OFF")
	}
	require.NoError(p.t, x.conn.QueryRowContext(context.Background(), "SELECT CONNECTION_ID()").Scan(&x.id))
	p.sessions[name] = x
	p.order = append(p.order, name)
	return x
}

// step begins a statement and shows what became of it and of those that waited.
func (p *play) step(x *player, statement string) {
	if x.result != nil {
		fmt.Fprintf(&p.out, "%s: %s\n    later\n", x.name, statement)
		x.later = append(x.later, statement)
		return
	}
	fmt.Fprintf(&p.out, "%s: %s\n", x.name, statement)
	p.begin(x, statement)
	p.settle(x)
}

func (p *play) begin(x *player, statement string) {
	x.result = make(chan string, 1)
	go func(result chan<- string) { result <- perform(x.conn, statement) }(x.result)
}

// settle waits until every statement under way has ended or waits for a lock,
// and prints both. The acting session comes first.
func (p *play) settle(acting *player) {
	known := map[string]string{}
	for {
		ended, blocked := p.look()
		names := slices.Concat([]string{acting.name}, p.order)
		for _, name := range names {
			result, ok := ended[name]
			if !ok {
				continue
			}
			delete(ended, name)
			x := p.sessions[name]
			x.result = nil
			p.print(x, acting, result)
			if len(x.later) > 0 {
				statement := x.later[0]
				x.later = x.later[1:]
				fmt.Fprintf(&p.out, "%s: %s\n", x.name, statement)
				p.begin(x, statement)
				acting = x
			}
		}
		if p.underWay() == len(blocked) {
			for _, name := range p.order {
				if blocked[name] != known[name] || name == acting.name && blocked[name] != "" {
					p.print(p.sessions[name], acting, blocked[name])
				}
			}
			return
		}
	}
}

func (p *play) underWay() (n int) {
	for _, x := range p.sessions {
		if x.result != nil {
			n++
		}
	}
	return n
}

func (p *play) print(x, acting *player, text string) {
	prefix := "    "
	if x != acting {
		prefix = "    " + x.name + ": "
	}
	for _, l := range strings.Split(text, "\n") {
		fmt.Fprintf(&p.out, "%s%s\n", prefix, l)
	}
}

// look waits until each statement under way has ended, or stands still in a
// queue behind sessions that are doing nothing.
func (p *play) look() (ended, blocked map[string]string) {
	ended = map[string]string{}
	deadline := time.Now().Add(2 * time.Minute)
	for still := 0; still < 3; {
		require.NoError(p.t, p.stack.coordinator.Flush(context.Background()))
		blocked = p.blocked()
		before := len(ended)
		moving := false
		for name, x := range p.sessions {
			if x.result == nil || ended[name] != "" {
				continue
			}
			select {
			case ended[name] = <-x.result:
			default:
				moving = moving || blocked[name] == ""
			}
		}
		if len(ended) > before || moving {
			still = 0
		} else {
			still++
		}
		require.True(p.t, time.Now().Before(deadline), "statements neither end nor wait:\n%s", p.out.String())
		time.Sleep(2 * time.Millisecond)
	}
	for name := range ended {
		delete(blocked, name)
	}
	return ended, blocked
}

// blocked says of each waiting session whom it waits for, and on what.
func (p *play) blocked() map[string]string {
	sessions := map[storage.TxnID]string{}
	for _, info := range p.stack.coordinator.Active() {
		for name, x := range p.sessions {
			if info.Label == fmt.Sprintf("connection %d", x.id) {
				sessions[info.ID] = name
			}
		}
	}
	out := map[string][]string{}
	for _, id := range p.stack.node.Router().DataShards() {
		locks, err := p.stack.node.Router().Locks(context.Background(), id)
		require.NoError(p.t, err)
		for _, l := range locks {
			if name := sessions[l.Txn]; l.Waiting && name != "" {
				var others []string
				for _, b := range l.BlockedBy {
					others = append(others, sessions[b])
				}
				slices.Sort(others)
				text := fmt.Sprintf("waits for %s: %s", strings.Join(slices.Compact(others), ", "), p.describe(l))
				out[name] = append(out[name], text)
			}
		}
	}
	joined := map[string]string{}
	for name, texts := range out {
		slices.Sort(texts)
		joined[name] = strings.Join(slices.Compact(texts), "\n")
	}
	return joined
}

// describe names the mode, the table and the index of a lock.
func (p *play) describe(l shard.LockInfo) string {
	what := "a row"
	if l.Hi != nil {
		what = "an interval"
	}
	for _, schema := range p.stack.server.catalog.snapshot.Load().Schemas() {
		for _, desc := range schema.Tables {
			info, err := p.stack.server.catalog.info(schema, desc)
			require.NoError(p.t, err)
			for _, x := range append([]*indexInfo{info.primary}, info.indexes...) {
				if bytes.HasPrefix(l.Lo, x.start) {
					return fmt.Sprintf("%s on %s of %s.%s", l.Mode, what, desc.Name, x.name)
				}
			}
		}
	}
	return fmt.Sprintf("%s on %s", l.Mode, what)
}

// perform runs a statement and puts its outcome into words.
func perform(conn *sql.Conn, statement string) string {
	ctx := context.Background()
	first := strings.ToLower(strings.TrimLeft(statement, "( "))
	if !strings.HasPrefix(first, "select") && !strings.HasPrefix(first, "with") && !strings.HasPrefix(first, "call") && !strings.HasPrefix(first, "show") && !strings.HasPrefix(first, "table") {
		result, err := conn.ExecContext(ctx, statement)
		if err != nil {
			return outcome(err)
		}
		if n, _ := result.RowsAffected(); n != 0 {
			return fmt.Sprintf("ok, %d rows", n)
		}
		return "ok"
	}
	rows, err := conn.QueryContext(ctx, statement)
	if err != nil {
		return outcome(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return outcome(err)
	}
	var out []string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		pointers := make([]any, len(columns))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return outcome(err)
		}
		var texts []string
		for _, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			texts = append(texts, v.String)
		}
		out = append(out, strings.Join(texts, " "))
	}
	if err := rows.Err(); err != nil {
		return outcome(err)
	}
	if len(out) == 0 {
		return "no rows"
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// outcome is an error's number; its text names keys and transactions, which
// differ from run to run.
func outcome(err error) string {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return fmt.Sprintf("error %d", e.Number)
	}
	return "error " + err.Error()
}
