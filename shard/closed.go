package shard

import (
	"context"
	"errors"
	"fmt"

	"github.com/rowlockdb/rowlock/storage"
)

// A timestamp is closed on a shard when every version at or below it is there, or
// is to come from a vote that is PREPARED already. The owner closes one by a
// command in its own epoch (H12), and from the moment when a replica has applied
// that, any snapshot of it answers reads at or below the timestamp as the owner
// would, without asking anybody, whoever owns the shard by then, and whether the
// replica is a member still or not: what it has applied is the beginning of the one
// log there is.
//
// It holds because of what lies before and behind the command in the log. Before:
// maxTS was raised to the timestamp first, then everything that could have chosen
// its own before that was waited for; what came later chose a higher one. Behind,
// in later epochs: their owners draw their first timestamp after the command was
// committed, the closed one was issued before it was proposed. A second copy of a
// vote finds its register written. Resolutions may come behind the command, of votes
// before it: a reader who meets such a vote leaves it to the owner.
//
// Closing costs an entry of the log, so it is done only for those who ask: see
// nearby.

// CloseRequest asks the owner to close a timestamp, which the oracle has issued.
type CloseRequest struct{ At storage.Timestamp }

// AppendBinary appends the encoding.
func (m *CloseRequest) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.At))
}

// Decode reads what AppendBinary wrote.
func (m *CloseRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = CloseRequest{At: d.time()}
	return d.done()
}

// CloseUpTo closes a timestamp. It may be repeated.
func (r *Replica) CloseUpTo(ctx context.Context, at storage.Timestamp) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	if at <= r.c.Machine.Closed() {
		return nil
	}
	if err := r.issued(ctx, at); err != nil {
		return err
	}
	looked := mutated("H12.close-looks-first")
	if looked {
		if err := r.awaitUnsettled(ctx, t, at); err != nil {
			return err
		}
	}
	r.at(ctx, "close max_ts")
	if !mutated("H12.close-without-max-ts") {
		r.raiseMaxTS(at)
	}
	r.at(ctx, "close look")
	if !looked && !mutated("H12.close-despite-memory-lock") {
		if err := r.awaitUnsettled(ctx, t, at); err != nil {
			return err
		}
	}
	r.at(ctx, "close")
	return r.command(ctx, &Command{Kind: KindClose, Epoch: t.epoch, Below: at})
}

// unsettled returns a proposal whose outcome may lie at or below a timestamp: as
// long as there is one, the timestamp cannot be closed.
func (f *inflight) unsettled(at storage.Timestamp) *proposal {
	for _, p := range f.proposals {
		if p.blocks(at) {
			return p
		}
	}
	return nil
}

// awaitUnsettled waits until no proposal can end at or below a timestamp that maxTS
// has been raised to.
func (r *Replica) awaitUnsettled(ctx context.Context, t *tenure, at storage.Timestamp) error {
	for last := (*proposal)(nil); ; {
		t.mu.Lock()
		p := t.mu.unsettled(at)
		t.mu.Unlock()
		switch {
		case p == nil:
			return nil
		case p == last:
			return r.withoutOutcome(p)
		}
		select {
		case <-p.done:
			last = p
		case <-ctx.Done():
			return ctx.Err()
		case <-r.life.Done():
			return r.notOwner()
		}
		if r.serving.Load() != t {
			return r.notOwner()
		}
	}
}

// withoutOutcome is the answer to who waited for a proposal that has ended and still is in
// the way: it was given up, and nobody will learn its outcome.
func (r *Replica) withoutOutcome(p *proposal) error {
	return &Error{Code: Unavailable, Shard: r.c.Shard, Other: p.txn, Detail: "a vote without an outcome is in the way"}
}

// errNotClosed is why a replica cannot answer a read by itself.
var errNotClosed = errors.New("shard: not closed here")

// ReadClosed is a snapshot read that this replica answers from what it has applied,
// whether it owns the shard or not. It sends nothing and waits for nothing. After
// an error the owner knows the answer.
func (r *Replica) ReadClosed(ctx context.Context, q *ReadRequest) (*ReadResponse, error) {
	if q.At > r.c.Machine.Closed() {
		return nil, errNotClosed
	}
	r.at(ctx, "closed")
	snap, err := r.openClosed(q.At)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	if q.Span == nil {
		return r.readClosedKeys(snap, q)
	}
	s := scan{span: *q.Span, reverse: q.Reverse, limit: q.Limit, byteLimit: q.ByteLimit, at: q.At,
		noIntents: mutated("H12.undecided-unseen")}
	s.boundBytes()
	at, _, err := s.run(r, snap)
	if err == nil && at != nil {
		err = errNotClosed
	}
	if err != nil {
		return nil, err
	}
	return &ReadResponse{Rows: s.rows, More: s.more, Resume: s.resume}, nil
}

// openClosed opens a snapshot in which a timestamp is closed. That the register is
// read from the very snapshot is what makes it good for a replica whose data is
// removed meanwhile.
func (r *Replica) openClosed(at storage.Timestamp) (*storage.Snapshot, error) {
	snap, err := r.open(at)
	if err != nil {
		return nil, err
	}
	if err := r.closedIn(snap, at); err != nil {
		snap.Close()
		return nil, err
	}
	return snap, nil
}

func (r *Replica) closedIn(snap *storage.Snapshot, at storage.Timestamp) error {
	closed, err := metaTime(snap, metaClosed)
	switch {
	case err != nil:
		return r.failed(err)
	case at > closed && !mutated("H12.closed-not-in-the-snapshot"):
		return errNotClosed
	case r.c.Machine.large.Load() && !mutated("H12.staged-vote-unseen"):
		return r.largeBelow(snap, at)
	}
	return nil
}

// largeBelow fails if a vote with staged chunks is undecided that may become
// visible at a timestamp: no intent tells of its writes.
func (r *Replica) largeBelow(snap *storage.Snapshot, at storage.Timestamp) error {
	var last storage.TxnID
	return snap.AllStaged(func(id storage.TxnID, _ uint32, _ []byte) error {
		if id == last {
			return nil
		}
		last = id
		v, ok, err := snap.Vote(id)
		if err != nil {
			return r.failed(err)
		}
		if ok && v.State == storage.VotePrepared && v.Prepare <= at {
			return errNotClosed
		}
		return nil
	})
}

func (r *Replica) readClosedKeys(snap *storage.Snapshot, q *ReadRequest) (*ReadResponse, error) {
	response := &ReadResponse{Rows: make([]Row, len(q.Keys))}
	for i, k := range q.Keys {
		read, err := snap.Get(k, q.At)
		if err != nil {
			return nil, r.failed(err)
		}
		blocked, err := r.blocked(snap, read.Intent, q.At)
		if err != nil {
			return nil, err
		}
		if blocked && !mutated("H12.undecided-unseen") {
			return nil, fmt.Errorf("%w: key %s is undecided", errNotClosed, k)
		}
		response.Rows[i] = rowOf(k, &read)
	}
	return response, nil
}
