package sqlfront

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// The records of this package on the system shard. Names are hexadecimal so
// that the separators cannot occur in them.
const (
	keyVersion = "sql/version"  // counts schema changes
	keyIDs     = "sql/ids"      // the next id not yet handed to a process
	keyUsers   = "sql/users"    // the grant tables
	keyObjects = "sql/object/"  // kind/database/name: descriptors
	keyGarbage = "sql/garbage/" // id: data that nothing refers to any more
	keyBuild   = "sql/build/"   // id: data of a change that is not finished
	keyAuto    = "sql/auto/"    // table id: auto-increment high-water mark
	keyGlobals = "sql/global/"  // variable: SET PERSIST
	// keySettings counts changes of users and persisted variables.
	keySettings = "sql/settings"
	keyJobs     = "sql/job/"     // id: jobRecord
	keyDoubles  = "sql/double/"  // id of an index, random number: what it will forbid
	keyGateways = "sql/gateway/" // gateway: gatewayRecord
)

func systemKey(parts ...string) txn.Key {
	return txn.InSystem(storage.Key(strings.Join(parts, "")))
}

func idKey(prefix string, id catalog.ID) txn.Key {
	return systemKey(prefix, fmt.Sprintf("%016x", uint64(id)))
}

func objectKey(c catalog.Change) txn.Key {
	return systemKey(keyObjects, string(c.Kind), "/", hex.EncodeToString([]byte(c.Database)), "/",
		hex.EncodeToString([]byte(c.Name)))
}

// record reads one system record into v under an exclusive lock, because every
// such reader goes on to write it. found is false if there is none.
func record(ctx context.Context, tx *txn.Txn, key txn.Key, v any) (found bool, err error) {
	row, err := tx.Get(ctx, key, txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: true})
	if err != nil || !row.Found {
		return false, err
	}
	if err := catalog.DecodeRecord(row.Value, v); err != nil {
		return false, fmt.Errorf("record %s: %w", key.Bytes(), err)
	}
	return true, nil
}

// peekRecord reads one system record as the transaction's snapshot shows it.
func peekRecord(ctx context.Context, tx *txn.Txn, key txn.Key, v any) (found bool, err error) {
	row, err := tx.Get(ctx, key, txn.ReadOptions{})
	if err != nil || !row.Found {
		return false, err
	}
	if err := catalog.DecodeRecord(row.Value, v); err != nil {
		return false, fmt.Errorf("record %s: %w", key.Bytes(), err)
	}
	return true, nil
}

// lockRecord takes the exclusive lock that a Put or Delete needs.
func lockRecord(ctx context.Context, tx *txn.Txn, key txn.Key) error {
	_, err := tx.Get(ctx, key, txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: true})
	return err
}

func putRecord(ctx context.Context, tx *txn.Txn, key txn.Key, v any) error {
	if err := lockRecord(ctx, tx, key); err != nil {
		return err
	}
	data, err := catalog.EncodeRecord(v)
	if err != nil {
		return err
	}
	return tx.Put(key, data)
}

func deleteRecord(ctx context.Context, tx *txn.Txn, key txn.Key) error {
	if err := lockRecord(ctx, tx, key); err != nil {
		return err
	}
	return tx.Delete(key)
}

// eachRecord visits the stored records under a prefix in key order. name is the
// part of the key after the prefix.
func eachRecord(ctx context.Context, tx *txn.Txn, prefix string, visit func(name string, data []byte) error) error {
	lo := storage.Key(prefix)
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: lo, Hi: keycodec.PrefixEnd(lo), Where: txn.System})
	if err != nil {
		return err
	}
	defer cursor.Close()
	for {
		row, ok, err := cursor.Next(ctx)
		if err != nil || !ok {
			return err
		}
		if err := visit(string(row.Key[len(prefix):]), row.Value); err != nil {
			return fmt.Errorf("record %s: %w", row.Key, err)
		}
	}
}

// loadSnapshot reads every descriptor.
func loadSnapshot(ctx context.Context, tx *txn.Txn) (*catalog.Snapshot, error) {
	var databases, others []catalog.Change
	err := eachRecord(ctx, tx, keyObjects, func(name string, data []byte) error {
		change, err := decodeObject(name, data)
		if change.Kind == catalog.KindDatabase {
			databases = append(databases, change)
		} else {
			others = append(others, change)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return catalog.NewSnapshot().Apply(append(databases, others...)), nil
}

func decodeObject(name string, data []byte) (catalog.Change, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return catalog.Change{}, catalog.ErrCorrupt
	}
	database, err1 := hex.DecodeString(parts[1])
	object, err2 := hex.DecodeString(parts[2])
	kind := catalog.Kind(parts[0])
	value := kind.New()
	if err1 != nil || err2 != nil || value == nil {
		return catalog.Change{}, catalog.ErrCorrupt
	}
	change := catalog.Change{Kind: kind, Database: string(database), Name: string(object), Value: value}
	return change, catalog.DecodeRecord(data, value)
}

// idBatch is how many ids a process reserves at once. What it does not use is
// lost at exit; ids are plentiful.
const idBatch = 256

// newID returns an id that was never used before.
func (c *Catalog) newID(ctx context.Context) (catalog.ID, error) {
	for {
		c.mu.Lock()
		if c.mu.nextID < c.mu.idLimit {
			id := c.mu.nextID
			c.mu.nextID++
			c.mu.Unlock()
			return id, nil
		}
		c.mu.Unlock()
		if err := c.refillIDs(ctx); err != nil {
			return 0, err
		}
	}
}

func (c *Catalog) refillIDs(ctx context.Context) error {
	select {
	case c.ids <- struct{}{}:
		defer func() { <-c.ids }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	full := c.mu.nextID < c.mu.idLimit
	c.mu.Unlock()
	if full {
		return nil // another session refilled meanwhile
	}
	next := catalog.ID(1)
	err := c.update(ctx, "catalog ids", func(tx *txn.Txn) error {
		next = 1
		if _, err := record(ctx, tx, systemKey(keyIDs), &next); err != nil {
			return err
		}
		return putRecord(ctx, tx, systemKey(keyIDs), next+idBatch)
	})
	if err != nil {
		return fmt.Errorf("reserve object ids: %w", err)
	}
	c.mu.Lock()
	c.mu.nextID, c.mu.idLimit = next, next+idBatch
	c.mu.Unlock()
	return nil
}
