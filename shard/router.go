package shard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// ownerPatience is how long a request without a deadline looks for the owner of
// its shard.
const ownerPatience = 10 * time.Second

// Router sends each request to the owner of its shard: a direct call if the
// owner is on this node, through the Transport otherwise. It is how every layer
// above reaches the key space. Safe for concurrent use.
//
// NotOwner answers are retried inside, at the next member, until the context
// ends (or for ten seconds, without a deadline). No other error is.
type Router struct {
	ring       *ring.Ring
	shards     []ID
	self       NodeAddr
	server     *Server
	directory  *Directory
	transport  Transport
	encode     bool
	timestamps timestamps
	issued     atomic.Uint64 // largest timestamp seen from the oracle
	nearby     *nearby       // nil: there are no followers to read from
}

// Shard returns the data shard of a token.
func (r *Router) Shard(t ring.Token) ID { return r.ring.Shard(t) }

// DataShards returns the data shards in ascending order. The caller must not
// change the slice.
func (r *Router) DataShards() []ID { return r.shards }

// Ring returns the ring that places tokens on shards.
func (r *Router) Ring() *ring.Ring { return r.ring }

// Timestamp draws a timestamp from the oracle: greater than every one that was
// drawn before the call.
func (r *Router) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	if local := r.local(System); local != nil && !r.encode {
		if t, err := local.Timestamps(ctx, 1); CodeOf(err) != NotOwner {
			return t, err
		}
	}
	return r.timestamps.draw(ctx, r.drawRemote)
}

// drawRemote draws n timestamps from the oracle of another node.
func (r *Router) drawRemote(ctx context.Context, n uint64) (storage.Timestamp, error) {
	response := &TimestampResponse{}
	if err := r.call(ctx, System, methodTimestamp, &TimestampRequest{Count: int(n)}, response); err != nil {
		return 0, err
	}
	r.see(response.First + storage.Timestamp(n-1))
	return response.First, nil
}

func (r *Router) see(t storage.Timestamp) {
	for {
		old := r.issued.Load()
		if old >= uint64(t) || r.issued.CompareAndSwap(old, uint64(t)) {
			return
		}
	}
}

// Issued returns a recent timestamp that the oracle has issued; it satisfies
// TimestampSource.
func (r *Router) Issued() storage.Timestamp {
	t := storage.Timestamp(r.issued.Load())
	if local := r.local(System); local != nil && local.serving.Load() != nil {
		t = max(t, local.oracle.Issued())
	}
	return t
}

// local returns this node's replica of the shard if the directory says that it
// is the owner.
func (r *Router) local(s ID) *Replica {
	if addr, ok := r.directory.Owner(s); !ok || addr != r.self {
		return nil
	}
	return r.server.Replica(s)
}

// Here reports whether the shard's owner is believed to be on this node, and is asked
// without a message.
func (r *Router) Here(s ID) bool { return r.local(s) != nil && !r.encode }

