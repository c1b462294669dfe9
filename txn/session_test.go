package txn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// TestSessions runs the scripts of testdata/sessions: transactions interleaved
// step by step, with who waits and what is read. A row is named key@shard.
//
//	setup                     one "key@shard=value" a line, committed
//	begin NAME [rc|rr|ser] [ro] [auto] [off]   off: no snapshot isolation
//	statement NAME
//	get NAME row... [x|s] [nowait|skip]
//	scan NAME lo hi [@shard] [x|s] [skip] [reverse] [limit=n]
//	put NAME row=value...   delete NAME row...
//	savepoint NAME P        rollback-to NAME P
//	unlock NAME row...
//	commit NAME             rollback NAME            kill NAME
//	drop-locks              a lease lapse: every unvoted lock is gone
//
// A step that waits for a lock prints "NAME: blocked" and its result appears
// after the step that let it go on.
func TestSessions(t *testing.T) {
	datadriven.Walk(t, "testdata/sessions", func(t *testing.T, path string) {
		c := newCluster(t)
		s := &script{cluster: c, t: t, co: c.coordinator(nil), sessions: map[string]*session{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.step(d)
			s.collect()
			return s.out.String()
		})
		for _, x := range s.sessions {
			x.cancel()
			require.NoError(t, x.tx.Rollback(context.Background()))
		}
	})
}

type script struct {
	*cluster
	t        *testing.T
	co       *txn.Coordinator
	sessions map[string]*session
	order    []string
	acting   string // the session of the step
	out      strings.Builder
}

type session struct {
	name   string
	tx     *txn.Txn
	ctx    context.Context
	cancel context.CancelFunc
	marks  map[string]txn.Savepoint
	result chan string // of the step under way; nil if none
}

func (s *script) row(name string) txn.Key {
	k, at, ok := strings.Cut(name, "@")
	id := shard.ID(1)
	if ok {
		_, err := fmt.Sscanf(at, "%d", &id)
		require.NoError(s.t, err)
	}
	return s.key(id, k)
}

func (s *script) step(d *datadriven.TestData) {
	if d.Cmd == "setup" {
		ctx := context.Background()
		tx := s.co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		for _, line := range strings.Fields(d.Input) {
			name, value, _ := strings.Cut(line, "=")
			_, err := tx.Get(ctx, s.row(name), txn.ReadOptions{Lock: txn.LockExclusive})
			require.NoError(s.t, err)
			require.NoError(s.t, tx.Put(s.row(name), []byte(value)))
		}
		require.NoError(s.t, tx.Commit(ctx))
		require.NoError(s.t, s.co.Flush(ctx))
		return
	}
	if d.Cmd == "drop-locks" {
		only := -1
		if len(d.CmdArgs) > 0 {
			_, err := fmt.Sscanf(d.CmdArgs[0].Key, "@%d", &only)
			require.NoError(s.t, err)
		}
		s.dropLocks(only)
		return
	}
	name := d.CmdArgs[0].Key
	s.acting = name
	args := make([]string, 0, len(d.CmdArgs))
	for _, a := range d.CmdArgs[1:] {
		args = append(args, a.String())
	}
	if d.Cmd == "begin" {
		s.begin(name, args)
		return
	}
	x := s.sessions[name]
	require.NotNil(s.t, x, "no session %s", name)
	if d.Cmd == "kill" {
		x.cancel()
		return
	}
	require.Nil(s.t, x.result, "%s is blocked", name)
	x.result = make(chan string, 1)
	go func(result chan<- string) { result <- s.do(x, d.Cmd, args) }(x.result)
}

// dropLocks makes every owner forget the open transactions, by a renewal that
// does not list them.
func (s *script) dropLocks(only int) {
	r := &shard.RenewRequest{Gateway: s.node.Gateway()}
	for _, i := range s.co.Active() {
		r.Cut = max(r.Cut, i.ID.Seq)
	}
	for id := shard.ID(0); id <= testShards; id++ {
		if only >= 0 && id != shard.ID(only) {
			continue
		}
		require.NoError(s.t, s.node.Router().Renew(context.Background(), id, r))
	}
}

