package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Uses says with which version of a table's schema the transaction was planned.
// A shard whose least acceptable version is higher refuses its vote: the commit
// then fails with SchemaChanged (H11). Of several versions the first counts.
func (t *Txn) Uses(table, version uint64) {
	for i := range t.schemas {
		if t.schemas[i].Table == table {
			return
		}
	}
	t.schemas = append(t.schemas, shard.SchemaRef{Table: table, Version: version})
}

// ReadAt is the snapshot that plain reads use, 0 while none is fixed.
func (t *Txn) ReadAt() storage.Timestamp { return t.snapshot }

// SequenceRequest asks for values of a counter.
type SequenceRequest = shard.SequenceRequest

// Sequence takes values of a counter of the system shard .
// No transaction is involved: values of one that is rolled back are lost.
func (c *Coordinator) Sequence(ctx context.Context, q *SequenceRequest) (uint64, error) {
	first, err := c.router.Sequence(ctx, q)
	if err != nil {
		return 0, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return first, nil
}

// RaiseSchema makes a version the least acceptable one of a table on every
// shard. When it returns nil, no transaction that was planned with an older one
// can commit any more. After an error that holds for some shards.
func (c *Coordinator) RaiseSchema(ctx context.Context, table, version uint64) error {
	if mutated("H11.raise-unsent") {
		return nil
	}
	if err := c.router.RaiseSchema(ctx, table, version); err != nil {
		return convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return nil
}
