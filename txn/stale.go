package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Stale tells whether plain reads may be older than the present.
func (t *Txn) Stale() bool { return t.o.Staleness != 0 && !t.present.Load() }

// Present makes the snapshot of a transaction with Staleness that of the present
// after all, for a statement that needs what is younger. It does nothing once a row
// was read: the snapshot is fixed then.
func (t *Txn) Present() {
	if t.Stale() && !t.looked.Load() {
		t.present.Store(true)
		t.snapshot = 0
	}
}

// chooseSnapshot finds the timestamp of plain reads: the present, a point in the
// past, or one of the near past that this node's replicas can show. The oracle is
// asked only if the timestamp may be none of its own (H12).
func (t *Txn) chooseSnapshot(ctx context.Context) (storage.Timestamp, error) {
	switch {
	case t.o.At != 0 && t.c.router.KnownIssued(t.o.At):
		return t.o.At, t.known(t.o.At)
	case t.o.At != 0:
		// What is drawn after the request arrived has nothing above it that could be
		// read yet.
		ts, err := t.draw(ctx)
		return min(ts, t.o.At), err
	case t.Stale():
		ts, err := t.c.router.StaleTimestamp(ctx, t.o.Staleness, t.o.Latest)
		if err != nil {
			return 0, convert(ctx, err, t.id, shard.System)
		}
		return ts, t.known(ts)
	}
	return t.draw(ctx)
}

// known gives the transaction an id without a draw, so that its snapshot is kept
// from being collected. It will never lock or vote.
func (t *Txn) known(start storage.Timestamp) (err error) {
	if t.id.IsZero() {
		t.id, err = t.c.register(t, start)
	}
	return err
}

// read asks for rows without locks: of the past here, if this node's replica can
// answer, else of the shard's owner.
func (t *Txn) read(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error) {
	t.looked.Store(true)
	return t.c.read(ctx, s, r, t.past())
}

// past tells whether plain reads may be answered by replicas.
func (t *Txn) past() bool { return t.o.At != 0 || t.Stale() }
