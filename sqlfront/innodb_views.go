package sqlfront

import (
	"fmt"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/information_schema"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// The views that MySQL has of InnoDB's locks, with its names of columns, so that
// the queries people know find who blocks whom. A transaction's number in them is
// the timestamp it began at.

// newViewDatabases makes performance_schema and sys.
func newViewDatabases(s *Server) []*systemDatabase {
	performance := &systemDatabase{name: "performance_schema", tables: map[string]*systemTable{}}
	add(performance, "data_locks", fromView(s, (*lockView).rows), []systemColumn{
		{"ENGINE", types.LongText}, {"ENGINE_LOCK_ID", types.LongText}, {"ENGINE_TRANSACTION_ID", types.Uint64},
		{"THREAD_ID", types.Uint64}, {"EVENT_ID", types.Uint64}, {"OBJECT_SCHEMA", types.LongText}, {"OBJECT_NAME", types.LongText},
		{"PARTITION_NAME", types.LongText}, {"SUBPARTITION_NAME", types.LongText}, {"INDEX_NAME", types.LongText},
		{"OBJECT_INSTANCE_BEGIN", types.Uint64}, {"LOCK_TYPE", types.LongText}, {"LOCK_MODE", types.LongText},
		{"LOCK_STATUS", types.LongText}, {"LOCK_DATA", types.LongText},
	}, func(r lockRow) sql.Row {
		return sql.Row{engineName, lockName(&r.LockInfo), uint64(r.Transaction.Start), r.v.connection(r.Transaction, r.Connection), nil,
			orNull(r.key.database), orNull(r.key.table), nil, nil, orNull(r.key.index), uint64(0), "RECORD", innodbMode(&r.LockInfo),
			lockStatus(&r.LockInfo), r.key.data}
	})
	add(performance, "data_lock_waits", fromView(s, (*lockView).waits), []systemColumn{
		{"ENGINE", types.LongText}, {"REQUESTING_ENGINE_LOCK_ID", types.LongText}, {"REQUESTING_ENGINE_TRANSACTION_ID", types.Uint64},
		{"REQUESTING_THREAD_ID", types.Uint64}, {"REQUESTING_EVENT_ID", types.Uint64}, {"REQUESTING_OBJECT_INSTANCE_BEGIN", types.Uint64},
		{"BLOCKING_ENGINE_LOCK_ID", types.LongText}, {"BLOCKING_ENGINE_TRANSACTION_ID", types.Uint64},
		{"BLOCKING_THREAD_ID", types.Uint64}, {"BLOCKING_EVENT_ID", types.Uint64}, {"BLOCKING_OBJECT_INSTANCE_BEGIN", types.Uint64},
	}, func(r waitRow) sql.Row {
		var blocking any
		var known uint64
		if r.blocker != nil {
			blocking, known = lockName(r.blocker), r.blocker.Connection
		}
		return sql.Row{engineName, lockName(&r.LockInfo), uint64(r.Transaction.Start), r.v.connection(r.Transaction, r.Connection), nil, uint64(0),
			blocking, uint64(r.other.Start), r.v.connection(r.other, known), nil, uint64(0)}
	})
	addProcessViews(performance, s)
	sys := &systemDatabase{name: "sys", tables: map[string]*systemTable{}}
	add(sys, "innodb_lock_waits", fromView(s, (*lockView).waits), []systemColumn{
		{"wait_started", types.DatetimeMaxPrecision}, {"wait_age_secs", types.Uint64}, {"locked_table", types.LongText},
		{"locked_index", types.LongText}, {"waiting_trx_id", types.Uint64}, {"waiting_pid", types.Uint64}, {"waiting_query", types.LongText},
		{"waiting_lock_mode", types.LongText}, {"blocking_trx_id", types.Uint64}, {"blocking_pid", types.Uint64},
		{"blocking_query", types.LongText}, {"blocking_lock_mode", types.LongText},
		{"sql_kill_blocking_query", types.LongText}, {"sql_kill_blocking_connection", types.LongText},
	}, sysLockWait)
	return []*systemDatabase{performance, sys}
}

// engineName is what tools filter these views by.
const engineName = "INNODB"

// lockName is the same for a lock in both views, and no other lock has it.
func lockName(l *LockInfo) string {
	r := lockRow{LockInfo: *l}
	return fmt.Sprintf("%d:%d:%s:%s:%s", l.Transaction.Start, l.Shard, innodbMode(l), lockStatus(l), r.bytesText())
}

// innodbMode writes a mode as InnoDB does.
func innodbMode(l *LockInfo) string {
	switch {
	case l.Mode == "GAP":
		return "S,GAP"
	case l.Mode == "INSERT":
		return "X,INSERT_INTENTION"
	case l.Hi == nil:
		return l.Mode + ",REC_NOT_GAP"
	}
	return l.Mode
}

func lockStatus(l *LockInfo) string {
	if l.Granted {
		return "GRANTED"
	}
	return "WAITING"
}

func sysLockWait(r waitRow) sql.Row {
	var mode, query any
	var known uint64
	if r.blocker != nil {
		mode, known = innodbMode(r.blocker), r.blocker.Connection
	}
	if info, ok := r.v.txns[r.other]; ok && info.State != txn.StateIdle { // it runs something now
		query = orNull(info.Statement)
	}
	pid := r.v.connection(r.other, known)
	var table any
	if r.key.table != "" {
		table = fmt.Sprintf("`%s`.`%s`", r.key.database, r.key.table)
	}
	return sql.Row{r.since(), uint64(r.Waited.Seconds()), table, orNull(r.key.index), uint64(r.Transaction.Start),
		r.v.connection(r.Transaction, r.Connection), r.v.statement(r.Transaction, r.Statement), innodbMode(&r.LockInfo), uint64(r.other.Start), pid,
		query, mode, fmt.Sprintf("KILL QUERY %d", pid), fmt.Sprintf("KILL %d", pid)}
}

// fillInnodbTrx gives information_schema.innodb_trx its rows, which the engine
// leaves empty.
func (s *Server) fillInnodbTrx() {
	ctx := sql.NewEmptyContext()
	t, ok, err := s.engine.Analyzer.Catalog.InfoSchema.GetTableInsensitive(ctx, information_schema.InnoDBTrxName)
	table, is := t.(*information_schema.InformationSchemaTable)
	if err != nil || !ok || !is {
		return
	}
	table.Reader = func(ctx *sql.Context, _ sql.Catalog) (sql.RowIter, error) {
		v, err := s.lockView(ctx)
		if err != nil {
			return nil, err
		}
		var rows []sql.Row
		for _, info := range sortedInfos(v.txns) {
			if info.Connection != 0 { // not the server's own, of background work
				rows = append(rows, v.innodbTrx(info))
			}
		}
		return sql.RowsToRowIter(rows...), nil
	}
}

// innodbTrx is one row in the order of the engine's columns.
func (v *lockView) innodbTrx(t txn.Info) sql.Row {
	state, wait := "RUNNING", v.waitOf(t.ID)
	var requested, since any
	if wait != nil {
		state = "LOCK WAIT"
		requested, since = lockName(&wait.LockInfo), wait.since()
	}
	return sql.Row{uint64(t.ID.Start), state, t.Begun.UTC(), requested, since, uint64(t.Writes + t.Locks), t.Connection, orNull(t.Statement),
		orNull(string(t.State)), uint64(0), uint64(len(t.Shards)), uint64(t.Locks), uint64(t.Bytes), uint64(t.Locks), uint64(t.Writes),
		uint64(0), strings.ToUpper(t.Isolation.String()), int32(1), int32(1), nil, int32(0), uint64(0), int32(boolInt(t.ReadOnly)), int32(0), nil}
}

// waitOf is what a transaction waits for, nil if it does not.
func (v *lockView) waitOf(id storage.TxnID) *lockRow {
	for i := range v.locks {
		if l := v.locks[i]; !l.Granted && l.Transaction == id {
			return &lockRow{v, l, v.names.describe(l.Lo, l.Hi)}
		}
	}
	return nil
}
