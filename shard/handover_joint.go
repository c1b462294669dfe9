package shard

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Shards that share a group have one leader, and whoever leads and serves nothing takes a
// shard over by itself (Reclaim), without its locks. So they are handed over together: the
// old owner freezes all that it serves, writes all their lock tables down and sends one
// message. The successor holds the takeovers of all of them before it leads: nothing of
// its own can begin an epoch between that and those that inherit the flushes.
//
// It is a hand-over of each shard still (H3), which succeeds or fails for itself: an epoch
// inherits the flush that it names, or the old owner takes the shard back. One that is
// taken back where another leads by now is served there, since to propose and to prove
// needs no leadership, until the leader reclaims it. Then its open transactions lose their
// locks, as they do when an owner dies. That is rare, and ends with one owner for all.

// TakeOverTogetherRequest is a TakeOverRequest for each of several shards that share a
// group. It is answered by a bundleAnswer.
type TakeOverTogetherRequest struct{ Shards []ShardTakeOver }

// ShardTakeOver is the part of one shard.
type ShardTakeOver struct {
	Shard ID
	TakeOverRequest
}

// handing is one shard's part in a hand-over of several: frozen, with its takeover held.
type handing struct {
	replica *Replica
	tenure  *tenure
	own     *handedTable
}

// handOverTogether is HandOver of the shards among all that this node serves; this
// replica's own must be one. take has to say of each what became of it.
func (r *Replica) handOverTogether(ctx context.Context, all []*Replica, take func(context.Context, *TakeOverTogetherRequest) []error) error {
	parts, err := r.freezeTogether(all)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverFreeze)
	defer cancel()
	errs := slices.Repeat([]error{atOnce(parts, func(p *handing) error { return p.flush(ctx) })}, len(parts))
	if errs[0] == nil {
		q := &TakeOverTogetherRequest{}
		for _, p := range parts {
			q.Shards = append(q.Shards, ShardTakeOver{p.replica.c.Shard, TakeOverRequest{Epoch: p.tenure.epoch, Flush: p.own.header.Flush}})
		}
		errs = take(ctx, q)
	}
	var ends sync.WaitGroup
	for i, p := range parts {
		ends.Go(func() { errs[i] = p.end(errs[i]) })
	}
	ends.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d shards that share a log: %w", len(errs), len(parts), errs[0])
	}
	return nil
}

// freezeTogether freezes all that is served here, this replica first. Takeovers are taken
// in the order of shards, and before anything is frozen: one may be under way.
func (r *Replica) freezeTogether(all []*Replica) ([]*handing, error) {
	for _, s := range all {
		s.takeover.Lock()
	}
	t, err := r.freeze()
	if err != nil {
		for _, s := range all {
			s.takeover.Unlock()
		}
		return nil, err
	}
	parts := []*handing{{replica: r, tenure: t}}
	for _, s := range all {
		if s == r {
			continue
		}
		if t, err := s.freeze(); err == nil {
			parts = append(parts, &handing{replica: s, tenure: t})
		} else {
			s.takeover.Unlock() // another node's, or nobody's
		}
	}
	return parts, nil
}

// flush writes the shard's lock table down.
func (p *handing) flush(ctx context.Context) (err error) {
	p.own, err = p.replica.flush(ctx, p.tenure)
	return err
}

// end ends the hand-over of the shard, which the successor serves or, after an error, may
// not serve.
func (p *handing) end(err error) error {
	defer p.replica.takeover.Unlock()
	p.replica.bury(p.tenure)
	if err == nil || mutated("0097.kept-by-nobody") {
		return nil
	}
	return p.replica.takeBack(p.tenure, p.own, err)
}

// handOverTogether hands a shard over with all that share its group.
func (n *Node) handOverTogether(ctx context.Context, r *Replica, to NodeAddr) error {
	if !n.Active(VersionCompany) && !mutated("0097.gate") {
		return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: "not every node is known to take several shards over"}
	}
	return r.handOverTogether(ctx, r.company(), func(ctx context.Context, q *TakeOverTogetherRequest) []error {
		return n.router.sendTakeOver(ctx, to, q)
	})
}

