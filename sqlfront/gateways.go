package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// gatewayRecord is what a gateway says of itself in the system shard. It writes
// it when it has something new to say, and every second while somebody may be
// waiting for it: a schema change elsewhere, or one of its own.
type gatewayRecord struct {
	ID uint64 `json:"id"`
	// Loaded is the number of schema changes that it plans with.
	Loaded uint64 `json:"loaded"`
	// Pending are the metadata locks by which transactions of it still use a
	// definition from before.
	Pending []string `json:"pending,omitempty"`
	Beat    uint64   `json:"beat"`
}

func gatewayKey(id uint64) txn.Key { return idKey(keyGateways, catalog.ID(id)) }

// gateways lists the records of all gateways.
func (c *Catalog) gateways(ctx context.Context) ([]gatewayRecord, error) {
	tx := c.reader("gateways")
	defer tx.Rollback(ctx)
	var out []gatewayRecord
	err := eachRecord(ctx, tx, keyGateways, func(_ string, data []byte) error {
		var g gatewayRecord
		err := catalog.DecodeRecord(data, &g)
		out = append(out, g)
		return err
	})
	return out, err
}

// reader starts a transaction that reads the system shard at one moment.
func (c *Catalog) reader(label string) *txn.Txn {
	return c.coordinator.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true, Label: label})
}

// errAlive says that a gateway that seemed dead is not.
var errAlive = errors.New("the gateway is alive")

// removeGateway takes the record of a gateway away, if it still is as it was seen,
// and ends what the gateway has left half done.
func (c *Catalog) removeGateway(ctx context.Context, seen gatewayRecord) error {
	err := c.update(ctx, "gateway is gone", func(tx *txn.Txn) error {
		var now gatewayRecord
		found, err := record(ctx, tx, gatewayKey(seen.ID), &now)
		if err != nil || !found {
			return err
		}
		if now.Beat != seen.Beat {
			return errAlive
		}
		return deleteRecord(ctx, tx, gatewayKey(seen.ID))
	})
	if errors.Is(err, errAlive) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gateway %x: %w", seen.ID, err)
	}
	if c.follower.buried != nil {
		c.follower.buried()
	}
	return c.bury(ctx, func(gateway uint64) bool { return gateway == seen.ID })
}

// bury thaws what gateways have frozen that are gone. A statement of theirs that
// is still under way finds its table thawed when it commits, and cannot.
func (c *Catalog) bury(ctx context.Context, gone func(uint64) bool) error {
	if err := c.follower.refresh(ctx); err != nil {
		return err
	}
	for _, schema := range c.snapshot.Load().Schemas() {
		if schema.Frozen != 0 && gone(schema.Frozen) {
			if err := c.thawDatabase(ctx, schema.Name, schema.Frozen); err != nil {
				return err
			}
		}
		for _, desc := range schema.Tables {
			if desc.Frozen == 0 || !gone(desc.Frozen) {
				continue
			}
			if err := c.thaw(ctx, schema.Name, desc); err != nil {
				return err
			}
		}
	}
	return nil
}

// thaw ends the freeze that the descriptor shows, if it is in force still.
func (c *Catalog) thaw(ctx context.Context, database string, frozen *catalog.Table) error {
	change := catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(database), Name: strings.ToLower(frozen.Name)}
	var version uint64
	err := c.update(ctx, "thaw", func(tx *txn.Txn) error {
		version = 0
		var now catalog.Table
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.ID != frozen.ID || now.Version != frozen.Version || now.Frozen != frozen.Frozen {
			return err
		}
		now.Frozen = 0
		now.Version++
		change.Value = &now
		if version, err = countChange(ctx, tx); err != nil {
			return err
		}
		return putRecord(ctx, tx, objectKey(change), &now)
	})
	if err != nil {
		return fmt.Errorf("thaw %s.%s: %w", database, frozen.Name, err)
	}
	if version != 0 {
		c.publish([]catalog.Change{change}, version)
		c.follower.announce()
	}
	return nil
}

func (c *Catalog) thawDatabase(ctx context.Context, database string, gateway uint64) error {
	change := catalog.Change{Kind: catalog.KindDatabase, Database: strings.ToLower(database)}
	var version uint64
	err := c.update(ctx, "thaw", func(tx *txn.Txn) error {
		version = 0
		var now catalog.Database
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.Frozen != gateway {
			return err
		}
		now.Frozen = 0
		change.Value = &now
		if version, err = countChange(ctx, tx); err != nil {
			return err
		}
		return putRecord(ctx, tx, objectKey(change), &now)
	})
	if err != nil {
		return fmt.Errorf("thaw %s: %w", database, err)
	}
	if version != 0 {
		c.publish([]catalog.Change{change}, version)
		c.follower.announce()
	}
	return nil
}
