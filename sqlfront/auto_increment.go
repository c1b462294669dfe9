package sqlfront

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// autoBatch is how far ahead a counter is persisted. A crash loses at most this
// many values; a clean shutdown none.
const autoBatch = 1000

// autoCounters hands out AUTO_INCREMENT values, one counter per table, in order
// for all sessions of the process. The stored value is an upper bound of what
// was handed out, written before.
type autoCounters struct {
	coordinator *txn.Coordinator
	mu          struct {
		sync.Mutex
		tables map[catalog.ID]*autoCounter
	}
}

type autoCounter struct {
	token     chan struct{} // held by who loads or extends the counter
	next      uint64        // 0: not loaded
	limit     uint64        // values below it are covered by the stored one
	temporary bool          // nothing is stored
}

func (a *autoCounters) init(c *txn.Coordinator) {
	a.coordinator = c
	a.mu.tables = map[catalog.ID]*autoCounter{}
}

func (a *autoCounters) counter(id catalog.ID, temporary bool) *autoCounter {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.mu.tables[id]
	if c == nil {
		c = &autoCounter{token: make(chan struct{}, 1), temporary: temporary}
		a.mu.tables[id] = c
	}
	return c
}

// reset sets or (0) forgets a counter after its stored value was changed.
func (a *autoCounters) reset(id catalog.ID, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if next == 0 {
		delete(a.mu.tables, id)
		return
	}
	a.mu.tables[id] = &autoCounter{token: make(chan struct{}, 1), next: next, limit: next}
}

// setTemporary sets the counter of a temporary table.
func (a *autoCounters) setTemporary(id catalog.ID, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.tables[id] = &autoCounter{token: make(chan struct{}, 1), next: next, limit: math.MaxUint64, temporary: true}
}

