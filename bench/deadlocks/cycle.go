package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// result is what the cycles came to.
type result struct {
	mu     sync.Mutex
	times  []time.Duration // from the last request to the error
	broken []string        // cycles that ended in another way than they must
	added  int64           // what committed transactions added to the rows
}

// provoke runs all cycles, several at a time, each on rows of its own.
func (t *table) provoke(ctx context.Context, db *sql.DB, s settings) (*result, error) {
	r := &result{}
	var next atomic.Int64
	errs := make([]error, s.parallel)
	var group sync.WaitGroup
	for worker := range s.parallel {
		group.Go(func() {
			random := rand.New(rand.NewPCG(s.seed, uint64(worker)))
			for n := int(next.Add(1)); n <= s.cycles; n = int(next.Add(1)) {
				if errs[worker] = t.cycle(ctx, db, r, random, worker, s.parallel); errs[worker] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// member is one session of a cycle.
type member struct {
	conn    *sql.Conn
	own     []int // rows that it writes before the cycle closes
	asked   time.Time
	ended   time.Time
	err     error
	written int64
}

// cycle lets two or three sessions meet head on.
func (t *table) cycle(ctx context.Context, db *sql.DB, r *result, random *rand.Rand, worker, workers int) error {
	members := make([]*member, 2+random.IntN(2))
	places := random.Perm(len(t.shards))
	for i := range members {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		members[i] = &member{conn: conn}
		// Rows are dealt out: number n of a shard belongs to worker n mod workers.
		rows := t.rows[t.shards[places[i]]]
		for range 1 + random.IntN(3) {
			n := random.IntN(len(rows)/workers)*workers + worker
			members[i].own = append(members[i].own, rows[n])
		}
		if err := members[i].begin(ctx); err != nil {
			return fmt.Errorf("begin a cycle: %w", err)
		}
	}
	var group sync.WaitGroup
	for i, m := range members {
		wanted := members[(i+1)%len(members)].own[0]
		ask := "UPDATE deadlocks.t SET v = v + 1 WHERE id = ?"
		if random.IntN(3) == 0 {
			ask = "SELECT v FROM deadlocks.t WHERE id = ? FOR UPDATE"
		}
		group.Go(func() { m.meet(ctx, ask, wanted) })
	}
	group.Wait()
	r.judge(members)
	return ctx.Err()
}

// begin writes the member's own rows.
func (m *member) begin(ctx context.Context) error {
	if _, err := m.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	for _, id := range m.own {
		if _, err := m.conn.ExecContext(ctx, "UPDATE deadlocks.t SET v = v + 1 WHERE id = ?", id); err != nil {
			return err
		}
		m.written++
	}
	return nil
}

// meet asks for the row of the next member and commits when it has it.
func (m *member) meet(ctx context.Context, ask string, id int) {
	m.asked = time.Now()
	changed, err := m.conn.ExecContext(ctx, ask, id)
	m.ended, m.err = time.Now(), err
	if err != nil {
		return
	}
	if ask[0] == 'U' {
		n, _ := changed.RowsAffected()
		m.written += n
	}
	_, m.err = m.conn.ExecContext(ctx, "COMMIT")
}

// judge compares a cycle's end with the only one it may have.
func (r *result) judge(members []*member) {
	var victims []*member
	var last time.Time
	lightest := len(members[0].rows())
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		lightest = min(lightest, len(m.rows()))
		if m.asked.After(last) {
			last = m.asked
		}
		switch {
		case m.err == nil:
			r.added += m.written
		case isDeadlock(m.err):
			victims = append(victims, m)
		default:
			r.broken = append(r.broken, m.err.Error())
		}
	}
	if len(victims) != 1 {
		r.broken = append(r.broken, fmt.Sprintf("%d members, %d victims", len(members), len(victims)))
		return
	}
	r.times = append(r.times, victims[0].ended.Sub(last))
	if n := len(victims[0].rows()); n != lightest {
		r.broken = append(r.broken, fmt.Sprintf("the victim had written %d rows, another %d", n, lightest))
	}
}

// rows are the distinct rows written before the cycle closed.
func (m *member) rows() map[int]bool {
	distinct := map[int]bool{}
	for _, id := range m.own {
		distinct[id] = true
	}
	return distinct
}
