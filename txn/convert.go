package txn

import (
	"context"
	"errors"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// codeFrom says what a shard's refusal of a read or a lock means for the
// transaction. Refusals of commit messages are not judged by their code: only
// registers are (commit.go).
var codeFrom = map[shard.Code]Code{
	shard.NotOwner:       Unavailable,
	shard.NeedFloor:      Bug,
	shard.LockLost:       LockLost,
	shard.Deadlock:       Deadlock,
	shard.LockTimeout:    LockTimeout,
	shard.WouldBlock:     WouldBlock,
	shard.Conflict:       Conflict,
	shard.SnapshotTooOld: SnapshotTooOld,
	shard.TooLarge:       TooLarge,
	shard.Undecided:      Unavailable,
	shard.Unknown:        Unavailable, // a lock or read whose fate is open changes nothing durable
	shard.Unavailable:    Unavailable,
	shard.SchemaChanged:  SchemaChanged,
	shard.Fenced:         Conflict, // it can never vote again
	shard.BadRequest:     Bug,
	shard.DiskFull:       DiskFull,
}

// convert makes an *Error of whatever a call to shard s returned. A context that
// ended counts as an interruption only if it is the caller's: time that ran out
// further down says that the shard, or the oracle, could not be had.
func convert(ctx context.Context, err error, id storage.TxnID, s shard.ID) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	e := &Error{Code: Unavailable, Txn: id, Shard: s, Err: err}
	var refused *shard.Error
	switch {
	case errors.As(err, &refused):
		e.Code, e.Key, e.Other, e.Shard = codeFrom[refused.Code], refused.Key, refused.Other, refused.Shard
		if e.Code == 0 {
			e.Code = Unavailable
		}
		if e.Code == Deadlock {
			e.Cycle = refused.Detail
		}
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		e.Code = Interrupted
	}
	return e
}

// bug is the error for a caller that breaks the contract.
func (t *Txn) bug(k Key, detail string) *Error {
	return &Error{Code: Bug, Txn: t.id, Shard: t.shardOf(k), Key: k.key, Detail: detail}
}
