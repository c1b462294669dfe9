package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// Catalog holds the newest schema of this process and writes changes of it to
// the system shard. The stored records are the truth; the snapshot in memory is
// replaced after the transaction that changed them has committed, while the
// metadata locks of the objects concerned are still held exclusively.
type Catalog struct {
	coordinator *txn.Coordinator
	locks       *catalog.Locks
	snapshot    atomic.Pointer[catalog.Snapshot]
	tables      sync.Map // *catalog.Table -> *tableInfo, of the newest snapshot
	auto        autoCounters
	stats       tableStatistics
	fast        fastPlans

	mu struct {
		sync.Mutex
		nextID, idLimit catalog.ID
		// version is the number of schema changes that the snapshot shows,
		// published the largest of a change that was made here.
		version, published uint64
	}
	ids      chan struct{} // one token: who refills the ids
	follower follower
}

// openCatalog makes this gateway known and reads the stored schema.
func openCatalog(ctx context.Context, coordinator *txn.Coordinator, announce func()) (*Catalog, error) {
	c := &Catalog{coordinator: coordinator, locks: catalog.NewLocks(), ids: make(chan struct{}, 1)}
	c.snapshot.Store(catalog.NewSnapshot())
	c.auto.init(coordinator)
	c.stats.init(c)
	c.follower.init(c)
	c.follower.told = announce
	if err := c.follower.join(ctx); err != nil {
		return nil, fmt.Errorf("sqlfront: make the gateway known: %w", err)
	}
	if err := c.follower.refresh(ctx); err != nil {
		return nil, fmt.Errorf("sqlfront: load the catalog: %w", err)
	}
	return c, nil
}

// reload makes sure that the snapshot shows what is stored now.
func (c *Catalog) reload(ctx context.Context) error { return c.follower.refresh(ctx) }

// begin starts a transaction of the server's own. READ COMMITTED: such
// transactions read under locks and must not be refused for an old snapshot.
func (c *Catalog) begin(label string) *txn.Txn {
	return c.coordinator.Begin(txn.Options{Isolation: txn.ReadCommitted, Label: label})
}

// update runs f in a transaction of its own and commits it. A transaction that
// was rolled back as a deadlock victim or for a lost lock is tried again.
func (c *Catalog) update(ctx context.Context, label string, f func(*txn.Txn) error) error {
	const attempts = 10
	var err error
	for range attempts {
		tx := c.begin(label)
		if err = f(tx); err == nil {
			err = tx.Commit(ctx)
		}
		if err == nil {
			return nil
		}
		tx.Rollback(ctx)
		if !retriable(err) {
			return err
		}
	}
	return err
}

// retriable tells whether the transaction surely had no effect and may succeed
// if it is run again.
func retriable(err error) bool {
	var e *txn.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == txn.Deadlock || e.Code == txn.LockLost || e.Code == txn.Conflict
}

// publish makes committed changes visible to every session of this gateway.
// version is the number of the schema change that made them.
func (c *Catalog) publish(changes []catalog.Change, version uint64) {
	c.mu.Lock()
	old := c.snapshot.Load()
	switch {
	case version <= c.mu.version: // read again meanwhile
		c.mu.Unlock()
		return
	case version == c.mu.version+1:
		c.mu.version = version
	}
	c.mu.published = max(c.mu.published, version)
	next := old.Apply(changes)
	c.snapshot.Store(next)
	c.mu.Unlock()
	c.follower.follow(old, next)
	c.fast.forget(next)
	for _, change := range changes {
		if change.Kind != catalog.KindTable {
			continue
		}
		if schema := old.Schema(change.Database); schema != nil {
			c.tables.Delete(schema.Table(change.Name))
		}
	}
}

// replace puts a snapshot that was read in place of the present one, unless that
// shows more. It returns the one before, nil if it stays.
func (c *Catalog) replace(next *catalog.Snapshot, version uint64) *catalog.Snapshot {
	c.mu.Lock()
	if version < c.mu.published || version <= c.mu.version && c.mu.version > 0 {
		c.mu.Unlock()
		return nil
	}
	old := c.snapshot.Load()
	next.Keep(old)
	c.snapshot.Store(next)
	c.mu.version = version
	c.mu.Unlock()
	live := map[*catalog.Table]bool{}
	for _, schema := range next.Schemas() {
		for _, desc := range schema.Tables {
			live[desc] = true
		}
	}
	c.fast.forget(next)
	c.tables.Range(func(desc, _ any) bool {
		if !live[desc.(*catalog.Table)] {
			c.tables.Delete(desc)
		}
		return true
	})
	return old
}

// loaded is the number of schema changes that the snapshot shows.
func (c *Catalog) loaded() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.version
}

// info returns the compiled form of a descriptor of the newest snapshot.
func (c *Catalog) info(schema *catalog.Schema, desc *catalog.Table) (*tableInfo, error) {
	if v, ok := c.tables.Load(desc); ok {
		return v.(*tableInfo), nil
	}
	info, err := compileTable(schema.Name, desc)
	if err != nil {
		return nil, err
	}
	c.tables.Store(desc, info)
	return info, nil
}

// counted are the tables of the newest snapshot that have an AUTO_INCREMENT column.
func (c *Catalog) counted() []*tableInfo {
	var out []*tableInfo
	for _, schema := range c.snapshot.Load().Schemas() {
		for _, desc := range schema.Tables {
			if desc.AutoColumn() < 0 {
				continue
			}
			if info, err := c.info(schema, desc); err == nil {
				out = append(out, info)
			}
		}
	}
	return out
}
