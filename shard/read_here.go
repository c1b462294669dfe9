package shard

import (
	"context"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// hereRead is a read on a replica of this node that is carried out with others.
// Response and err are both nil if it was left: then nothing is known of it.
type hereRead struct {
	replica  *Replica
	q        *ReadRequest
	response *ReadResponse
	err      error

	found  *ReadResponse // with the rows that the cache of rows has
	missed []int         // the others

	tenure *tenure // nil: it is left
	late   bool    // the lease is looked at when everything has been read
}

// readHere carries out reads on replicas of one engine as far as none has to wait,
// and leaves the others to Replica.Read. Each takes the steps of Replica.Read in
// their order (R1): those in front of the storage snapshot are taken for every read,
// then one moment of the engine is the snapshot of all, and the leases are looked at
// when all have read. It ends with about room bytes of rows, and when patience is
// over: what waits for a disk is better done by several.
func readHere(ctx context.Context, reads []hereRead, room int, patience time.Duration) {
	spaces := make([]*storage.Space, 0, len(reads))
	for i := range reads {
		h := &reads[i]
		if room <= 0 {
			break
		}
		if !h.prepare(ctx) {
			continue
		}
		if !h.cached(ctx) {
			spaces = append(spaces, h.replica.c.Space)
		} else if h.response != nil {
			room -= h.response.size()
		}
	}
	if len(spaces) > 0 {
		readInMoment(ctx, reads, spaces, room, patience)
	}
	for i := range reads {
		reads[i].finish(ctx)
	}
}

func readInMoment(ctx context.Context, reads []hereRead, spaces []*storage.Space, room int, patience time.Duration) {
	begun := time.Now()
	moment, err := storage.MomentOf(spaces)
	if err != nil { // who reads alone meets it again
		leave(reads)
		return
	}
	defer moment.Close()
	var s scan
	for i := range reads {
		h := &reads[i]
		if h.tenure == nil || h.done() {
			continue
		}
		if room <= 0 || time.Since(begun) > patience {
			leave(reads[i:])
			return
		}
		s.expected = len(reads) - i
		h.read(ctx, moment, &s)
		if h.response != nil {
			room -= h.response.size()
		}
	}
}

// leave gives up the reads that have not been carried out.
func leave(reads []hereRead) {
	for i := range reads {
		if !reads[i].done() || mutated("0084.left-without-proof") {
			reads[i].tenure = nil
		}
	}
}

// done tells whether there is an answer, still to be proved.
func (h *hereRead) done() bool { return h.response != nil || h.err != nil }

// prepare takes the steps in front of the snapshot; false if the read is left.
func (h *hereRead) prepare(ctx context.Context) bool {
	r, q := h.replica, h.q
	if r == nil {
		return false
	}
	t := r.serving.Load()
	if t == nil || q.At > r.c.Times.Issued() && !mutated("0077.unissued") {
		return false
	}
	looked := mutated("0077.look-before-raise")
	if looked && !t.clear(q) {
		return false
	}
	r.at(ctx, "here max_ts")
	if !mutated("0077.unraised") {
		r.raiseMaxTS(q.At)
	}
	r.at(ctx, "here proof")
	h.late = t.lease.likely() && !mutated("0077.early-proof")
	if !h.late && !r.proved(t) && !mutated("0077.unproved") {
		return false
	}
	r.at(ctx, "here look")
	if !looked && !t.clear(q) && !mutated("0077.no-look") {
		return false
	}
	h.tenure = t
	return true
}

// clear reports whether nothing that is under way matters to a read: neither is
// there a proposal to wait for, nor a vote to look at.
func (t *tenure) clear(q *ReadRequest) bool {
	if t.pending.Load() == 0 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocker(q) != nil || t.mu.undecidedOn(q.Keys, q.Span, q.At) {
		return false
	}
	_, large := t.mu.largeOn(q.Keys, q.Span, q.At)
	return large == nil
}

// cached deals with a read without the moment, if the cache of rows has all its keys.
func (h *hereRead) cached(ctx context.Context) bool {
	if h.q.Span != nil {
		return false
	}
	if h.found, h.missed = h.replica.keysCached(h.q); len(h.missed) > 0 {
		return false
	}
	h.replica.at(ctx, "here read")
	if h.keptUp() {
		h.response = h.found
	}
	return true
}

// keptUp is looked at when the moment is fixed, or what was read without it. A read of a
// replica that is no owner any more is left.
func (h *hereRead) keptUp() bool {
	r := h.replica
	if !mutated("0077.no-fence") {
		if h.err = r.recent(h.q.At); h.err != nil {
			return false
		}
	}
	if !r.stillOwns(h.tenure) {
		h.tenure = nil
		return false
	}
	return true
}

// read reads in the moment.
func (h *hereRead) read(ctx context.Context, moment *storage.Moment, s *scan) {
	r, q := h.replica, h.q
	r.at(ctx, "here read")
	if !h.keptUp() {
		return
	}
	snap := moment.Snapshot(r.c.Space)
	if q.Span == nil {
		if h.err = r.keysIn(snap, q, h.found, h.missed); h.err == nil {
			h.response = h.found
		}
		return
	}
	s.begin(q)
	if _, _, err := s.run(r, snap); err != nil {
		h.err = err
		return
	}
	h.response = &ReadResponse{Rows: slices.Clip(s.rows), More: s.more, Resume: s.resume}
}

// finish is the late proof, which forgets what was read if it fails.
func (h *hereRead) finish(ctx context.Context) {
	r, t := h.replica, h.tenure
	if t == nil {
		return
	}
	r.at(ctx, "here late proof")
	if h.late && !r.proved(t) && !mutated("0077.no-late-proof") || r.serving.Load() != t {
		h.response, h.err = nil, nil
		return
	}
	t.work.Add(1)
	r.counters.reads.Add(1)
}

// begin prepares for the next page, whose rows go behind those of the last one.
func (s *scan) begin(q *ReadRequest) {
	rows := s.rows[len(s.rows):]
	if cap(rows) == 0 {
		rows = nil
	}
	*s = scan{span: *q.Span, reverse: q.Reverse, limit: q.Limit, byteLimit: q.ByteLimit, at: q.At, noIntents: true,
		rows: rows, arena: s.arena, before: s.before + len(s.rows), expected: s.expected}
	s.boundBytes()
}
