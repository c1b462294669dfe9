package sqlfront

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// garbageCollector removes data that no descriptor names: of dropped tables and
// indexes, of tables that were rewritten, and of changes that did not finish.
// What there is to remove is recorded in the system shard, in the transaction
// that made it garbage; the record goes when the last row is gone. A restart
// therefore goes on where the last life stopped.
type garbageCollector struct {
	server    *Server
	signal    chan struct{}
	abandoned chan []deadData
	orphans   atomic.Bool // a gateway was found dead; its builds are to be adopted
}

// deadData is data under one id, with the descriptor it was written by: where a
// key lives follows from its columns.
type deadData struct {
	ID    catalog.ID     `json:"id"`
	Table *catalog.Table `json:"table"`
	// Gateway is the one that builds; 0 in garbage, and in records from before
	// there were several.
	Gateway uint64 `json:"gateway,omitempty"`
}

// RecordVersion implements catalog.Versioned: a key that is looked for on the wrong shard
// would never be found.
func (d deadData) RecordVersion() byte {
	if mutated("0082.first-record") {
		return (*catalog.Table)(nil).RecordVersion()
	}
	return d.Table.RecordVersion()
}

// dataOf is everything stored for a table.
func dataOf(desc *catalog.Table) []deadData {
	var out []deadData
	for _, id := range desc.DataIDs() {
		out = append(out, deadData{ID: id, Table: desc})
	}
	return out
}

const (
	garbageBatch = 500   // keys that one transaction removes
	garbageLook  = 20000 // keys that one snapshot shows
)

func newGarbageCollector(s *Server) *garbageCollector {
	return &garbageCollector{server: s, signal: make(chan struct{}, 1), abandoned: make(chan []deadData, 64)}
}

// wake says that there may be new records.
func (g *garbageCollector) wake() {
	select {
	case g.signal <- struct{}{}:
	default:
	}
}

// orphaned says that a gateway was found dead.
func (g *garbageCollector) orphaned() {
	g.orphans.Store(true)
	g.wake()
}

// abandon hands over the ids of a change that failed in this life. If the queue
// is full the ids wait for the next start, when their build records are found.
func (g *garbageCollector) abandon(data []deadData) {
	select {
	case g.abandoned <- data:
	default:
	}
}

