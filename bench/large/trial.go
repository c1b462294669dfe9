package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
)

// trial is a server and what is done to it.
type trial struct {
	settings
	server *process.Server
	db     *sql.DB                // of the steps
	shared atomic.Pointer[sql.DB] // the same, for the others
	hwm    int                    // largest resident memory of servers that have gone, in MiB
}

func (t *trial) connect() (err error) {
	if t.db != nil {
		t.db.Close()
	}
	t.db, err = process.Open(t.server.Address, "")
	t.shared.Store(t.db)
	return err
}

func (t *trial) pool() *sql.DB { return t.shared.Load() }

// peak is the largest resident memory of any server so far, in MiB; 0 where the
// system does not tell.
func (t *trial) peak() int {
	if m, err := process.MemoryOf(t.server.PID()); err == nil {
		t.hwm = max(t.hwm, int(m.Peak>>20))
	}
	return t.hwm
}

func (t *trial) prepare(ctx context.Context) error {
	columns := "id BIGINT PRIMARY KEY, n INT NOT NULL, v VARCHAR(40) NOT NULL"
	if t.index {
		columns += ", KEY (n)"
	}
	return t.exec(ctx, "CREATE DATABASE large",
		"CREATE TABLE large.a ("+columns+")", "CREATE TABLE large.b ("+columns+")",
		"CREATE TABLE large.other (id INT PRIMARY KEY, n INT NOT NULL)", "INSERT INTO large.other VALUES (1, 0), (2, 0), (3, 0)")
}

func (t *trial) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := t.db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}

// row i has values that its number gives.
func number(i int) int { return i * 7919 % 1_000_003 }

func text(i int) string { return fmt.Sprintf("row %d of many, %x", i, i*31) }

// insertAll inserts all rows into large.a, inside a transaction that is left open.
func (t *trial) insertAll(ctx context.Context) (*sql.Tx, error) {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for first := 1; first <= t.rows; first += t.batch {
		var b strings.Builder
		b.WriteString("INSERT INTO large.a VALUES ")
		for i := first; i < first+t.batch && i <= t.rows; i++ {
			if i > first {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "(%d,%d,'%s')", i, number(i), text(i))
		}
		if _, err := tx.ExecContext(ctx, b.String()); err != nil {
			tx.Rollback()
			return nil, fmt.Errorf("insert rows from %d on: %w", first, err)
		}
	}
	return tx, nil
}

func (t *trial) insertAndRollBack(ctx context.Context) error {
	tx, err := t.insertAll(ctx)
	if err != nil {
		return err
	}
	if err := tx.Rollback(); err != nil {
		return err
	}
	return t.expect(ctx, "a", 0, 0)
}

// insertAndCrash kills the server as soon as the commit is acknowledged.
func (t *trial) insertAndCrash(ctx context.Context) error {
	begun := time.Now()
	tx, err := t.insertAll(ctx)
	if err != nil {
		return err
	}
	inserted := time.Since(begun)
	begun = time.Now()
	if err := tx.Commit(); err != nil {
		return err
	}
	fmt.Printf("  statements %.1f s, COMMIT %.1f s\n", inserted.Seconds(), time.Since(begun).Seconds())
	t.peak()
	if err := t.server.Kill(); err != nil {
		return err
	}
	begun = time.Now()
	if err := t.start(ctx); err != nil {
		return err
	}
	fmt.Printf("  restart %.1f s\n", time.Since(begun).Seconds())
	return t.expect(ctx, "a", t.rows, 0)
}

func (t *trial) insertSelect(ctx context.Context) error {
	if err := t.exec(ctx, "INSERT INTO large.b SELECT * FROM large.a"); err != nil {
		return err
	}
	return t.expect(ctx, "b", t.rows, 0)
}

func (t *trial) update(ctx context.Context) error {
	if err := t.exec(ctx, "UPDATE large.b SET n = n + 1"); err != nil {
		return err
	}
	return t.expect(ctx, "b", t.rows, 1)
}

func (t *trial) delete(ctx context.Context) error {
	if err := t.exec(ctx, "DELETE FROM large.b WHERE id > 0"); err != nil {
		return err
	}
	return t.expect(ctx, "b", 0, 0)
}

// beyondLimit needs more than its transaction may have.
func (t *trial) beyondLimit(ctx context.Context) error {
	c, err := t.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, fmt.Sprintf("SET SESSION txn_total_size_limit = %d", t.rows*40)); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "INSERT INTO large.b SELECT * FROM large.a")
	var e *mysql.MySQLError
	if !errors.As(err, &e) || e.Number != 1197 {
		return fmt.Errorf("error 1197 was expected, not %w", err)
	}
	if err := t.expect(ctx, "b", 0, 0); err != nil {
		return err
	}
	return t.exec(ctx, "INSERT INTO large.b VALUES (-1, 1, '')", "DELETE FROM large.b WHERE id = -1")
}

// expect compares count, sums and checksum of a table with what rows 1 to n have
// after add was added to each number.
func (t *trial) expect(ctx context.Context, table string, n, add int) error {
	var count, ids, numbers, lengths int64
	err := t.db.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(id), 0), COALESCE(SUM(n), 0), COALESCE(SUM(CRC32(v) % 1000), 0) FROM large."+table).
		Scan(&count, (*whole)(&ids), (*whole)(&numbers), (*whole)(&lengths))
	if err != nil {
		return fmt.Errorf("read %s back: %w", table, err)
	}
	want := [4]int64{int64(n)}
	for i := 1; i <= n; i++ {
		want[1] += int64(i)
		want[2] += int64(number(i) + add)
		want[3] += int64(checksum(text(i)) % 1000)
	}
	if got := [4]int64{count, ids, numbers, lengths}; got != want {
		return fmt.Errorf("table %s has count and sums %v, not %v", table, got, want)
	}
	return nil
}
