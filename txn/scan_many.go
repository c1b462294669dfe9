package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
)

// ScanMany opens cursors as Scan does, in the order of scans, and fetches the first
// pages of all of them with one request to each node. With locks they are opened one
// after the other: the order in which locks are taken is the order of scans.
func (t *Txn) ScanMany(ctx context.Context, scans []Scan) ([]*Cursor, error) {
	cursors := make([]*Cursor, 0, len(scans))
	err := t.scanMany(ctx, scans, &cursors)
	if err != nil {
		for _, c := range cursors {
			c.Close()
		}
		return nil, err
	}
	return cursors, nil
}

func (t *Txn) scanMany(ctx context.Context, scans []Scan, cursors *[]*Cursor) error {
	var reads []shard.ShardRead
	for _, s := range scans {
		c, err := t.newCursor(ctx, s)
		if err != nil {
			return err
		}
		*cursors = append(*cursors, c)
		if c.o.Lock != LockNone {
			if err := c.open(ctx); err != nil {
				return err
			}
			continue
		}
		c.prepare(ctx)
		for _, s := range c.sources {
			reads = append(reads, shard.ShardRead{Shard: s.shard, Request: s.snapshotRequest(s.pageRows)})
		}
	}
	sent := requests{t: t}
	if len(reads) > 0 {
		sent.read(ctx, reads)
	}
	for _, c := range *cursors {
		if c.o.Lock != LockNone {
			continue
		}
		pages := make([]page, len(c.sources))
		for i := range pages {
			pages[i] = pageOf(reads[i].Response, reads[i].Err)
		}
		reads = reads[len(pages):]
		c.accept(pages, &sent)
	}
	if err := sent.fail(ctx); err != nil {
		return err
	}
	for _, c := range *cursors {
		if c.o.Lock == LockNone {
			if err := c.begin(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