// adopt turns the build records of gateways that are gone into garbage. It runs at
// the start, and whenever a gateway was found dead.
func (g *garbageCollector) adopt(ctx context.Context) error {
	data, err := g.list(ctx, keyBuild)
	if err != nil {
		return fmt.Errorf("list unfinished builds: %w", err)
	}
	if len(data) == 0 {
		return nil
	}
	known, err := g.server.catalog.gateways(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	return g.condemn(ctx, slices.DeleteFunc(data, func(d deadData) bool {
		return slices.ContainsFunc(known, func(k gatewayRecord) bool { return k.ID == d.Gateway })
	}))
}

// condemn makes builds garbage.
func (g *garbageCollector) condemn(ctx context.Context, data []deadData) error {
	if len(data) == 0 {
		return nil
	}
	err := g.server.catalog.update(ctx, "garbage", func(tx *txn.Txn) error {
		for _, d := range data {
			if err := putRecord(ctx, tx, idKey(keyGarbage, d.ID), d); err != nil {
				return err
			}
			if err := deleteRecord(ctx, tx, idKey(keyBuild, d.ID)); err != nil {
				return err
			}
		}
		return nil
	})
	g.wake()
	return err
}

func (g *garbageCollector) list(ctx context.Context, prefix string) ([]deadData, error) {
	tx := g.server.catalog.begin("garbage")
	defer tx.Rollback(ctx)
	var out []deadData
	err := eachRecord(ctx, tx, prefix, func(_ string, data []byte) error {
		var d deadData
		err := catalog.DecodeRecord(data, &d)
		out = append(out, d)
		return err
	})
	return out, err
}

// run works until ctx ends.
func (g *garbageCollector) run(ctx context.Context) {
	const pause = time.Second // after a failure
	for {
		wait := time.Duration(1<<63 - 1)
		if g.orphans.Swap(false) {
			if err := g.adopt(ctx); err != nil && ctx.Err() == nil {
				g.server.config.Logger.Warn("builds of a dead gateway wait for a restart", "error", err)
			}
		}
		if err := g.collect(ctx); err != nil && ctx.Err() == nil {
			g.server.config.Logger.Warn("removal of dropped data failed, will be tried again", "error", err)
			wait = pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case data := <-g.abandoned:
			if err := g.condemn(ctx, data); err != nil && ctx.Err() == nil {
				g.server.config.Logger.Warn("data of a failed schema change waits for a restart", "error", err)
			}
		case <-g.signal:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (g *garbageCollector) collect(ctx context.Context) error {
	dead, err := g.list(ctx, keyGarbage)
	if err != nil {
		return err
	}
	for _, d := range dead {
		if err := g.remove(ctx, d); err != nil {
			return fmt.Errorf("data %d of table %s: %w", d.ID, d.Table.Name, err)
		}
	}
	return nil
}

// remove deletes everything under the id, then the record.
func (g *garbageCollector) remove(ctx context.Context, d deadData) error {
	info, err := compileTable("", d.Table)
	if err != nil {
		return err
	}
	for part := range g.server.catalog.coordinator.Parts() {
		if err := g.removePart(ctx, info, d.ID, part); err != nil {
			return err
		}
	}
	return g.server.catalog.update(ctx, "garbage", func(tx *txn.Txn) error {
		return deleteRecord(ctx, tx, idKey(keyGarbage, d.ID))
	})
}

// removePart deletes what lies on one shard, so that each of its transactions is of
// one shard. It goes on behind what it has deleted: whoever begins at the front again
// walks over all of it, which stays until the retention is over. When it has come to
// the end it looks once at the whole.
func (g *garbageCollector) removePart(ctx context.Context, info *tableInfo, id catalog.ID, part int) error {
	start := dataPrefix(id)
	for from := start; ; {
		last, err := g.removeSome(ctx, info, id, part, from)
		switch {
		case err != nil:
			return err
		case last != nil:
			from = append(slices.Clone(last), 0)
		case bytes.Equal(from, start) || mutated("0088.looks-once"):
			return nil
		default:
			from = start
		}
	}
}

// removeSome deletes up to garbageLook keys from one on, and returns the last of them,
// nil if there was none. One snapshot shows them: it is not kept for long, because
// while it is open no old version goes anywhere.
func (g *garbageCollector) removeSome(ctx context.Context, info *tableInfo, id catalog.ID, part int, from storage.Key) (last storage.Key, err error) {
	look := g.server.catalog.begin("garbage")
	defer look.Rollback(ctx)
	cursor, err := look.Scan(ctx, txn.Scan{Lo: from, Hi: keycodec.PrefixEnd(dataPrefix(id)), Where: txn.OnePart(part)})
	if err != nil {
		return nil, err
	}
	defer cursor.Close()
	for range garbageLook / garbageBatch {
		begun := time.Now()
		keys, err := deadKeys(ctx, cursor, info, id)
		if err != nil || len(keys) == 0 {
			return last, err
		}
		deleted := 0
		err = g.server.catalog.update(ctx, "garbage", func(tx *txn.Txn) (err error) {
			deleted, err = deleteKeys(ctx, tx, keys)
			return err
		})
		if err != nil {
			return last, err
		}
		last = keys[len(keys)-1].Bytes()
		if len(keys) < garbageBatch || deleted == 0 {
			return last, nil // none: another collector is here, and ahead of this snapshot
		}
		if err := pauseFor(ctx, garbageRest(time.Since(begun))); err != nil {
			return last, err
		}
	}
	return last, nil
}

// garbageRest is how long the statements of others have the machine for themselves
// after a batch that took so long. A batch that took longer than usual met others.
func garbageRest(took time.Duration) time.Duration { return min(3*took, longestRest) }

// deadKeys takes the next batch from a cursor.
func deadKeys(ctx context.Context, cursor *txn.Cursor, info *tableInfo, id catalog.ID) ([]txn.Key, error) {
	var keys []txn.Key
	for len(keys) < garbageBatch {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		at, err := info.locationOf(ctx, id, slices.Clone(row.Key), row.Value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, at.txn())
	}
	return keys, nil
}

// deleteKeys needs no lock against others, who never write under a dead id, but a
// delete needs the key's. It returns how many there were: collectors of several nodes
// may be at work on one id, and a key that is gone must not be deleted again.
func deleteKeys(ctx context.Context, tx *txn.Txn, keys []txn.Key) (deleted int, err error) {
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: true})
	if err != nil {
		return 0, err
	}
	for i, k := range keys {
		if !rows[i].Found && !mutated("0088.deletes-again") {
			continue
		}
		if err := tx.Delete(k); err != nil {
			return 0, err
		}
		deleted++
	}
	return deleted, nil
}

// locationOf finds the placement of a stored key of a row or an entry.
func (t *tableInfo) locationOf(ctx context.Context, id catalog.ID, key, value []byte) (location, error) {
	if id == t.primary.id {
		return t.rowLocationOf(ctx, key, value)
	}
	i := slices.IndexFunc(t.indexes, func(x *indexInfo) bool { return x.id == id })
	if i < 0 {
		return location{}, fmt.Errorf("no index %d: %w", id, catalog.ErrCorrupt)
	}
	x := t.indexes[i]
	columns := 1
	if x.unique {
		columns = len(x.columns)
	}
	rest, err := x.key.Skip(key[len(x.start):], columns)
	if err != nil {
		return location{}, err
	}
	return location{key, x.tokenOf(key[:len(key)-len(rest)])}, nil
}

func (t *tableInfo) rowLocationOf(ctx context.Context, key, value []byte) (location, error) {
	placed := key
	if t.keyless() {
		placed = key[:len(key)-8] // without the random number
	}
	if t.place == nil {
		return location{key, t.primary.tokenOf(placed)}, nil
	}
	row, err := t.decodeRow(ctx, value)
	if err != nil {
		return location{}, err
	}
	token, err := t.rowToken(ctx, row, placed)
	return location{key, token}, err
}
