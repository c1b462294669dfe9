package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/txn"
)

// systemDatabaseName is the database that shows the state of the cluster.
const systemDatabaseName = "rowlock"

// systemDatabase is read only; its tables ask the callbacks of Sources.
type systemDatabase struct {
	name   string
	tables map[string]*systemTable
}

var (
	_ sql.ReadOnlyDatabase = (*systemDatabase)(nil)
	// With users and grants the engine asks every database for these, and fails
	// if one does not answer.
	_ sql.ViewDatabase            = (*systemDatabase)(nil)
	_ sql.TriggerDatabase         = (*systemDatabase)(nil)
	_ sql.StoredProcedureDatabase = (*systemDatabase)(nil)
	_ sql.EventDatabase           = (*systemDatabase)(nil)
)

// Name implements sql.Nameable.
func (d *systemDatabase) Name() string { return d.name }

// IsReadOnly implements sql.ReadOnlyDatabase.
func (d *systemDatabase) IsReadOnly() bool { return true }

// GetTableInsensitive implements sql.Database.
func (d *systemDatabase) GetTableInsensitive(_ *sql.Context, name string) (sql.Table, bool, error) {
	t, ok := d.tables[strings.ToLower(name)]
	return t, ok, nil
}

// GetTableNames implements sql.Database.
func (d *systemDatabase) GetTableNames(*sql.Context) ([]string, error) {
	return sortedKeys(d.tables), nil
}

// CreateView implements sql.ViewDatabase.
func (d *systemDatabase) CreateView(*sql.Context, string, string, string) error {
	return sql.ErrDatabaseWriteLocked.New()
}

// DropView implements sql.ViewDatabase.
func (d *systemDatabase) DropView(_ *sql.Context, name string) error {
	return sql.ErrViewDoesNotExist.New(systemDatabaseName, name)
}

// GetViewDefinition implements sql.ViewDatabase.
func (d *systemDatabase) GetViewDefinition(*sql.Context, string) (sql.ViewDefinition, bool, error) {
	return sql.ViewDefinition{}, false, nil
}

// AllViews implements sql.ViewDatabase.
func (d *systemDatabase) AllViews(*sql.Context) ([]sql.ViewDefinition, error) { return nil, nil }

// GetTriggers implements sql.TriggerDatabase.
func (d *systemDatabase) GetTriggers(*sql.Context) ([]sql.TriggerDefinition, error) { return nil, nil }

// CreateTrigger implements sql.TriggerDatabase.
func (d *systemDatabase) CreateTrigger(*sql.Context, sql.TriggerDefinition) error {
	return sql.ErrDatabaseWriteLocked.New()
}

// DropTrigger implements sql.TriggerDatabase.
func (d *systemDatabase) DropTrigger(_ *sql.Context, name string) error {
	return sql.ErrTriggerDoesNotExist.New(name)
}

// GetStoredProcedure implements sql.StoredProcedureDatabase.
func (d *systemDatabase) GetStoredProcedure(*sql.Context, string) (sql.StoredProcedureDetails, bool, error) {
	return sql.StoredProcedureDetails{}, false, nil
}

// GetStoredProcedures implements sql.StoredProcedureDatabase.
func (d *systemDatabase) GetStoredProcedures(*sql.Context) ([]sql.StoredProcedureDetails, error) {
	return nil, nil
}

// SaveStoredProcedure implements sql.StoredProcedureDatabase.
func (d *systemDatabase) SaveStoredProcedure(*sql.Context, sql.StoredProcedureDetails) error {
	return sql.ErrDatabaseWriteLocked.New()
}

// DropStoredProcedure implements sql.StoredProcedureDatabase.
func (d *systemDatabase) DropStoredProcedure(_ *sql.Context, name string) error {
	return sql.ErrStoredProcedureDoesNotExist.New(name)
}

// GetEvent implements sql.EventDatabase.
func (d *systemDatabase) GetEvent(*sql.Context, string) (sql.EventDefinition, bool, error) {
	return sql.EventDefinition{}, false, nil
}

// GetEvents implements sql.EventDatabase.
func (d *systemDatabase) GetEvents(*sql.Context) ([]sql.EventDefinition, any, error) {
	return nil, nil, nil
}

// SaveEvent implements sql.EventDatabase.
func (d *systemDatabase) SaveEvent(*sql.Context, sql.EventDefinition) (bool, error) {
	return false, sql.ErrDatabaseWriteLocked.New()
}

// DropEvent implements sql.EventDatabase.
func (d *systemDatabase) DropEvent(_ *sql.Context, name string) error {
	return sql.ErrEventDoesNotExist.New(name)
}

