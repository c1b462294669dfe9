package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"time"
)

func checksum(s string) uint32 { return crc32.ChecksumIEEE([]byte(s)) }

// whole reads a sum, which the server may send as a decimal or floating number.
type whole int64

// Scan implements sql.Scanner.
func (w *whole) Scan(src any) error {
	text := fmt.Sprint(src)
	if b, ok := src.([]byte); ok {
		text = string(b)
	}
	if n, err := strconv.ParseInt(strings.TrimSuffix(text, ".0"), 10, 64); err == nil {
		*w = whole(n)
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	*w = whole(f)
	return err
}

// watch lets others work beside a large transaction: one reads rows of its tables,
// which must be there all or none, one writes another table.
func (t *trial) watch(ctx context.Context) *others {
	ctx, cancel := context.WithCancel(ctx)
	o := &others{cancel: cancel}
	o.work.Go(func() { o.loop(ctx, t.readBeside) })
	o.work.Go(func() { o.loop(ctx, t.writeBeside) })
	return o
}

type others struct {
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	longest time.Duration
	err     error
}

// stop ends them and returns the longest time that one of their statements took.
func (o *others) stop() (time.Duration, error) {
	o.cancel()
	o.work.Wait()
	return o.longest, o.err
}

func (o *others) loop(ctx context.Context, do func(context.Context) (time.Duration, error)) {
	for ctx.Err() == nil {
		took, err := do(ctx)
		o.mu.Lock()
		if ctx.Err() == nil && took > o.longest {
			o.longest = took
		}
		if ctx.Err() == nil && o.err == nil {
			o.err = err
		}
		o.mu.Unlock()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// away tells whether an error only says that the server was killed.
func away(err error) bool {
	text := err.Error()
	return strings.Contains(text, "connect") || strings.Contains(text, "EOF") || strings.Contains(text, "closed") || strings.Contains(text, "reset")
}

func (t *trial) readBeside(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	for _, table := range []string{"a", "b"} {
		var n int
		err := t.pool().QueryRowContext(ctx, fmt.Sprintf("SELECT COUNT(*) FROM large.%s WHERE id IN (1, %d, %d, %d)", table, t.rows/3, t.rows/2, t.rows)).Scan(&n)
		if err != nil {
			if away(err) {
				return 0, nil
			}
			return 0, fmt.Errorf("read: %w", err)
		}
		if n != 0 && n != 4 {
			return 0, fmt.Errorf("a reader saw %d of 4 rows of one transaction", n)
		}
	}
	return time.Since(begun), nil
}

func (t *trial) writeBeside(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	_, err := t.pool().ExecContext(ctx, "UPDATE large.other SET n = n + 1 WHERE id <= 3")
	if err != nil && !away(err) {
		return 0, fmt.Errorf("write: %w", err)
	}
	return time.Since(begun), nil
}
