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
			own := 2*rows + 100*(node*clients+c) // rows that nobody else touches
			l.sessions.Go(func() { l.session(ctx, node, own, rand.New(rand.NewPCG(uint64(node), uint64(c)))) })
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

func (l *load) session(ctx context.Context, node, own int, random *rand.Rand) {
	for ctx.Err() == nil {
		var err error
		q := l.statement(random)
		began := time.Now()
		if random.IntN(6) == 0 {
			q = "transaction"
			err = l.transaction(ctx, l.dbs[node], own+random.IntN(100), random.IntN(1000))
		} else {
			err = l.run(ctx, l.dbs[node], q)
		}
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
	for i := range l.forgiven {
		if again(err) && l.forgiven[i].Load() {
			return true
		}
	}
	return false
}

// again tells whether a program may try a statement again that failed so.
func again(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205)
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

// transaction changes a row that it has read before. Nobody else changes that row,
// so nothing may have changed since the snapshot.
func (l *load) transaction(ctx context.Context, db *sql.DB, id, v int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var old sql.NullInt64
	err = tx.QueryRowContext(ctx, fmt.Sprintf("SELECT v FROM ddl.t WHERE id = %d", id)).Scan(&old)
	change := fmt.Sprintf("UPDATE ddl.t SET v = %d WHERE id = %d", v, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		change = fmt.Sprintf("INSERT INTO ddl.t (id, v, w, s) VALUES (%d, %d, %d, 'own')", id, v, v)
	case err != nil:
		return err
	case v%10 == 0:
		change = fmt.Sprintf("DELETE FROM ddl.t WHERE id = %d", id)
	}
	if _, err := tx.ExecContext(ctx, change); err != nil {
		return err
	}
	return tx.Commit()
}
