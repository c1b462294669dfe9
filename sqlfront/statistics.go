package sqlfront

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// tableStatistics estimates how many rows tables have, for the planner. The
// first question counts up to a limit; afterwards the numbers of rows that
// statements insert and delete are added, committed or not.
type tableStatistics struct {
	catalog *Catalog
	mu      struct {
		sync.Mutex
		rows map[catalog.ID]int64
	}
}

// countLimit is where the first count stops. Beyond it the planner's choices
// hardly change.
const countLimit = 1000

func (t *tableStatistics) init(c *Catalog) {
	t.catalog = c
	t.mu.rows = map[catalog.ID]int64{}
}

// add counts rows in or (negative) out, for tables that have been counted.
func (t *tableStatistics) add(id catalog.ID, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.mu.rows[id]; ok {
		t.mu.rows[id] = max(old+n, 0)
	}
}

func (t *tableStatistics) rows(ctx context.Context, s *Session, info *tableInfo) (uint64, error) {
	t.mu.Lock()
	n, ok := t.mu.rows[info.primary.id]
	t.mu.Unlock()
	if ok {
		return uint64(n), nil
	}
	n, err := t.count(ctx, s, info)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	t.mu.rows[info.primary.id] = n
	t.mu.Unlock()
	return uint64(n), nil
}

func (t *tableStatistics) count(ctx context.Context, s *Session, info *tableInfo) (int64, error) {
	o := txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true, Label: "statistics"}
	if s.tx != nil && s.tx.txn.Stale() {
		o.Staleness = time.Hour // an estimate of what can be read here
	}
	tx := t.catalog.coordinator.Begin(o)
	defer tx.Rollback(ctx)
	cursor, err := tx.Scan(ctx, txn.Scan{
		Lo: info.primary.start, Hi: keycodec.PrefixEnd(info.primary.start), Limit: countLimit,
	})
	if err != nil {
		return 0, err
	}
	defer cursor.Close()
	for n := int64(0); n < countLimit; n++ {
		_, ok, err := cursor.Next(ctx)
		if err != nil || !ok {
			return n, err
		}
	}
	return countLimit, nil
}

// histograms guards the engine's statistics, which are not safe for concurrent
// use. ANALYZE TABLE fills them; they are not persisted.
type histograms struct {
	mu    sync.RWMutex
	inner sql.StatsProvider
}

var _ sql.StatsProvider = (*histograms)(nil)

func newHistograms() *histograms { return &histograms{inner: memory.NewStatsProv()} }

// GetTableStats implements sql.StatsProvider.
func (h *histograms) GetTableStats(ctx *sql.Context, schema, db string, table sql.Table) ([]sql.Statistic, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.inner.GetTableStats(ctx, schema, db, table)
}

// AnalyzeTable implements sql.StatsProvider. The sample is taken by a provider
// of its own, so that no lock is held while rows are read.
func (h *histograms) AnalyzeTable(ctx *sql.Context, table sql.Table, db string) error {
	fresh := memory.NewStatsProv()
	if err := fresh.AnalyzeTable(ctx, table, db); err != nil {
		return err
	}
	stats, err := fresh.GetTableStats(ctx, "", db, table)
	if err != nil {
		return err
	}
	for _, s := range stats {
		if err := h.SetStats(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// SetStats implements sql.StatsProvider.
func (h *histograms) SetStats(ctx *sql.Context, s sql.Statistic) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inner.SetStats(ctx, s)
}

// GetStats implements sql.StatsProvider.
func (h *histograms) GetStats(ctx *sql.Context, q sql.StatQualifier, columns []string) (sql.Statistic, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.inner.GetStats(ctx, q, columns)
}

// DropStats implements sql.StatsProvider.
func (h *histograms) DropStats(ctx *sql.Context, q sql.StatQualifier, columns []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inner.DropStats(ctx, q, columns)
}

// DropDbStats implements sql.StatsProvider.
func (h *histograms) DropDbStats(ctx *sql.Context, schema, db string, flush bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inner.DropDbStats(ctx, schema, db, flush)
}

// RowCount implements sql.StatsProvider.
func (h *histograms) RowCount(ctx *sql.Context, _, _ string, table sql.Table) (uint64, error) {
	if t, ok := sql.GetUnderlyingTable(table).(sql.StatisticsTable); ok {
		n, _, err := t.RowCount(ctx)
		return n, err
	}
	return 0, nil
}

// DataLength implements sql.StatsProvider.
func (h *histograms) DataLength(ctx *sql.Context, _, _ string, table sql.Table) (uint64, error) {
	if t, ok := sql.GetUnderlyingTable(table).(sql.StatisticsTable); ok {
		return t.DataLength(ctx)
	}
	return 0, nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
