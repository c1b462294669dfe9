package sqlfront

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// lockView is one look at all locks and transactions of the cluster.
type lockView struct {
	at    time.Time
	names *keyNames
	locks []LockInfo
	txns  map[storage.TxnID]txn.Info
}

func (s *Server) lockView(ctx context.Context) (*lockView, error) {
	v := &lockView{at: time.Now(), names: s.catalog.keyNames(), txns: map[storage.TxnID]txn.Info{}}
	open, err := s.transactionsOfAll(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range open {
		v.txns[t.ID] = t.Info
	}
	if s.config.Sources.Locks == nil {
		return v, nil
	}
	if v.locks, err = s.config.Sources.Locks(ctx); err != nil && len(v.locks) > 0 {
		warn(ctx, err.Error())
		err = nil
	}
	return v, err
}

// sortedInfos lists transactions, oldest first.
func sortedInfos(m map[storage.TxnID]txn.Info) []txn.Info {
	infos := slices.Collect(maps.Values(m))
	slices.SortFunc(infos, func(a, b txn.Info) int { return a.ID.Compare(b.ID) })
	return infos
}

// lockRow is a lock in a view; waitRow is a wait and one of those it is for.
type lockRow struct {
	v *lockView
	LockInfo
	key lockedKey
}

type waitRow struct {
	lockRow
	other   storage.TxnID
	blocker *LockInfo // the other's lock, or its earlier request; nil: gone meanwhile
}

func (v *lockView) rows() []lockRow {
	rows := make([]lockRow, len(v.locks))
	for i, l := range v.locks {
		rows[i] = lockRow{v, l, v.names.describe(l.Lo, l.Hi)}
	}
	return rows
}

func (v *lockView) waits() (rows []waitRow) {
	for i := range v.locks {
		l := &v.locks[i]
		for _, other := range l.WaitsFor {
			rows = append(rows, waitRow{lockRow{v, *l, v.names.describe(l.Lo, l.Hi)}, other, v.blocker(l, other)})
		}
	}
	return rows
}

// blocker finds what of another transaction stands in the way of a wait: a lock
// that it holds, else a request that comes first.
func (v *lockView) blocker(w *LockInfo, other storage.TxnID) (found *LockInfo) {
	for i := range v.locks {
		l := &v.locks[i]
		if l.Transaction != other || l.Shard != w.Shard || !overlap(l, w) {
			continue
		}
		if found == nil || l.Granted && !found.Granted {
			found = l
		}
	}
	return found
}

func overlap(a, b *LockInfo) bool {
	begins := func(a, b *LockInfo) bool { // a begins before b ends
		return bytes.Compare(a.Lo, b.Lo) <= 0 || b.Hi != nil && bytes.Compare(a.Lo, b.Hi) < 0
	}
	return begins(a, b) && begins(b, a)
}

// connection is the client of a transaction; 0 if it is not known here.
func (v *lockView) connection(id storage.TxnID, known uint64) uint64 {
	if known != 0 {
		return known
	}
	return v.txns[id].Connection
}

// statement is what a transaction runs or ran last, nil if it is not known here.
func (v *lockView) statement(id storage.TxnID, known string) any {
	if known != "" {
		return known
	}
	if info, ok := v.txns[id]; ok && info.Statement != "" {
		return info.Statement
	}
	return nil
}

// since is when a wait began.
func (r *lockRow) since() time.Time { return r.v.at.Add(-r.Waited).UTC() }

// bytesText is the key itself, an interval as "lo..hi".
func (r *lockRow) bytesText() string {
	text := hex.EncodeToString(r.Lo)
	if r.Hi != nil {
		text += ".." + hex.EncodeToString(r.Hi)
	}
	return text
}

func joinIDs(ids []storage.TxnID) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, id.String())
	}
	return strings.Join(texts, " ")
}

