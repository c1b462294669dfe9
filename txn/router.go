package txn

import (
	"context"
	"time"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Router is what this package needs of shard.Router, which satisfies it. Each
// method is one message to the owner of a shard, if it is not answered here, and
// ReadMany one to each node that is asked; a refusal is a *shard.Error.
// Tests put wrappers around it that lose, repeat and delay messages.
type Router interface {
	Shard(t ring.Token) shard.ID
	DataShards() []shard.ID
	Timestamp(ctx context.Context) (storage.Timestamp, error)
	Read(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error)
	ReadMany(ctx context.Context, reads []shard.ShardRead)
	// Reduces tells whether Reduce may be called.
	Reduces() bool
	ReadFiltered(ctx context.Context, s shard.ID, r *shard.FilteredRead) (*shard.ReadResponse, error)
	Reduce(ctx context.Context, s shard.ID, r *shard.ReduceRequest) (*shard.ReduceResponse, error)
	ReadNearby(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error)
	StaleTimestamp(ctx context.Context, staleness time.Duration, most storage.Timestamp) (storage.Timestamp, error)
	KnownIssued(at storage.Timestamp) bool
	Lock(ctx context.Context, s shard.ID, r *shard.LockRequest) (*shard.LockResponse, error)
	OnePC(ctx context.Context, s shard.ID, r *shard.OnePCRequest) (*shard.VoteResponse, error)
	Prepare(ctx context.Context, s shard.ID, r *shard.PrepareRequest) (*shard.VoteResponse, error)
	Stage(ctx context.Context, s shard.ID, r *shard.StageRequest) error
	Resolve(ctx context.Context, s shard.ID, r *shard.ResolveRequest) error
	CloseVote(ctx context.Context, s shard.ID, r *shard.CloseVoteRequest) (*shard.VoteResponse, error)
	LookVote(ctx context.Context, s shard.ID, r *shard.LookVoteRequest) (*shard.LookVoteResponse, error)
	Release(ctx context.Context, s shard.ID, r *shard.ReleaseRequest) error
	// ReleasesSpans tells whether Release may name spans.
	ReleasesSpans() bool
	Renew(ctx context.Context, s shard.ID, r *shard.RenewRequest) error
	Advisory(ctx context.Context, r *shard.AdvisoryRequest) (*shard.AdvisoryResponse, error)
	Sequence(ctx context.Context, r *shard.SequenceRequest) (uint64, error)
	RaiseSchema(ctx context.Context, table, version uint64) error
	Undecided(ctx context.Context, s shard.ID, olderThan time.Duration) ([]shard.UndecidedVote, error)
}
