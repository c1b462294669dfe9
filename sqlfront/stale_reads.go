package sqlfront

import (
	"errors"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// A session with rowlock_read_staleness reads, where it only reads, a snapshot of
// the near past. Two things of the present are in its way: the schema, which a node
// that is cut off cannot ask for, and tables that are younger than the snapshot.

// errUnasked says that the schema may be old and nobody has been asked yet.
var errUnasked = errors.New("the schema has not been asked for")

// latest bounds snapshots of the near past: while the schema cannot be asked for,
// what is planned holds for what was read up to where it is known.
func (f *follower) latest() storage.Timestamp {
	if f.fresh() {
		return 0
	}
	return storage.Timestamp(f.known.Load())
}

// knowsSchema fails if the schema may be too old for what is to be read.
func (s *Session) knowsSchema(ctx *sql.Context, mode readMode) error {
	if s.stale == nil {
		return nil
	}
	tx, err := s.pastReader(ctx, mode)
	if err != nil {
		return err
	}
	if tx != nil {
		at, err := tx.Snapshot(ctx)
		if err == nil && (at <= storage.Timestamp(s.catalog.follower.known.Load()) || mutated("H12.schema-unknown")) {
			return nil
		}
	}
	if errors.Is(s.stale, errUnasked) {
		s.hear()
	}
	return s.stale
}

// pastReader is the transaction of a read of the past; nil if it is of the present.
func (s *Session) pastReader(ctx *sql.Context, mode readMode) (*txn.Txn, error) {
	if mode.tx != nil || mode.lock != txn.LockNone {
		return mode.tx, nil
	}
	tx, err := s.txn(ctx)
	if err != nil || !tx.Stale() {
		return nil, err
	}
	return tx, nil
}

// recent turns a transaction that may read the near past to the present if the
// statement uses a table that was not there then, or one that the session keeps to
// itself and wants to find as it left it.
func (s *Session) recent(ctx *sql.Context, mode readMode, info *tableInfo) error {
	if mode.tx != nil || s.tx == nil || !s.tx.txn.Stale() {
		return nil
	}
	tx, err := s.pastReader(ctx, mode)
	if err != nil || tx == nil {
		return err
	}
	at, err := tx.Snapshot(ctx)
	if err != nil {
		return err
	}
	if !info.temporary && at >= info.primary.public {
		return nil
	}
	tx.Present()
	if _, err := tx.Snapshot(ctx); err != nil {
		return err
	}
	// Other tables of the statement may be open, with a plan for the past.
	lapsed, err := s.lapsed(ctx)
	if err == nil && lapsed {
		err = errDataTooNew
	}
	return err
}