// sendTakeOver asks a node to take shards over. Where nothing is known of what became of
// them, that is the error of each.
func (r *Router) sendTakeOver(ctx context.Context, to NodeAddr, q *TakeOverTogetherRequest) []error {
	errs := make([]error, len(q.Shards))
	answer := &bundleAnswer{}
	err := r.callNode(ctx, to, q.Shards[0].Shard, methodTakeOverTogether, q, answer)
	if err == nil && len(answer.answers) != len(q.Shards) {
		err = errFormat
	}
	for i, p := range q.Shards {
		if err != nil {
			errs[i] = of(p.Shard, err)
			continue
		}
		errs[i] = r.decoded(ctx, answer.answers[i], &Done{})
	}
	return errs
}

// takeOverTogether makes this node's replicas the owners after the one that asks. After an
// error none is.
func (s *Server) takeOverTogether(ctx context.Context, q *TakeOverTogetherRequest) (*bundleAnswer, error) {
	if len(q.Shards) == 0 {
		return nil, &Error{Code: BadRequest, Detail: "a hand-over of no shard"}
	}
	replicas := make([]*Replica, len(q.Shards))
	for i, p := range q.Shards {
		if replicas[i] = s.Replica(p.Shard); replicas[i] == nil {
			return nil, &Error{Code: NotOwner, Shard: p.Shard, Detail: "no replica here"}
		}
	}
	errs, err := takeOverTogether(ctx, replicas, q)
	if err != nil {
		return nil, err
	}
	answer := &bundleAnswer{answers: make([][]byte, len(errs))}
	for i, err := range errs {
		answer.answers[i] = encoded(&Done{}, err)
	}
	return answer, nil
}

// takeOverTogether is TakeOver of replicas that share a group.
func takeOverTogether(ctx context.Context, replicas []*Replica, q *TakeOverTogetherRequest) ([]error, error) {
	first := replicas[0]
	for i, r := range replicas {
		err := r.holdTakeOver(first, &q.Shards[i].TakeOverRequest)
		if err != nil {
			releaseTakeOvers(replicas[:i])
			return nil, err
		}
	}
	if mutated("0097.takeovers-one-by-one") {
		releaseTakeOvers(replicas[1:])
	}
	if err := first.lead(ctx); err != nil {
		releaseTakeOvers(replicas)
		return nil, fmt.Errorf("lead the group of shard %d: %w", first.c.Shard, err)
	}
	first.at(ctx, "leads for several")
	if mutated("0097.takeovers-one-by-one") {
		for _, r := range replicas[1:] {
			r.takeover.Lock()
		}
	}
	errs := make([]error, len(replicas))
	var work sync.WaitGroup
	for i, r := range replicas {
		work.Go(func() {
			defer r.takeover.Unlock()
			errs[i] = r.takeOver(ctx, heritage{prev: q.Shards[i].Epoch, flush: q.Shards[i].Flush})
		})
	}
	work.Wait()
	return errs, nil
}

// holdTakeOver takes the takeover of a replica that is to own its shard together with the
// first.
func (r *Replica) holdTakeOver(first *Replica, q *TakeOverRequest) error {
	switch {
	case q.Epoch == 0 || q.Flush == 0:
		return r.bad("a hand-over without an epoch or a flush")
	case !slices.Contains(first.company(), r):
		return r.bad(fmt.Sprintf("it does not share the group of shard %d", first.c.Shard))
	case !r.takeover.TryLock():
		return r.bad("this replica is taking over or handing over already")
	case r.serving.Load() != nil:
		r.takeover.Unlock()
		return r.bad("this replica owns the shard already")
	}
	return nil
}

func releaseTakeOvers(replicas []*Replica) {
	for _, r := range replicas {
		r.takeover.Unlock()
	}
}

// AppendBinary appends the encoding.
func (m *TakeOverTogetherRequest) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Shards)))
	for _, p := range m.Shards {
		b = appendUint(appendUint(appendUint(b, uint64(p.Shard)), p.Epoch), p.Flush)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *TakeOverTogetherRequest) Decode(b []byte) error {
	d := newDecoder(b)
	m.Shards = list(&d, func(d *decoder) ShardTakeOver {
		return ShardTakeOver{ID(d.uint()), TakeOverRequest{Epoch: d.uint(), Flush: d.uint()}}
	})
	return d.done()
}
