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

	mu struct {
		sync.Mutex
		nextID, idLimit catalog.ID
	}
	ids chan struct{} // one token: who refills the ids
}

// openCatalog reads the stored schema.
func openCatalog(ctx context.Context, coordinator *txn.Coordinator) (*Catalog, error) {
	c := &Catalog{coordinator: coordinator, locks: catalog.NewLocks(), ids: make(chan struct{}, 1)}
	c.auto.init(coordinator)
	c.stats.init(c)
	if err := c.reload(ctx); err != nil {
		return nil, fmt.Errorf("sqlfront: load the catalog: %w", err)
	}
	return c, nil
}

// reload replaces the snapshot by what is stored, unless another change is
// published meanwhile: then it reads again.
func (c *Catalog) reload(ctx context.Context) error {
	for {
		old := c.snapshot.Load()
		snapshot, err := c.readSnapshot(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		replaced := c.snapshot.CompareAndSwap(old, snapshot)
		c.mu.Unlock()
		if replaced {
			return nil
		}
	}
}

func (c *Catalog) readSnapshot(ctx context.Context) (*catalog.Snapshot, error) {
	tx := c.begin("catalog load")
	defer tx.Rollback(ctx)
	return loadSnapshot(ctx, tx)
}

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

// publish makes committed changes visible to every session.
func (c *Catalog) publish(changes []catalog.Change) {
	c.mu.Lock()
	old := c.snapshot.Load()
	c.snapshot.Store(old.Apply(changes))
	c.mu.Unlock()
	for _, change := range changes {
		if change.Kind != catalog.KindTable {
			continue
		}
		if schema := old.Schema(change.Database); schema != nil {
			c.tables.Delete(schema.Table(change.Name))
		}
	}
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

// known tells of table ids whether they are in the newest snapshot.
func (c *Catalog) known() func(catalog.ID) bool {
	ids := map[catalog.ID]bool{}
	for _, schema := range c.snapshot.Load().Schemas() {
		for _, t := range schema.Tables {
			ids[t.ID] = true
		}
	}
	return func(id catalog.ID) bool { return ids[id] }
}