// UpdateEvent implements sql.EventDatabase.
func (d *systemDatabase) UpdateEvent(*sql.Context, string, sql.EventDefinition) (bool, error) {
	return false, sql.ErrDatabaseWriteLocked.New()
}

// UpdateLastExecuted implements sql.EventDatabase.
func (d *systemDatabase) UpdateLastExecuted(*sql.Context, string, time.Time) error { return nil }

// NeedsToReloadEvents implements sql.EventDatabase.
func (d *systemDatabase) NeedsToReloadEvents(*sql.Context, any) (bool, error) { return false, nil }

// systemTable is a table whose rows are computed when read.
type systemTable struct {
	name   string
	schema sql.Schema
	rows   func(context.Context) ([]sql.Row, error)
}

var (
	_ sql.Table          = (*systemTable)(nil)
	_ sql.TemporaryTable = (*systemTable)(nil)
)

// Name implements sql.Nameable.
func (t *systemTable) Name() string { return t.name }

// String implements fmt.Stringer.
func (t *systemTable) String() string { return t.name }

// Schema implements sql.Table.
func (t *systemTable) Schema(*sql.Context) sql.Schema { return t.schema }

// Collation implements sql.Table.
func (t *systemTable) Collation() sql.CollationID { return sql.Collation_Default }

// IsTemporary implements sql.TemporaryTable.
func (t *systemTable) IsTemporary() bool { return false }

// Partitions implements sql.Table.
func (t *systemTable) Partitions(*sql.Context) (sql.PartitionIter, error) {
	return &onePartition{}, nil
}

// PartitionRows implements sql.Table.
func (t *systemTable) PartitionRows(ctx *sql.Context, _ sql.Partition) (sql.RowIter, error) {
	rows, err := t.rows(ctx)
	if err != nil {
		return nil, err
	}
	return sql.RowsToRowIter(rows...), nil
}

func newSystemDatabase(s *Server) *systemDatabase {
	src := s.config.Sources
	d := &systemDatabase{name: systemDatabaseName, tables: map[string]*systemTable{}}
	add(d, "shards", s.shardsOfAll, []systemColumn{
		{"shard", types.Uint64}, {"owner", types.Uint64}, {"epoch", types.Uint64}, {"state", types.LongText},
		{"bytes", types.Uint64}, {"share", types.Float64}, {"applied", types.Uint64},
	}, func(r ShardInfo) sql.Row {
		return sql.Row{r.Shard, r.Owner, r.Epoch, r.State, r.Bytes, r.Share, r.Applied}
	})
	add(d, "nodes", src.Nodes, []systemColumn{
		{"node", types.Uint64}, {"address", types.LongText}, {"zone", types.LongText}, {"state", types.LongText},
		{"name", types.LongText}, {"cluster", types.LongText}, {"owned", types.Uint64}, {"replicas", types.Uint64},
		{"oldest_version", types.Uint64}, {"newest_version", types.Uint64},
	}, func(r NodeInfo) sql.Row {
		return sql.Row{r.Node, r.Address, r.Zone, r.State, r.Name, r.Cluster, r.Owned, r.Replicas, r.OldestVersion, r.NewestVersion}
	})
	add(d, "transactions", s.transactionsOfAll, []systemColumn{
		{"id", types.LongText}, {"state", types.LongText}, {"isolation", types.LongText}, {"started", types.DatetimeMaxPrecision},
		{"writes", types.Uint64}, {"label", types.LongText}, {"statement", types.LongText}, {"node", types.Uint64},
		{"connection", types.Uint64},
	}, func(t nodeTransaction) sql.Row {
		return sql.Row{t.ID.String(), string(t.State), t.Isolation.String(), t.Begun.UTC(), uint64(t.Writes), t.Label, t.Statement,
			t.node, t.Connection}
	})
	addSessions(d, s)
	addMoves(d, s)
	addLockViews(d, s)
	add(d, "advisory_locks", s.config.Coordinator.AdvisoryLocks, []systemColumn{
		{"name", types.LongText}, {"holder", types.Uint64}, {"gateway", types.Uint64}, {"token", types.Uint64},
		{"since", types.DatetimeMaxPrecision}, {"waiters", types.LongText},
	}, func(r txn.AdvisoryInfo) sql.Row {
		return sql.Row{r.Name, r.Connection, r.Gateway, r.Token, r.Since.UTC(), strings.Trim(fmt.Sprint(r.Waiters), "[]")}
	})
	metrics := fromAll(s, askMetrics, func(a *peerAnswer) []MetricInfo {
		for i := range a.metrics {
			a.metrics[i].Node = a.node
		}
		return a.metrics
	})
	add(d, "jobs", s.catalog.jobs, []systemColumn{
		{"id", types.Uint64}, {"kind", types.LongText}, {"statement", types.LongText}, {"database_name", types.LongText},
		{"table_name", types.LongText}, {"state", types.LongText}, {"rows_done", types.Uint64}, {"rows_total", types.Uint64},
		{"started", types.DatetimeMaxPrecision}, {"node", types.Uint64}, {"error", types.LongText},
	}, func(j jobRecord) sql.Row {
		return sql.Row{uint64(j.ID), j.Kind, j.Statement, j.Database, j.Table, string(j.State), j.Done, max(j.Total, j.Done),
			j.Started.UTC(), j.Gateway >> 48, j.Error}
	})
	add(d, "metrics", metrics, []systemColumn{
		{"name", types.LongText}, {"value", types.Float64}, {"help", types.LongText}, {"node", types.Uint64},
	}, func(r MetricInfo) sql.Row { return sql.Row{r.Name, r.Value, r.Help, r.Node} })
	return d
}

