package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rowlockdb/rowlock/storage"
)

// bundle is several requests to one node in one message. Each is carried out, and
// answered, as if it had come alone; the answers go back together.
type bundle struct{ parts []bundled }

// bundled is one request of a bundle, encoded.
type bundled struct {
	method method
	shard  ID
	body   []byte
}

// bundleAnswer has for each request of a bundle, in their order, what Serve would have
// answered.
type bundleAnswer struct{ answers [][]byte }

// bundles lists what may be in a bundle: votes and outcomes.
func (m method) bundles() bool { return m == methodPrepare || m == methodResolve }

// joinable reports whether requests for the shard may go to its owner's node together
// with others, and which node that is believed to be.
func (r *Router) joinable(s ID) (NodeAddr, bool) {
	node := r.server.node
	if node == nil || !node.Active(VersionBundle) && !mutated("0086.gate") {
		return "", false
	}
	addr, err := r.likely(s)
	if err != nil || addr == r.self && !r.encode {
		return "", false
	}
	return addr, true
}

// sendBundle sends requests to a node in one message. It says for each what came of it, as
// if it had been sent alone to this node: errs[i], or responses[i].
func (r *Router) sendBundle(ctx context.Context, addr NodeAddr, b *bundle, responses []Message) []error {
	errs := make([]error, len(b.parts))
	answer := &bundleAnswer{}
	err := r.callNode(ctx, addr, System, methodBundle, b, answer)
	if err == nil && len(answer.answers) != len(b.parts) {
		err = errFormat
	}
	for i := range b.parts {
		if err != nil {
			errs[i] = of(b.parts[i].shard, err)
			continue
		}
		errs[i] = r.decoded(ctx, answer.answers[i], responses[i])
	}
	return errs
}

// of is what became of a message, for a request in it.
func of(s ID, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	one := *e
	one.Shard = s
	return &one
}

// bundle carries out the requests of a bundle. Votes reach the logs together; the
// others are done one after the other, unless one takes its time.
func (s *Server) bundle(ctx context.Context, b *bundle) (*bundleAnswer, error) {
	if len(b.parts) == 0 {
		return nil, &Error{Code: BadRequest, Detail: "an empty bundle"}
	}
	answer := &bundleAnswer{answers: make([][]byte, len(b.parts))}
	requests := make([]Message, len(b.parts))
	var votes, others []int
	for i := range b.parts {
		p := &b.parts[i]
		if !p.method.bundles() {
			answer.answers[i] = encodeError(nil, &Error{Code: BadRequest, Shard: p.shard, Detail: fmt.Sprintf("method %d in a bundle", p.method)})
			continue
		}
		requests[i] = newRequest(p.method)
		if err := requests[i].Decode(p.body); err != nil {
			answer.answers[i] = encodeError(nil, unreadable(fmt.Errorf("method %d in a bundle: %w", p.method, err)))
		} else if p.method == methodPrepare {
			votes = append(votes, i)
		} else {
			others = append(others, i)
		}
	}
	if len(others) == 0 {
		s.votes(ctx, b, requests, votes, answer)
		return answer, nil
	}
	var work sync.WaitGroup
	if len(votes) > 0 {
		work.Go(func() { s.votes(ctx, b, requests, votes, answer) })
	}
	inRelay(ctx, len(others), func(ctx context.Context, k int) {
		i := others[k]
		answer.answers[i] = encoded(s.Dispatch(ctx, b.parts[i].shard, requests[i]))
	})
	work.Wait()
	return answer, nil
}

// votes is the whole of the PrepareRequests in a bundle.
func (s *Server) votes(ctx context.Context, b *bundle, requests []Message, votes []int, answer *bundleAnswer) {
	all := make([]jointVote, len(votes))
	for k, i := range votes {
		id := b.parts[i].shard
		all[k] = jointVote{shard: id, replica: s.Replica(id), request: requests[i].(*PrepareRequest)}
	}
	castTogether(ctx, all)
	for k, i := range votes {
		answer.answers[i] = encoded(all[k].response, all[k].err)
	}
}

// Told is the outcome of a transaction for a shard, ABORTED if Commit is 0. Done says
// that the owner has queued it.
type Told struct {
	Shard  ID
	Txn    storage.TxnID
	Commit storage.Timestamp
	Done   bool
}

// NodeOf is where Tell would send an outcome for a shard, together with those for others
// there; empty if it goes alone.
func (r *Router) NodeOf(s ID) NodeAddr {
	addr, _ := r.joinable(s)
	return addr
}

// Tell sends outcomes to a node in one message. One that is not Done is best sent again
// by Resolve, which finds the owner.
func (r *Router) Tell(ctx context.Context, addr NodeAddr, outcomes []Told) {
	b := &bundle{parts: make([]bundled, len(outcomes))}
	responses := make([]Message, len(outcomes))
	for i, o := range outcomes {
		q := ResolveRequest{Txn: o.Txn, Commit: o.Commit}
		b.parts[i] = bundled{method: methodResolve, shard: o.Shard, body: q.AppendBinary(nil)}
		responses[i] = &Done{}
	}
	for i, err := range r.sendBundle(ctx, addr, b, responses) {
		outcomes[i].Done = err == nil || mutated("0086.told-without-an-answer")
		if r.elsewhere(outcomes[i].Shard, methodResolve, err) {
			r.mistaken(outcomes[i].Shard, addr, err, []NodeAddr{addr})
		}
	}
}

// AppendBinary appends the encoding.
func (m *bundle) AppendBinary(b []byte) []byte {
	size := 16
	for i := range m.parts {
		size += 16 + len(m.parts[i].body)
	}
	b = slices.Grow(b, size)
	b = appendUint(append(b, formatVersion), uint64(len(m.parts)))
	for i := range m.parts {
		p := &m.parts[i]
		b = appendBytes(appendUint(append(b, byte(p.method)), uint64(p.shard)), p.body)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *bundle) Decode(b []byte) error {
	d := newDecoder(b)
	m.parts = list(&d, func(d *decoder) bundled {
		return bundled{method: method(d.byte()), shard: ID(d.uint()), body: d.bytes()}
	})
	return d.done()
}

// AppendBinary appends the encoding.
func (m *bundleAnswer) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.answers)))
	for _, a := range m.answers {
		b = appendBytes(b, a)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *bundleAnswer) Decode(b []byte) error {
	d := newDecoder(b)
	m.answers = list(&d, (*decoder).bytes)
	return d.done()
}