// orNull is NULL for an empty text.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// addLockViews adds rowlock.locks, lock_waits, deadlocks and innodb_status.
func addLockViews(d *systemDatabase, s *Server) {
	add(d, "locks", fromView(s, (*lockView).rows), []systemColumn{
		{"shard", types.Uint64}, {"transaction", types.LongText}, {"mode", types.LongText}, {"key_hex", types.LongText},
		{"granted", types.Boolean}, {"waits_for", types.LongText}, {"statement", types.LongText},
		{"connection", types.Uint64}, {"table_schema", types.LongText}, {"table_name", types.LongText},
		{"index_name", types.LongText}, {"lock_data", types.LongText}, {"voted", types.Boolean},
	}, func(r lockRow) sql.Row {
		return sql.Row{r.Shard, r.Transaction.String(), r.Mode, r.bytesText(), boolInt(r.Granted), joinIDs(r.WaitsFor), r.Statement,
			r.v.connection(r.Transaction, r.Connection), orNull(r.key.database), orNull(r.key.table), orNull(r.key.index),
			r.key.data, boolInt(r.Voted)}
	})
	add(d, "lock_waits", fromView(s, (*lockView).waits), []systemColumn{
		{"table_schema", types.LongText}, {"table_name", types.LongText}, {"index_name", types.LongText}, {"lock_data", types.LongText},
		{"since", types.DatetimeMaxPrecision}, {"waited_seconds", types.Float64}, {"shard", types.Uint64},
		{"waiting_transaction", types.LongText}, {"waiting_connection", types.Uint64}, {"waiting_mode", types.LongText}, {"waiting_statement", types.LongText},
		{"blocking_transaction", types.LongText}, {"blocking_connection", types.Uint64}, {"blocking_mode", types.LongText}, {"blocking_statement", types.LongText},
		{"blocking_state", types.LongText},
	}, waitColumns)
	add(d, "deadlocks", s.deadlockMembers, []systemColumn{
		{"number", types.Uint64}, {"time", types.DatetimeMaxPrecision}, {"member", types.Uint64}, {"victim", types.Boolean},
		{"transaction", types.LongText}, {"connection", types.Uint64}, {"rows_written", types.Uint64},
		{"waited_seconds", types.Float64}, {"mode", types.LongText}, {"table_schema", types.LongText}, {"table_name", types.LongText},
		{"index_name", types.LongText}, {"lock_data", types.LongText}, {"waits_for", types.LongText}, {"statement", types.LongText},
		{"node", types.Uint64},
	}, deadlockColumns)
	add(d, "innodb_status", s.innodbStatus, []systemColumn{{"Type", types.LongText}, {"Name", types.LongText}, {"Status", types.LongText}},
		func(text string) sql.Row { return sql.Row{"InnoDB", "", text} })
}

// fromView makes a source of rows from a look at the locks.
func fromView[R any](s *Server, rows func(*lockView) []R) func(context.Context) ([]R, error) {
	return func(ctx context.Context) ([]R, error) {
		v, err := s.lockView(ctx)
		if err != nil {
			return nil, err
		}
		return rows(v), nil
	}
}

func waitColumns(r waitRow) sql.Row {
	var mode, state any
	var statement string
	if r.blocker != nil {
		mode, statement = r.blocker.Mode, r.blocker.Statement
		switch {
		case r.blocker.Voted:
			state = "committing"
		case r.blocker.Granted:
			state = "holds"
		default:
			state = "waits before"
		}
	}
	var known uint64
	if r.blocker != nil {
		known = r.blocker.Connection
	}
	return sql.Row{orNull(r.key.database), orNull(r.key.table), orNull(r.key.index), r.key.data, r.since(), r.Waited.Seconds(), r.Shard,
		r.Transaction.String(), r.v.connection(r.Transaction, r.Connection), r.Mode, r.v.statement(r.Transaction, r.Statement),
		r.other.String(), r.v.connection(r.other, known), mode, r.v.statement(r.other, statement), state}
}

// deadlockMember is one member of a deadlock, in rowlock.deadlocks.
type deadlockMember struct {
	deadlock *DeadlockInfo
	position int
	LockInfo
	key lockedKey
}

// deadlocks are the latest of all nodes, oldest first.
func (s *Server) deadlocks(ctx context.Context) ([]DeadlockInfo, error) {
	all, err := fromAll(s, askDeadlocks, func(a *peerAnswer) []DeadlockInfo {
		for i := range a.deadlocks {
			a.deadlocks[i].Node = a.node
		}
		return a.deadlocks
	})(ctx)
	slices.SortStableFunc(all, func(a, b DeadlockInfo) int { return a.Time.Compare(b.Time) })
	return all, err
}

func (s *Server) deadlockMembers(ctx context.Context) ([]deadlockMember, error) {
	deadlocks, err := s.deadlocks(ctx)
	if err != nil {
		return nil, err
	}
	names := s.catalog.keyNames()
	var members []deadlockMember
	for i := range deadlocks {
		d := &deadlocks[i]
		for position, m := range d.Members {
			members = append(members, deadlockMember{d, position, m, names.describe(m.Lo, m.Hi)})
		}
	}
	return members, nil
}

// next is the member that this one waited for.
func (m *deadlockMember) next() *LockInfo {
	return &m.deadlock.Members[(m.position+1)%len(m.deadlock.Members)]
}

func deadlockColumns(m deadlockMember) sql.Row {
	return sql.Row{m.deadlock.Number, m.deadlock.Time.UTC(), uint64(m.position + 1), boolInt(m.Transaction == m.deadlock.Victim),
		m.Transaction.String(), m.Connection, uint64(m.Weight), m.Waited.Seconds(), m.Mode, orNull(m.key.database), orNull(m.key.table),
		orNull(m.key.index), m.key.data, m.next().Transaction.String(), fmt.Sprint(m.Statement),
		m.deadlock.Node}
}