// nodeTransaction is a transaction with the node whose gateway runs it.
type nodeTransaction struct {
	node uint64
	txn.Info
}

// transactionsOfAll lists the open transactions of all nodes.
func (s *Server) transactionsOfAll(ctx context.Context) ([]nodeTransaction, error) {
	return fromAll(s, askTransactions, func(a *peerAnswer) (rows []nodeTransaction) {
		for _, t := range a.transactions {
			rows = append(rows, nodeTransaction{a.node, t})
		}
		return rows
	})(ctx)
}

// addMoves adds the views of replicas and of their moves between nodes.
func addMoves(d *systemDatabase, s *Server) {
	add(d, "moves", s.config.Sources.Moves, []systemColumn{
		{"shard", types.Uint64}, {"from_node", types.Uint64}, {"to_node", types.Uint64}, {"step", types.LongText},
		{"done_bytes", types.Uint64}, {"total_bytes", types.Uint64}, {"started", types.DatetimeMaxPrecision},
	}, func(m MoveInfo) sql.Row {
		return sql.Row{m.Shard, orNone(m.From), orNone(m.To), m.Step, m.Done, orNone(m.Total), m.Started.UTC()}
	})
	add(d, "replicas", fromAll(s, askReplicas, func(a *peerAnswer) []ReplicaInfo { return a.replicas }), []systemColumn{
		{"shard", types.Uint64}, {"node", types.Uint64}, {"replica", types.Uint64}, {"role", types.LongText}, {"applied", types.Uint64},
	}, func(r ReplicaInfo) sql.Row { return sql.Row{r.Shard, r.Node, r.Replica, r.Role, r.Applied} })
	add(d, "checksums", fromAll(s, askChecksums, func(a *peerAnswer) []ChecksumInfo { return a.checksums }), []systemColumn{
		{"shard", types.Uint64}, {"node", types.Uint64}, {"replica", types.Uint64}, {"applied", types.Uint64}, {"checksum", types.LongText},
	}, func(r ChecksumInfo) sql.Row {
		return sql.Row{r.Shard, r.Node, r.Replica, r.Applied, fmt.Sprintf("%016x", r.Checksum)}
	})
}

// orNone is NULL for 0.
func orNone(n uint64) any {
	if n == 0 {
		return nil
	}
	return n
}

type systemColumn struct {
	name string
	typ  sql.Type
}

// add defines a table from a callback and a conversion.
func add[R any](d *systemDatabase, name string, source func(context.Context) ([]R, error), columns []systemColumn, row func(R) sql.Row) {
	t := &systemTable{name: name}
	for _, c := range columns {
		t.schema = append(t.schema, &sql.Column{Name: c.name, Type: c.typ, Source: name, DatabaseSource: d.name, Nullable: true})
	}
	t.rows = func(ctx context.Context) ([]sql.Row, error) {
		if source == nil {
			return nil, nil
		}
		infos, err := source(ctx)
		if err != nil && len(infos) == 0 {
			return nil, err
		}
		if err != nil {
			warn(ctx, err.Error())
		}
		var rows []sql.Row
		for _, r := range infos {
			rows = append(rows, row(r))
		}
		return rows, nil
	}
	d.tables[name] = t
}

func boolInt(b bool) int8 {
	if b {
		return 1
	}
	return 0
}
