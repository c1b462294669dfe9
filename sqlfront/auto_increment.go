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

// autoCounters hand out AUTO_INCREMENT values. Those of stored tables are counters
// of the system shard, in order for all gateways: every statement asks for its
// values when it needs them, and requests for one table that come while another is
// under way go together. Only a session that asks for it (the variable
// rowlock_auto_increment_cache) takes values ahead, whose order is then that of the
// ranges. Counters of temporary tables are kept here.
type autoCounters struct {
	coordinator *txn.Coordinator
	mu          struct {
		sync.Mutex
		temporary map[catalog.ID]uint64 // table: next value
		queues    map[catalog.ID]*autoQueue
	}
}

// autoQueue is what this gateway knows of one counter.
type autoQueue struct {
	busy    bool
	waiting []*autoRequest
	legacy  uint64 // where a counter of an earlier version of this program starts; 0: not read
	cached  uint64 // values taken ahead: from cached on, up to ahead
	ahead   uint64
}

// autoRequest waits for one value.
type autoRequest struct {
	value uint64
	err   error
	done  chan struct{}
}

func (a *autoCounters) init(c *txn.Coordinator) {
	a.coordinator = c
	a.mu.temporary, a.mu.queues = map[catalog.ID]uint64{}, map[catalog.ID]*autoQueue{}
}

// forget drops what is known of a temporary table's counter.
func (a *autoCounters) forget(id catalog.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mu.temporary, id)
}

// setTemporary sets the counter of a temporary table.
func (a *autoCounters) setTemporary(id catalog.ID, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.temporary[id] = next
}

// counterID is the number of a table's counter. It changes when the counter is set
// anew, so that this happens with the schema change or not at all.
func (t *tableInfo) counterID() catalog.ID {
	if t.desc.AutoID != 0 {
		return t.desc.AutoID
	}
	return t.desc.ID
}

func (a *autoCounters) queueLocked(id catalog.ID) *autoQueue {
	q := a.mu.queues[id]
	if q == nil {
		q = &autoQueue{}
		a.mu.queues[id] = q
	}
	return q
}

// ask takes values of a table's counter, or moves it.
func (a *autoCounters) ask(ctx context.Context, info *tableInfo, r txn.SequenceRequest) (uint64, error) {
	r.ID, r.Start = uint64(info.counterID()), info.desc.AutoFirst
	if info.desc.AutoID == 0 {
		var err error
		if r.Start, err = a.legacyStart(ctx, info.desc.ID); err != nil {
			return 0, err
		}
	}
	v, err := a.coordinator.Sequence(ctx, &r)
	if err != nil {
		return 0, numbered(err)
	}
	return v, nil
}

// legacyStart is the bound that an earlier version of this program has stored.
func (a *autoCounters) legacyStart(ctx context.Context, id catalog.ID) (uint64, error) {
	a.mu.Lock()
	start := a.queueLocked(id).legacy
	a.mu.Unlock()
	if start != 0 {
		return start, nil
	}
	tx := a.coordinator.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true, Label: "auto increment"})
	defer tx.Rollback(ctx)
	start = 1
	if _, err := peekRecord(ctx, tx, idKey(keyAuto, id), &start); err != nil {
		return 0, fmt.Errorf("auto increment of table %d: %w", id, err)
	}
	a.mu.Lock()
	a.queueLocked(id).legacy = start
	a.mu.Unlock()
	return start, nil
}