func (s *script) begin(name string, args []string) {
	o := txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, Label: name}
	for _, a := range args {
		switch a {
		case "rc":
			o.Isolation = txn.ReadCommitted
		case "ser":
			o.Isolation = txn.Serializable
		case "ro":
			o.ReadOnly = true
		case "auto":
			o.Autocommit = true
		case "off":
			o.SnapshotIsolation = false
		}
	}
	if s.sessions[name] == nil {
		s.order = append(s.order, name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.sessions[name] = &session{name: name, tx: s.co.Begin(o), ctx: ctx, cancel: cancel, marks: map[string]txn.Savepoint{}}
}

// collect prints the results of steps that ended and names those that wait for
// a lock of an open transaction. It returns once every step is one or the other.
func (s *script) collect() {
	require.NoError(s.t, s.co.Flush(context.Background()))
	ended := map[string]string{}
	for s.settle(ended) {
	}
	// The step's own result first: which of several ends first is chance.
	for _, name := range append([]string{s.acting}, s.order...) {
		if r, ok := ended[name]; ok {
			fmt.Fprintf(&s.out, "%s: %s\n", name, r)
			delete(ended, name)
		}
	}
	for _, name := range s.order {
		if s.sessions[name].result != nil {
			fmt.Fprintf(&s.out, "%s: blocked\n", name)
		}
	}
}

// settle waits until every step has ended or waits; true if one ended, which
// may let others go on.
func (s *script) settle(ended map[string]string) (progress bool) {
	for _, name := range s.order {
		x := s.sessions[name]
		for x.result != nil && !s.blocked(x) {
			select {
			case r := <-x.result:
				ended[name] = r
				x.result, progress = nil, true
				if x.ctx.Err() != nil {
					x.ctx, x.cancel = context.WithCancel(context.Background())
				}
			case <-time.After(time.Millisecond):
			}
		}
	}
	return progress
}

// blocked tells whether x waits for a lock that nobody is about to let go.
func (s *script) blocked(x *session) bool {
	if x.ctx.Err() != nil {
		return false
	}
	open := map[storage.TxnID]bool{}
	for _, i := range s.co.Active() {
		open[i.ID] = true
	}
	id := storage.TxnID{}
	for _, i := range s.co.Active() {
		if i.Label == x.name {
			id = i.ID
		}
	}
	for _, sh := range append(s.node.Router().DataShards(), shard.System) {
		infos, err := s.node.Router().Locks(context.Background(), sh)
		require.NoError(s.t, err)
		for _, l := range infos {
			if !l.Waiting || l.Txn != id || len(l.BlockedBy) == 0 {
				continue
			}
			for _, b := range l.BlockedBy {
				if !open[b] {
					return false
				}
			}
			return true
		}
	}
	return false
}

func (s *script) do(x *session, cmd string, args []string) string {
	o, rest, limit, reverse := options(args)
	var err error
	switch cmd {
	case "statement":
		x.tx.BeginStatement(x.ctx, "statement of "+x.name)
		return "ok"
	case "get":
		var keys []txn.Key
		for _, a := range rest {
			keys = append(keys, s.row(a))
		}
		var rows []txn.Row
		if len(keys) == 1 {
			rows = make([]txn.Row, 1)
			rows[0], err = x.tx.Get(x.ctx, keys[0], o)
		} else {
			rows, err = x.tx.GetMany(x.ctx, keys, o)
		}
		if err == nil {
			return show(rows)
		}
	case "scan":
		sc := txn.Scan{Lo: storage.Key(rest[0]), Hi: storage.Key(rest[1]), Lock: o.Lock, Wait: o.Wait, Reverse: reverse, Limit: limit}
		if len(rest) > 2 {
			var id shard.ID
			_, err = fmt.Sscanf(rest[2], "@%d", &id)
			require.NoError(s.t, err)
			sc.Where = txn.OneShard(s.tokens[id])
		}
		var rows []txn.Row
		if rows, err = drain(x.ctx, x.tx, sc); err == nil {
			return show(rows)
		}
	case "put":
		for _, a := range rest {
			name, value, _ := strings.Cut(a, "=")
			if err = x.tx.Put(s.row(name), []byte(value)); err != nil {
				break
			}
		}
	case "delete":
		for _, a := range rest {
			if err = x.tx.Delete(s.row(a)); err != nil {
				break
			}
		}
	case "unlock":
		var keys []txn.Key
		for _, a := range rest {
			keys = append(keys, s.row(a))
		}
		err = x.tx.Unlock(x.ctx, keys)
	case "savepoint":
		x.marks[rest[0]] = x.tx.Savepoint()
	case "rollback-to":
		x.tx.RollbackTo(x.marks[rest[0]])
	case "commit":
		err = x.tx.Commit(x.ctx)
	case "rollback":
		err = x.tx.Rollback(x.ctx)
	default:
		return "unknown command " + cmd
	}
	if err == nil {
		return "ok"
	}
	var e *txn.Error
	if !errors.As(err, &e) {
		return "error outside the contract: " + err.Error()
	}
	if x.tx.Aborted() != nil {
		return e.Code.String() + ", rolled back"
	}
	return e.Code.String()
}

func options(args []string) (o txn.ReadOptions, rest []string, limit int, reverse bool) {
	for _, a := range args {
		switch {
		case a == "x":
			o.Lock = txn.LockExclusive
		case a == "s":
			o.Lock = txn.LockShared
		case a == "nowait":
			o.Wait = txn.NoWait
		case a == "skip":
			o.Wait = txn.SkipLocked
		case a == "reverse":
			reverse = true
		case strings.HasPrefix(a, "limit="):
			_, _ = fmt.Sscanf(a, "limit=%d", &limit)
		default:
			rest = append(rest, a)
		}
	}
	return o, rest, limit, reverse
}

func drain(ctx context.Context, tx *txn.Txn, sc txn.Scan) ([]txn.Row, error) {
	cursor, err := tx.Scan(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer cursor.Close()
	var rows []txn.Row
	for sc.Limit == 0 || len(rows) < sc.Limit {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func show(rows []txn.Row) string {
	if len(rows) == 0 {
		return "nothing"
	}
	parts := make([]string, len(rows))
	for i, r := range rows {
		switch {
		case r.Skipped:
			parts[i] = string(r.Key) + " skipped"
		case !r.Found:
			parts[i] = string(r.Key) + " none"
		default:
			parts[i] = fmt.Sprintf("%s=%s", r.Key, r.Value)
		}
	}
	return strings.Join(parts, " ")
}
