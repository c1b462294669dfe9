package shard

import (
	"context"
	"time"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// Router sends each request to the owner of its shard. It is how every layer
// above reaches the key space. Safe for concurrent use.
type Router struct{}

// Shard returns the data shard of a token.
func (r *Router) Shard(t ring.Token) ID { panic("skeleton") }

// DataShards returns the data shards in ascending order.
func (r *Router) DataShards() []ID { panic("skeleton") }

// Timestamp draws a timestamp from the oracle: greater than every one drawn before the call.
func (r *Router) Timestamp(ctx context.Context) (storage.Timestamp, error) { panic("skeleton") }

func (r *Router) Read(ctx context.Context, s ID, q *ReadRequest) (*ReadResponse, error) {
	panic("skeleton")
}
func (r *Router) Lock(ctx context.Context, s ID, q *LockRequest) (*LockResponse, error) {
	panic("skeleton")
}
func (r *Router) OnePC(ctx context.Context, s ID, q *OnePCRequest) (*VoteResponse, error) {
	panic("skeleton")
}
func (r *Router) Prepare(ctx context.Context, s ID, q *PrepareRequest) (*VoteResponse, error) {
	panic("skeleton")
}
func (r *Router) Resolve(ctx context.Context, s ID, q *ResolveRequest) error { panic("skeleton") }
func (r *Router) CloseVote(ctx context.Context, s ID, q *CloseVoteRequest) (*VoteResponse, error) {
	panic("skeleton")
}
func (r *Router) Release(ctx context.Context, s ID, q *ReleaseRequest) error { panic("skeleton") }
func (r *Router) Renew(ctx context.Context, s ID, q *RenewRequest) error     { panic("skeleton") }
func (r *Router) Undecided(ctx context.Context, s ID, olderThan time.Duration) ([]UndecidedVote, error) {
	panic("skeleton")
}
func (r *Router) Locks(ctx context.Context, s ID) ([]LockInfo, error) { panic("skeleton") }

// RaiseSchema raises the least acceptable version of a table's schema on every shard (H11).
func (r *Router) RaiseSchema(ctx context.Context, table, version uint64) error { panic("skeleton") }

// Rounds returns the number of proposals this node's replicas have made.
func (r *Router) Rounds() uint64 { panic("skeleton") }
