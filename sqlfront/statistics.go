package sqlfront

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// tableStatistics estimates how many rows tables have, for the planner. The first
// question counts up to a limit. A table that has more is counted in the background,
// from the rows of some shards, and whatever is asked for is counted anew when its
// number is old: other gateways change tables too. In between, the numbers of rows that
// statements of this gateway insert and delete are added, committed or not.
type tableStatistics struct {
	catalog *Catalog
	// every is how old a number may be before a question has it counted anew; 0: any.
	every  time.Duration
	orders chan *tableInfo // to be counted in the background
	mu     struct {
		sync.Mutex
		tables map[catalog.ID]*rowEstimate // by the id of their rows, which a rewrite changes
	}
}

// rowEstimate is what is known of one table.
type rowEstimate struct {
	rows    int64
	counted time.Time     // when
	took    time.Duration // to count
	asked   time.Time     // last
	ordered bool          // the background will count it
}

const (
	// countLimit is where the first count stops.
	countLimit = 1000
	// enoughRows are counted, in whole shards, before the rest is inferred: keys are
	// spread evenly by their hash, so that a shard has its share to a percent or two.
	enoughRows = 8192
	// enoughBlocks is the same of tables that are placed by blocks, where the blocks are
	// spread evenly.
	enoughBlocks = 512
	// mostRows is where a count in the background stops in each table: beyond it the
	// number is a lower bound. ANALYZE TABLE does not stop.
	mostRows = 100_000
	// refreshAfter is the age at which a number that is asked for is counted anew, and
	// restAfter how many times longer than a count the numbers are kept at least.
	refreshAfter = time.Minute
	restAfter    = 100
	// mostEstimates are kept; then those go that nobody has asked for of late.
	mostEstimates = 10_000
)

func (t *tableStatistics) init(c *Catalog) {
	t.catalog = c
	t.every = refreshAfter
	t.orders = make(chan *tableInfo, 64)
	t.mu.tables = map[catalog.ID]*rowEstimate{}
}

// add counts rows in or (negative) out, for tables that have been counted.
func (t *tableStatistics) add(id catalog.ID, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.mu.tables[id]; ok {
		e.rows = max(e.rows+n, 0)
	}
}

// rows is the estimate. It waits for a count the first time only.
func (t *tableStatistics) rows(ctx context.Context, s *Session, info *tableInfo) (uint64, error) {
	now := time.Now()
	if n, ok := t.known(info, now); ok {
		return n, nil
	}
	n, err := t.look(ctx, s, info)
	if err != nil {
		return 0, err
	}
	e := &rowEstimate{rows: n, counted: now, took: time.Since(now), asked: now}
	if n >= countLimit {
		e.counted = time.Time{} // it may be far more
	}
	t.keep(info.primary.id, e)
	t.known(info, now)
	return uint64(n), nil
}

// known is the estimate, if there is one. An old one is counted anew.
func (t *tableStatistics) known(info *tableInfo, now time.Time) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.mu.tables[info.primary.id]
	if e == nil {
		return 0, false
	}
	e.asked = now
	old := t.every == 0 || now.Sub(e.counted) > max(t.every, restAfter*e.took)
	if old && !e.ordered {
		select {
		case t.orders <- info:
			e.ordered = true
		default: // there is enough to do; somebody will ask again
		}
	}
	return uint64(e.rows), true
}

// keep notes what was counted.
func (t *tableStatistics) keep(id catalog.ID, e *rowEstimate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.tables) >= mostEstimates {
		for old, o := range t.mu.tables {
			if !o.ordered && time.Since(o.asked) > t.every {
				delete(t.mu.tables, old)
			}
		}
	}
	t.mu.tables[id] = e
}

// run counts what is ordered, one table after the other.
func (t *tableStatistics) run(ctx context.Context, failed func(table string, err error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case info := <-t.orders:
			if err := t.recount(ctx, info); err != nil && ctx.Err() == nil {
				failed(info.desc.Name, err)
			}
		}
	}
}

// recount replaces an estimate. A count that fails leaves the old one for a while.
func (t *tableStatistics) recount(ctx context.Context, info *tableInfo) error {
	began := time.Now()
	c := rowCount{statistics: t, info: info, most: mostRows, paced: true}
	err := c.run(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.mu.tables[info.primary.id]
	if e == nil {
		return err
	}
	e.counted, e.took, e.ordered = time.Now(), time.Since(began), false
	switch {
	case err != nil:
	case c.stopped:
		e.rows = max(e.rows, c.estimate())
	default:
		e.rows = c.estimate()
	}
	return err
}

// look counts up to the limit.
func (t *tableStatistics) look(ctx context.Context, s *Session, info *tableInfo) (int64, error) {
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

// rowCount counts the rows of a table in some of its shards.
type rowCount struct {
	statistics *tableStatistics
	info       *tableInfo
	most       int64                    // rows to count at most; 0: no bound
	paced      bool                     // rests in between, for others to go on
	sample     func(value []byte) error // sees every row; nil: nobody does

	seen    int64
	visited int // shards
	parts   int
	stopped bool // at most
}

// estimate is how many rows there are, by what was seen.
func (c *rowCount) estimate() int64 { return c.seen * int64(c.parts) / int64(max(c.visited, 1)) }

// run counts shard by shard until it has seen enough. Where rows are placed by some
// columns of the key, shards are not alike: it then visits all of them.
func (c *rowCount) run(ctx context.Context) error {
	coordinator := c.statistics.catalog.coordinator
	c.parts = coordinator.Parts()
	tx := coordinator.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true, Label: "statistics"})
	defer tx.Rollback(context.WithoutCancel(ctx))
	begin := int(uint64(c.info.primary.id) % uint64(c.parts)) // not all tables on the same shard
	for i := range c.parts {
		if err := c.shard(ctx, tx, (begin+i)%c.parts); err != nil {
			return err
		}
		c.visited++
		if c.stopped || c.seen >= c.enough() && c.info.placement == nil {
			return nil
		}
	}
	return nil
}

// enough is how many rows say how many there are.
func (c *rowCount) enough() int64 {
	if c.info.primary.blocks == 0 {
		return enoughRows
	}
	return max(enoughRows, int64(enoughBlocks)<<c.info.primary.blocks)
}

// shard counts the rows of one shard.
func (c *rowCount) shard(ctx context.Context, tx *txn.Txn, part int) error {
	cursor, err := tx.Scan(ctx, txn.Scan{Where: txn.OnePart(part),
		Lo: c.info.primary.start, Hi: keycodec.PrefixEnd(c.info.primary.start)})
	if err != nil {
		return err
	}
	defer cursor.Close()
	began := time.Now()
	for n := 1; ; n++ {
		row, ok, err := cursor.Next(ctx)
		if err != nil || !ok {
			return err
		}
		c.seen++
		if c.sample != nil {
			if err := c.sample(row.Value); err != nil {
				return err
			}
		}
		if c.stopped = c.most > 0 && c.seen >= c.most; c.stopped {
			return nil
		}
		if c.paced && n%1024 == 0 {
			if err := rest(ctx, 10*time.Since(began)); err != nil {
				return err
			}
			began = time.Now()
		}
	}
}

// rest waits, but not long.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(d, longestRest)):
		return nil
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