// Read reads at a snapshot. Errors: SnapshotTooOld, Undecided, BadRequest,
// Unavailable, NotOwner, the context's.
func (r *Router) Read(ctx context.Context, s ID, q *ReadRequest) (*ReadResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := local.Read(ctx, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[ReadResponse](ctx, r, s, methodRead, q)
}

// Lock takes locks and reads under them. Errors: Deadlock, LockTimeout,
// WouldBlock, LockLost, Conflict, Undecided, Unavailable, NotOwner, the
// context's. Locks granted before the error stay until Release.
func (r *Router) Lock(ctx context.Context, s ID, q *LockRequest) (*LockResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := local.Lock(ctx, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[LockResponse](ctx, r, s, methodLock, q)
}

// OnePC commits a transaction on its only shard. Errors: NeedFloor, TooLarge,
// SchemaChanged, BadRequest, Unavailable (nothing was written), Unknown. A
// transaction whose locks are lost is answered ABORTED, not with an error.
func (r *Router) OnePC(ctx context.Context, s ID, q *OnePCRequest) (*VoteResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := local.OnePC(ctx, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[VoteResponse](ctx, r, s, methodOnePC, q)
}

// Prepare asks one participant for its vote. Errors as of OnePC.
func (r *Router) Prepare(ctx context.Context, s ID, q *PrepareRequest) (*VoteResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := local.Prepare(ctx, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[VoteResponse](ctx, r, s, methodPrepare, q)
}

// Stage brings a chunk of a large transaction's writes before its vote. It may
// be repeated. Errors: LockLost, Fenced, SchemaChanged and BadRequest mean that
// the transaction cannot commit; TooLarge, Unavailable, NotOwner.
func (r *Router) Stage(ctx context.Context, s ID, q *StageRequest) error {
	return r.call(ctx, s, methodStage, q, &Done{})
}

// Resolve hands the outcome to one participant. Without Wait it returns once
// the owner has queued it.
func (r *Router) Resolve(ctx context.Context, s ID, q *ResolveRequest) error {
	return r.call(ctx, s, methodResolve, q, &Done{})
}

// HandIn is Resolve for the COMMITTED outcome of a vote whose owner is on this node.
// It only queues; false: nothing was done, and Resolve may find somebody.
func (r *Router) HandIn(s ID, id storage.TxnID, commit storage.Timestamp) bool {
	local := r.local(s)
	return local != nil && !r.encode && local.handIn(id, commit)
}

// DrainOutcomes waits, for a moment, until the owners on this node have carried out
// the outcomes that they have been told so far.
func (r *Router) DrainOutcomes() {
	for _, s := range r.shards {
		if local := r.server.Replica(s); local != nil {
			local.drainResolves()
		}
	}
}

// CloseVote returns the vote, after writing ABORTED where there was none. It
// may be repeated.
func (r *Router) CloseVote(ctx context.Context, s ID, q *CloseVoteRequest) (*VoteResponse, error) {
	return callFor[VoteResponse](ctx, r, s, methodCloseVote, q)
}

// ReleasesSpans reports whether Release may name Spans: all nodes know them.
func (r *Router) ReleasesSpans() bool {
	node := r.server.node
	return node == nil || node.Active(VersionGiveBack) || mutated("0074.gate")
}

// Release drops locks that have not voted. It may be repeated.
func (r *Router) Release(ctx context.Context, s ID, q *ReleaseRequest) error {
	return r.call(ctx, s, methodRelease, q, &Done{})
}

// Renew renews a gateway's lease at the shard's owner.
func (r *Router) Renew(ctx context.Context, s ID, q *RenewRequest) error {
	return r.call(ctx, s, methodRenew, q, &Done{})
}

// Undecided lists the shard's PREPARED votes that are at least olderThan old,
// oldest first.
func (r *Router) Undecided(ctx context.Context, s ID, olderThan time.Duration) ([]UndecidedVote, error) {
	response, err := callFor[UndecidedResponse](ctx, r, s, methodUndecided, &UndecidedRequest{OlderThan: olderThan})
	if err != nil {
		return nil, err
	}
	return response.Votes, nil
}

// Locks lists the locks held and waited for at the shard.
func (r *Router) Locks(ctx context.Context, s ID) ([]LockInfo, error) {
	response, err := callFor[LocksResponse](ctx, r, s, methodLocks, &LocksRequest{})
	if err != nil {
		return nil, err
	}
	return response.Locks, nil
}

// Advisory takes, gives up or looks at advisory locks. Errors: Deadlock,
// Unavailable, BadRequest, NotOwner, the context's. After any error but
// Deadlock a lock may have been taken.
func (r *Router) Advisory(ctx context.Context, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	return callFor[AdvisoryResponse](ctx, r, System, methodAdvisory, q)
}

// Sequence takes values of a counter. After an error values may have been taken,
// which nobody else gets.
func (r *Router) Sequence(ctx context.Context, q *SequenceRequest) (uint64, error) {
	if local := r.local(System); local != nil && !r.encode {
		if response, err := local.Sequence(ctx, q); CodeOf(err) != NotOwner {
			if err != nil {
				return 0, err
			}
			return response.First, nil
		}
	}
	response, err := callFor[SequenceResponse](ctx, r, System, methodSequence, q)
	if err != nil {
		return 0, err
	}
	return response.First, nil
}

// RaiseSchema raises the least acceptable version of a table's schema on every
// shard, the system shard included (H11). When it returns nil, no transaction
// that planned with an older version can vote any more.
func (r *Router) RaiseSchema(ctx context.Context, table, version uint64) error {
	return atOnce(r.allShards(), func(s ID) error {
		err := r.call(ctx, s, methodRaiseSchema, &SchemaRequest{Table: table, Version: version}, &Done{})
		if err != nil {
			return fmt.Errorf("raise schema of table %d on shard %d: %w", table, s, err)
		}
		return nil
	})
}

func (r *Router) allShards() []ID { return append([]ID{System}, r.shards...) }

// Rounds returns how many proposals this node's replicas of data shards have made.
// Tests count the rounds of a commit with it; the system shard makes some of its own
// accord, for the oracle and for the nodes.
func (r *Router) Rounds() uint64 {
	var n uint64
	for _, s := range r.shards {
		if local := r.server.Replica(s); local != nil {
			n += local.counters.proposals.Load()
		}
	}
	return n
}

func callFor[R any, M interface {
	*R
	Message
}](ctx context.Context, r *Router, s ID, m method, q Message) (*R, error) {
	response := new(R)
	if err := r.call(ctx, s, m, q, M(response)); err != nil {
		return nil, err
	}
	return response, nil
}

// call sends a request until a node answers that is the owner. A node that cannot
// be reached, or cannot answer, is no owner while there are others to ask, unless
// the request may have been carried out and must not be twice.
func (r *Router) call(ctx context.Context, s ID, m method, q, response Message) error {
	deadline := time.Now().Add(ownerPatience)
	var asked []NodeAddr // in this round
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		addr, err := r.likely(s)
		if err == nil {
			if err = r.callNode(ctx, addr, s, m, q, response); !r.elsewhere(s, m, err) {
				return err
			}
			if len(asked) >= len(r.directory.Members(s)) {
				asked = asked[:0]
			}
			asked = append(asked, addr)
			r.mistaken(s, addr, err, asked)
		} else if r.transport == nil {
			return err // nobody will tell of one
		}
		if time.Now().After(deadline) {
			return err
		}
		if late := pause(ctx, context.Background(), wait); late != nil {
			return fmt.Errorf("%w, after %w", late, err)
		}
	}
}

// likely returns the node to ask first. A node that has just come in hears of the
// shards a moment later.
func (r *Router) likely(s ID) (NodeAddr, error) {
	if addr, ok := r.directory.Owner(s); ok {
		return addr, nil
	}
	return "", &Error{Code: NotOwner, Shard: s, Detail: "no node is known to have a replica"}
}

// mistaken corrects the directory after addr was asked in vain. Who is no owner may
// know who is; it may also be late, then the next one is asked. Whom this request
// has asked in the round is not asked again on anybody's word: one replica that
// lags and one owner that is gone would send it to and fro between them, and never
// on to the owner.
func (r *Router) mistaken(s ID, addr NodeAddr, err error, asked []NodeAddr) {
	r.directory.Wrong(s, addr)
	var e *Error
	if !errors.As(err, &e) || e.Owner == 0 {
		return
	}
	if owner := nodeAddr(e.Owner); owner != addr && !slices.Contains(asked, owner) && (owner != r.self || r.server.Replica(s) != nil) {
		r.directory.Found(s, owner)
	}
}

// elsewhere reports whether a request that ended with err may be tried at another
// replica's node.
func (r *Router) elsewhere(s ID, m method, err error) bool {
	switch CodeOf(err) {
	case NotOwner:
		return true
	case Unavailable:
		return m != methodAdvisory && m != methodTakeOver && m != methodSeat && len(r.directory.Members(s)) > 1
	}
	return false
}

// callMargin is how much longer than its caller a request may take where it is carried
// out. The caller's own time ends a call, and tells why; were it the request's, an owner
// would take it for the end of a wait of its own.
const callMargin = 100 * time.Millisecond

func (r *Router) callNode(ctx context.Context, addr NodeAddr, s ID, m method, q, response Message) error {
	if addr == r.self && !r.encode {
		answer, err := r.server.dispatch(ctx, m, s, q)
		if err != nil {
			return err
		}
		assign(response, answer)
		return nil
	}
	e := envelope{method: m, shard: s}
	if deadline, ok := ctx.Deadline(); ok {
		e.timeout = max(0, time.Until(deadline)) + callMargin
	}
	request := q.AppendBinary(e.appendHeader(make([]byte, 0, 256)))
	if addr == r.self {
		return r.decoded(ctx, r.server.Serve(ctx, request), response)
	}
	if r.transport == nil {
		return &Error{Code: NotOwner, Shard: s, Detail: "no transport to node " + string(addr)}
	}
	b, err := r.transport.Call(ctx, addr, request)
	if err != nil {
		return r.unanswered(ctx, s, m, err)
	}
	return r.decoded(ctx, b, response)
}

func (r *Router) decoded(ctx context.Context, b []byte, response Message) error {
	err := decodeResponse(b, response)
	var e *Error
	if err != nil && !errors.As(err, &e) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// unanswered is what a lost call means: a request that may have reached the log
// has an unknown outcome, any other can be sent again.
func (r *Router) unanswered(ctx context.Context, s ID, m method, err error) error {
	if (m == methodOnePC || m == methodPrepare || m == methodBundle) && !errors.Is(err, ErrNotSent) {
		return &Error{Code: Unknown, Shard: s, Detail: err.Error()}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &unreached{&Error{Code: Unavailable, Shard: s, Detail: err.Error()}, err}
}

// unreached is an Error with what the transport said.
type unreached struct {
	said  *Error
	cause error
}

func (u *unreached) Error() string   { return u.said.Error() }
func (u *unreached) Unwrap() []error { return []error{u.said, u.cause} }

// assign copies an answer of the direct path into the caller's response, whatever type
// the two are of.
func assign(response, answer Message) {
	reflect.ValueOf(response).Elem().Set(reflect.ValueOf(answer).Elem())
}

func sortedIDs(ids []ID) []ID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return ids
}
