package sqlfront

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/sqlfront/catalog"
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

// dataOf is everything stored for a table.
func dataOf(desc *catalog.Table) []deadData {
	var out []deadData
	for _, id := range desc.DataIDs() {
		out = append(out, deadData{ID: id, Table: desc})
	}
	return out
}

// garbageBatch is how many keys one transaction removes.
const garbageBatch = 500

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
	for {
		removed := 0
		err := g.server.catalog.update(ctx, "garbage", func(tx *txn.Txn) error {
			var err error
			removed, err = removeBatch(ctx, tx, info, d.ID)
			return err
		})
		if err != nil {
			return err
		}
		if removed == 0 {
			break
		}
	}
	return g.server.catalog.update(ctx, "garbage", func(tx *txn.Txn) error {
		return deleteRecord(ctx, tx, idKey(keyGarbage, d.ID))
	})
}

// removeBatch deletes up to garbageBatch keys and returns how many. No lock is
// needed against others, who never write under a dead id, but a delete needs
// the key's.
func removeBatch(ctx context.Context, tx *txn.Txn, info *tableInfo, id catalog.ID) (int, error) {
	start := dataPrefix(id)
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: start, Hi: keycodec.PrefixEnd(start), Limit: garbageBatch})
	if err != nil {
		return 0, err
	}
	defer cursor.Close()
	var keys []txn.Key
	for len(keys) < garbageBatch {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		at, err := info.locationOf(ctx, id, slices.Clone(row.Key), row.Value)
		if err != nil {
			return 0, err
		}
		keys = append(keys, at.txn())
	}
	if _, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: true}); err != nil {
		return 0, err
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
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
	return location{key, ring.TokenOf(key[:len(key)-len(rest)])}, nil
}

func (t *tableInfo) rowLocationOf(ctx context.Context, key, value []byte) (location, error) {
	placed := key
	if t.keyless() {
		placed = key[:len(key)-8] // without the random number
	}
	if t.place == nil {
		return location{key, ring.TokenOf(placed)}, nil
	}
	row, err := t.decodeRow(ctx, value)
	if err != nil {
		return location{}, err
	}
	token, err := t.rowToken(ctx, row, placed)
	return location{key, token}, err
}