// one takes the next value, together with whoever else waits for one here.
func (a *autoCounters) one(ctx context.Context, info *tableInfo, ahead uint64) (uint64, error) {
	id := info.counterID()
	a.mu.Lock()
	q := a.queueLocked(id)
	if q.cached < q.ahead && ahead > 1 {
		q.cached++
		v := q.cached - 1
		a.mu.Unlock()
		return v, nil
	}
	if ahead > 1 {
		a.mu.Unlock()
		return a.refill(ctx, info, ahead)
	}
	r := &autoRequest{done: make(chan struct{})}
	q.waiting = append(q.waiting, r)
	lead := !q.busy
	q.busy = true
	a.mu.Unlock()
	if lead {
		a.serve(context.WithoutCancel(ctx), info, q)
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// serve asks for as many values as are waited for. What comes meanwhile is served
// by somebody else, so that nobody works for others for long.
func (a *autoCounters) serve(ctx context.Context, info *tableInfo, q *autoQueue) {
	a.mu.Lock()
	batch := q.waiting
	q.waiting = nil
	a.mu.Unlock()
	first, err := a.ask(ctx, info, txn.SequenceRequest{Count: uint64(len(batch))})
	for i, r := range batch {
		if r.value, r.err = first+uint64(i), err; r.value < first {
			r.value = math.MaxUint64
		}
		close(r.done)
	}
	a.mu.Lock()
	q.busy = len(q.waiting) > 0
	more := q.busy
	a.mu.Unlock()
	if more {
		go a.serve(ctx, info, q)
	}
}

// refill takes a range ahead and returns its first value.
func (a *autoCounters) refill(ctx context.Context, info *tableInfo, ahead uint64) (uint64, error) {
	first, err := a.ask(ctx, info, txn.SequenceRequest{Count: ahead})
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if q := a.queueLocked(info.counterID()); first >= q.ahead {
		q.cached, q.ahead = first+1, max(first+ahead, first)
	}
	return first, nil
}

// flush stores the exact values, for a shutdown without gaps.
func (a *autoCounters) flush(ctx context.Context, tables []*tableInfo) error {
	for _, info := range tables {
		a.mu.Lock()
		_, used := a.mu.queues[info.counterID()]
		a.mu.Unlock()
		if !used {
			continue
		}
		if _, err := a.ask(ctx, info, txn.SequenceRequest{Exact: true}); err != nil {
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
	if info.temporary {
		return s.autoTemporary(ctx, info, given)
	}
	if given == nil {
		v, err := s.catalog.auto.one(ctx, info, s.autoAhead(ctx))
		if err == nil && !info.autoInRange(ctx, v) {
			v = info.autoLast(ctx, v) // the insert meets a duplicate, as in MySQL
		}
		return v, err
	}
	v, err := advanceAuto(ctx, 0, given)
	if err != nil || v == 0 || !info.autoInRange(ctx, v) {
		return v, err // a value out of range fails the statement later
	}
	_, err = s.catalog.auto.ask(ctx, info, txn.SequenceRequest{Least: info.autoAfter(ctx, v)})
	s.catalog.auto.used(info)
	return v, err
}

// used remembers that the counter is to be flushed.
func (a *autoCounters) used(info *tableInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queueLocked(info.counterID())
}

// autoAhead is how many values the session takes at once.
func (s *Session) autoAhead(ctx *sql.Context) uint64 {
	v, err := s.GetSessionVariable(ctx, "rowlock_auto_increment_cache")
	if err != nil {
		return 1
	}
	n, _, err := types.Uint64.Convert(ctx, v)
	if err != nil || n == nil {
		return 1
	}
	return n.(uint64)
}

// autoTemporary is autoNext of a temporary table.
func (s *Session) autoTemporary(ctx *sql.Context, info *tableInfo, given any) (uint64, error) {
	a := &s.catalog.auto
	a.mu.Lock()
	defer a.mu.Unlock()
	next := max(a.mu.temporary[info.desc.ID], 1)
	v, err := advanceAuto(ctx, next, given)
	if err == nil && v >= next && info.autoInRange(ctx, v) {
		a.mu.temporary[info.desc.ID] = info.autoAfter(ctx, v)
	}
	return v, err
}

// autoLast is the largest value of the column below v, which is beyond its range.
func (t *tableInfo) autoLast(ctx *sql.Context, v uint64) uint64 {
	low, high := uint64(0), v // low is in range, high is not
	for high-low > 1 {
		if middle := low + (high-low)/2; t.autoInRange(ctx, middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
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
	if info.temporary {
		s.catalog.auto.mu.Lock()
		defer s.catalog.auto.mu.Unlock()
		return max(s.catalog.auto.mu.temporary[info.desc.ID], 1), nil
	}
	return s.catalog.auto.ask(ctx, info, txn.SequenceRequest{})
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