// with runs f while no other session uses the counter. f sees it loaded.
func (a *autoCounters) with(ctx context.Context, info *tableInfo, f func(*autoCounter) error) error {
	c := a.counter(info.desc.ID, info.temporary)
	select {
	case c.token <- struct{}{}:
		defer func() { <-c.token }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.next == 0 {
		if err := a.load(ctx, c, info.desc.ID); err != nil {
			return err
		}
	}
	return f(c)
}

func (a *autoCounters) load(ctx context.Context, c *autoCounter, id catalog.ID) error {
	if c.temporary {
		c.next, c.limit = 1, math.MaxUint64
		return nil
	}
	tx := a.begin()
	defer tx.Rollback(ctx)
	next := uint64(1)
	if _, err := record(ctx, tx, idKey(keyAuto, id), &next); err != nil {
		return err
	}
	c.next, c.limit = next, next
	return nil
}

func (a *autoCounters) begin() *txn.Txn {
	return a.coordinator.Begin(txn.Options{Isolation: txn.ReadCommitted, Label: "auto increment"})
}

// cover persists an upper bound of next.
func (a *autoCounters) cover(ctx context.Context, c *autoCounter, id catalog.ID) error {
	if c.next <= c.limit {
		return nil
	}
	limit := c.next + autoBatch
	if limit < c.next {
		limit = math.MaxUint64
	}
	if err := a.store(ctx, id, limit); err != nil {
		return err
	}
	c.limit = limit
	return nil
}

func (a *autoCounters) store(ctx context.Context, id catalog.ID, next uint64) error {
	var err error
	for range 10 {
		tx := a.begin()
		if err = putRecord(ctx, tx, idKey(keyAuto, id), next); err == nil {
			err = tx.Commit(ctx)
		}
		if err == nil {
			return nil
		}
		tx.Rollback(ctx)
		if !retriable(err) {
			break
		}
	}
	return fmt.Errorf("auto increment of table %d: %w", id, err)
}

// flush stores the exact values, for a shutdown without gaps.
func (a *autoCounters) flush(ctx context.Context, known func(catalog.ID) bool) error {
	a.mu.Lock()
	counters := map[catalog.ID]*autoCounter{}
	for id, c := range a.mu.tables {
		counters[id] = c
	}
	a.mu.Unlock()
	for id, c := range counters {
		select {
		case c.token <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		if !c.temporary && c.next != 0 && c.limit != c.next && known(id) {
			err = a.store(ctx, id, c.next)
			c.limit = c.next
		}
		<-c.token
		if err != nil {
			return err
		}
	}
	return nil
}

// autoNext takes the next value (given nil) or moves the counter past given.
func (s *Session) autoNext(ctx *sql.Context, info *tableInfo, given any) (uint64, error) {
	if set, ok := s.autoPending(info); ok {
		v, err := advanceAuto(ctx, set, given)
		s.ddl.auto[info.desc.ID] = max(set, v+1)
		return v, err
	}
	var value uint64
	err := s.catalog.auto.with(ctx, info, func(c *autoCounter) error {
		var err error
		if value, err = advanceAuto(ctx, c.next, given); err != nil {
			return err
		}
		if value < c.next || !info.autoInRange(ctx, value) {
			return nil // a value out of range fails the statement later
		}
		c.next = info.autoAfter(ctx, value)
		return s.catalog.auto.cover(ctx, c, info.desc.ID)
	})
	return value, err
}

// autoAfter is the value after v, or v itself at the end of the column's range:
// the next insert then meets a duplicate, as in MySQL.
func (t *tableInfo) autoAfter(ctx *sql.Context, v uint64) uint64 {
	if v == math.MaxUint64 || !t.autoInRange(ctx, v+1) {
		return v
	}
	return v + 1
}

func (t *tableInfo) autoInRange(ctx *sql.Context, v uint64) bool {
	i := t.desc.AutoColumn()
	if i < 0 {
		return true // a column that is just being added
	}
	_, inRange, err := t.schema[i].Type.Convert(ctx, v)
	return err == nil && inRange == sql.InRange
}

// advanceAuto is the value that a row gets.
func advanceAuto(ctx *sql.Context, next uint64, given any) (uint64, error) {
	if given == nil {
		return next, nil
	}
	v, inRange, err := types.Uint64.Convert(ctx, given)
	if err != nil {
		return 0, err
	}
	if inRange != sql.InRange {
		return 0, nil // negative values do not touch the counter
	}
	return v.(uint64), nil
}

// autoPending is the counter that the session's schema change will set.
func (s *Session) autoPending(info *tableInfo) (uint64, bool) {
	if s.ddl == nil {
		return 0, false
	}
	v, ok := s.ddl.auto[info.desc.ID]
	return v, ok && v > 0
}

// autoPeek is the next value, which stays the next.
func (s *Session) autoPeek(ctx *sql.Context, info *tableInfo) (uint64, error) {
	if v, ok := s.autoPending(info); ok {
		return v, nil
	}
	if info.desc.AutoColumn() < 0 {
		return 0, nil
	}
	var next uint64
	err := s.catalog.auto.with(ctx, info, func(c *autoCounter) error {
		next = c.next
		return nil
	})
	return next, err
}

// autoSetter is ALTER TABLE .. AUTO_INCREMENT = n.
type autoSetter struct{ table *Table }

// SetAutoIncrementValue implements sql.AutoIncrementSetter. As in InnoDB, the
// counter never goes below the largest value in use.
func (a *autoSetter) SetAutoIncrementValue(ctx *sql.Context, value uint64) error {
	info := a.table.now()
	least, err := a.table.largestAuto(ctx)
	if err != nil {
		return err
	}
	value = max(value, least+1)
	return a.table.edit(ctx, func(d *schemaChange, desc *catalog.Table) error {
		d.auto[info.desc.ID] = value
		return nil
	})
}

// AcquireAutoIncrementLock implements sql.AutoIncrementSetter. Only lock mode 2
// (interleaved, MySQL's default) is offered.
func (a *autoSetter) AcquireAutoIncrementLock(*sql.Context) (func(), error) { return func() {}, nil }

// Close implements sql.Closer.
func (a *autoSetter) Close(*sql.Context) error { return nil }

// largestAuto is the largest value of the AUTO_INCREMENT column, 0 if none.
func (t *Table) largestAuto(ctx *sql.Context) (uint64, error) {
	info := t.now()
	column := info.desc.AutoColumn()
	if column < 0 {
		return 0, nil
	}
	projected, err := t.WithProjections(ctx, []string{info.schema[column].Name})
	if err != nil {
		return 0, err
	}
	rows, err := projected.(*Table).open(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close(ctx)
	var largest uint64
	for {
		row, err := rows.Next(ctx)
		if isEOF(err) {
			return largest, nil
		}
		if err != nil {
			return 0, err
		}
		if v, inRange, err := types.Uint64.Convert(ctx, row[0]); err == nil && inRange == sql.InRange {
			largest = max(largest, v.(uint64))
		}
	}
}
