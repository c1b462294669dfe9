package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// load is what sessions on all nodes do beside the schema changes.
type load struct {
	dbs      []*sql.DB
	rows     int
	cancel   context.CancelFunc
	sessions sync.WaitGroup
	forgiven []atomic.Bool // nodes whose connections may fail

	mu      sync.Mutex
	count   int
	slowest time.Duration
	failed  []error
}

func newLoad(dbs []*sql.DB, rows, clients int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{dbs: dbs, rows: rows, cancel: cancel, forgiven: make([]atomic.Bool, len(dbs))}
	for node := range dbs {
		for c := range clients {
			l.sessions.Go(func() { l.session(ctx, node, rand.New(rand.NewPCG(uint64(node), uint64(c)))) })
		}
	}
	return l
}

func (l *load) stop() {
	l.cancel()
	l.sessions.Wait()
}

// forgive says that connections to a node may fail, or no longer.
func (l *load) forgive(node int, may bool) { l.forgiven[node].Store(may) }

// begin forgets what was counted.
func (l *load) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count, l.slowest, l.failed = 0, 0, nil
}

func (l *load) end() (count int, slowest time.Duration, failed []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count, l.slowest, l.failed
}

func (l *load) session(ctx context.Context, node int, random *rand.Rand) {
	for ctx.Err() == nil {
		q := l.statement(random)
		began := time.Now()
		err := l.run(ctx, l.dbs[node], q)
		if ctx.Err() != nil {
			return
		}
		if err != nil && l.excused(node, err) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		l.note(q, time.Since(began), err)
	}
}

// excused tells whether a statement may fail so: any on a node that is forgiven,
// and while one is, what the others lost with it and may try again (1213, 1205).
func (l *load) excused(node int, err error) bool {
	if l.forgiven[node].Load() {
		return true
	}
	var e *mysql.MySQLError
	again := errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205)
	for i := range l.forgiven {
		if again && l.forgiven[i].Load() {
			return true
		}
	}
	return false
}

func (l *load) note(q string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	l.slowest = max(l.slowest, took)
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s: %w", q, err))
	}
}

func (l *load) statement(random *rand.Rand) string {
	id := random.IntN(l.rows * 11 / 10)
	switch random.IntN(5) {
	case 0:
		return fmt.Sprintf("REPLACE INTO ddl.t (id, v, w, s) VALUES (%d, %d, %d, 'new')", id, random.IntN(1000), random.IntN(77777))
	case 1:
		return fmt.Sprintf("UPDATE ddl.t SET v = v + 1 WHERE id = %d", id)
	case 2:
		return fmt.Sprintf("UPDATE ddl.t SET w = %d, s = 'changed' WHERE id = %d", random.IntN(77777), id)
	case 3:
		return fmt.Sprintf("DELETE FROM ddl.t WHERE id = %d", id)
	}
	return fmt.Sprintf("SELECT v, w, s FROM ddl.t WHERE id = %d", id)
}

func (l *load) run(ctx context.Context, db *sql.DB, q string) error {
	rows, err := db.QueryContext(ctx, q)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}
