package shard

import (
	"context"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// DefaultByteLimit ends a page of a span read once its rows reach this size.
const DefaultByteLimit = 4 << 20

// Read is a snapshot read. The order of its steps is rule R1: the timestamp is
// the oracle's, maxTS is raised, ownership is proved, proposals in flight on the
// keys are waited for, and only then the storage snapshot is opened.
//
// Intents are looked up only where a vote known to this owner may matter to the
// read. That is all there are: the check under the mutex finds no proposal that
// could end at or below the timestamp and no such vote that is undecided, those
// that begin afterwards end above it, and the snapshot, opened afterwards, holds
// what was resolved before and nothing of another owner (openOwn). For the same reason
// keys may then be read one by one in the cache of rows: what is visible at the
// timestamp stays the same in this tenure, and keptUp looks at the rest afterwards.
func (r *Replica) Read(ctx context.Context, q *ReadRequest) (*ReadResponse, error) {
	return r.read(ctx, q, false)
}

// read is Read; always looks for intents if intents is set.
func (r *Replica) read(ctx context.Context, q *ReadRequest, intents bool) (*ReadResponse, error) {
	return r.readInto(ctx, q, intents, nil)
}

// readInto is read; the rows go into the fold, if there is one.
func (r *Replica) readInto(ctx context.Context, q *ReadRequest, intents bool, f *fold) (*ReadResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	r.counters.reads.Add(1)
	if err := r.issued(ctx, q.At); err != nil {
		return nil, err
	}
	looked, undecided := mutated("R1.look-before-raise"), false
	if looked {
		if undecided, err = r.awaitProposals(ctx, t, q); err != nil {
			return nil, err
		}
		r.at(ctx, "looked too early")
	}
	r.at(ctx, "max_ts")
	r.raiseMaxTS(q.At)
	r.at(ctx, "proof")
	// A lease is looked at when everything has been read (H1). If it turns out to be
	// over then, a barrier does as well: what this replica owns now it owned all
	// along in this tenure, with everything that was acknowledged.
	late := t.lease.likely() && !mutated("H1.lease-checked-before-reading")
	if !late {
		if err := r.prove(ctx, t); err != nil {
			return nil, err
		}
	}
	r.at(ctx, "look")
	if !looked && !mutated("R1.no-look") {
		if undecided, err = r.awaitProposals(ctx, t, q); err != nil {
			return nil, err
		}
	}
	r.at(ctx, "snapshot")
	var response *ReadResponse
	if f != nil {
		err = r.runFold(ctx, t, f, intents || undecided)
	} else {
		response, err = r.readRows(ctx, t, q, intents || undecided)
	}
	if err != nil {
		return nil, err
	}
	r.at(ctx, "late proof")
	if late {
		err = r.prove(ctx, t)
	}
	return response, err
}

func (r *Replica) readRows(ctx context.Context, t *tenure, q *ReadRequest, intents bool) (*ReadResponse, error) {
	if q.Span == nil {
		return r.readKeys(ctx, t, q, intents)
	}
	s := scan{span: *q.Span, reverse: q.Reverse, limit: q.Limit, byteLimit: q.ByteLimit, at: q.At, noIntents: !intents}
	if err := r.runScan(ctx, t, &s); err != nil {
		return nil, err
	}
	return &ReadResponse{Rows: s.rows, More: s.more, Resume: s.resume}, nil
}

// awaitProposals waits until no proposal in flight blocks the read. Those that
// begin afterwards choose timestamps above maxTS, hence above the read. It
// reports whether there are votes that the read must look at: in the same look,
// for a proposal becomes a vote in one step.
func (r *Replica) awaitProposals(ctx context.Context, t *tenure, q *ReadRequest) (undecided bool, err error) {
	if mutated("H9.readers-push") {
		for _, id := range r.c.Machine.Abandonable() {
			return false, &Error{Code: Undecided, Shard: r.c.Shard, Other: id, Participants: []ID{r.c.Shard}}
		}
	}
	for last := (*proposal)(nil); t.pending.Load() != 0; {
		t.mu.Lock()
		p := t.blocker(q)
		var id storage.TxnID
		var large *votedTxn
		if p == nil {
			undecided = t.mu.undecidedOn(q.Keys, q.Span, q.At)
			id, large = t.mu.largeOn(q.Keys, q.Span, q.At)
		}
		t.mu.Unlock()
		if large != nil {
			// No intent tells of its writes: nothing is read before they are versions.
			if err := r.awaitResolution(ctx, t, firstKey(q), id); err != nil {
				return false, err
			}
			continue
		}
		switch {
		case p == nil:
			return undecided, nil
		case p == last && !mutated("0092.readers-spin"):
			return false, r.withoutOutcome(p)
		}
		aboutToWait(ctx)
		select {
		case <-p.done:
			last = p
		case <-ctx.Done():
			return false, ctx.Err()
		case <-r.life.Done():
			return false, r.notOwner()
		}
		if r.serving.Load() != t {
			return false, r.notOwner()
		}
	}
	return false, nil
}

func firstKey(q *ReadRequest) storage.Key {
	if q.Span != nil {
		return q.Span.Lo
	}
	return q.Keys[0]
}

func (t *tenure) blocker(q *ReadRequest) *proposal {
	if q.Span != nil {
		return t.mu.onSpan(*q.Span, q.At)
	}
	for _, k := range q.Keys {
		if p := t.mu.onKey(k, q.At); p != nil {
			return p
		}
	}
	return nil
}

// open opens a storage snapshot and checks the fence in it (H10). The fence is
// published before anything that relies on it is visible, so loading it after
// the snapshot was opened is enough.
func (r *Replica) open(at storage.Timestamp) (*storage.Snapshot, error) {
	snap := r.c.Space.Snapshot()
	if err := r.recent(at); err != nil {
		snap.Close()
		return nil, err
	}
	return snap, nil
}

// recent compares a read with the fence, after the snapshot was opened or, without
// one, after the read.
func (r *Replica) recent(at storage.Timestamp) error {
	fence := r.c.Machine.Fence()
	if at >= fence {
		return nil
	}
	return &Error{Code: SnapshotTooOld, Shard: r.c.Shard,
		Detail: "read at " + at.String() + " is older than what is kept, " + fence.String()}
}

// openOwn opens a storage snapshot that holds nothing of a later owner, and all
// that this one knew to be resolved when the caller asked it: a tenure stops
// serving before it forgets, and the epoch is published before anything of it is
// visible.
func (r *Replica) openOwn(t *tenure, at storage.Timestamp) (*storage.Snapshot, error) {
	snap, err := r.open(at)
	if err != nil {
		return nil, err
	}
	if !r.stillOwns(t) {
		snap.Close()
		return nil, r.notOwner()
	}
	return snap, nil
}

// stillOwns reports whether a snapshot that was opened before, or what was read before,
// is the tenure's.
func (r *Replica) stillOwns(t *tenure) bool {
	if epoch, _, _, _ := r.c.Machine.Owner(); epoch != t.epoch {
		r.stepDown(t)
	}
	return r.serving.Load() == t
}

func (r *Replica) readKeys(ctx context.Context, t *tenure, q *ReadRequest, intents bool) (*ReadResponse, error) {
	var response *ReadResponse
	var missed []int
	if !intents {
		if response, missed = r.keysCached(q); len(missed) == 0 {
			r.at(ctx, "read")
			return response, r.keptUp(t, q.At)
		}
	}
	snap, err := r.openOwn(t, q.At)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	r.at(ctx, "read")
	if !intents {
		return response, r.keysIn(snap, q, response, missed)
	}
	response = &ReadResponse{Rows: make([]Row, len(q.Keys))}
	for i, k := range q.Keys {
		read, err := r.readKey(ctx, t, snap, k, q.At)
		if err != nil {
			return nil, err
		}
		response.Rows[i] = rowOf(k, &read)
	}
	return response, nil
}

// keysCached reads keys on which no intent matters as far as the cache of rows has
// them, each in a moment of its own: after the look what is visible at the timestamp
// does not change any more in this tenure. Whether the tenure goes on and the fence
// has not passed the timestamp is checked afterwards, with keptUp or openOwn.
func (r *Replica) keysCached(q *ReadRequest) (response *ReadResponse, missed []int) {
	response = &ReadResponse{Rows: make([]Row, len(q.Keys))}
	for i, k := range q.Keys {
		if read, ok := r.c.Space.Cached(k, q.At); ok {
			response.Rows[i] = rowOf(k, &read)
			continue
		}
		if missed == nil {
			missed = make([]int, 0, len(q.Keys)-i)
		}
		missed = append(missed, i)
	}
	return response, missed
}

// keptUp is openOwn for what was read without a snapshot, before.
func (r *Replica) keptUp(t *tenure, at storage.Timestamp) error {
	if !mutated("0084.no-fence") {
		if err := r.recent(at); err != nil {
			return err
		}
	}
	if !mutated("0084.any-owner") && !r.stillOwns(t) {
		return r.notOwner()
	}
	return nil
}

// manyKeys of one request are no rows that are wanted again and again: the cache of rows
// is asked for them, but keeps what it has.
const manyKeys = 64

// keysIn reads the keys that were not cached.
func (r *Replica) keysIn(snap *storage.Snapshot, q *ReadRequest, response *ReadResponse, missed []int) error {
	get := snap.GetVersion
	if len(q.Keys) >= manyKeys {
		get = snap.PassVersion
	}
	for _, i := range missed {
		read, err := get(q.Keys[i], q.At)
		if err != nil {
			return r.failed(err)
		}
		response.Rows[i] = rowOf(q.Keys[i], &read)
	}
	return nil
}

// readKey reads a key, first from snap; if an undecided vote is in the way,
// after its resolution from a later snapshot (H10).
func (r *Replica) readKey(ctx context.Context, t *tenure, snap *storage.Snapshot, k storage.Key, at storage.Timestamp) (storage.Read, error) {
	read, err := snap.Get(k, at)
	if err != nil {
		return read, r.failed(err)
	}
	if read.Intent == nil {
		return read, nil
	}
	blocked, err := r.blocked(snap, read.Intent, at)
	if err != nil || !blocked {
		return read, err
	}
	if err := r.awaitResolution(ctx, t, k, read.Intent.Txn); err != nil {
		return read, err
	}
	later, err := r.openOwn(t, at)
	if err != nil {
		return read, err
	}
	defer later.Close()
	return r.readKey(ctx, t, later, k, at)
}

func rowOf(k storage.Key, read *storage.Read) Row {
	if read.Commit == 0 || read.Tombstone {
		return Row{Key: k}
	}
	return Row{Key: k, Value: read.Value, Commit: read.Commit, Found: true}
}

// blocked judges an intent with the vote of the same snapshot (H10). One above
// the read is not visible whatever becomes of it; one without a vote belongs to
// nobody (H9); one whose vote is PREPARED must be resolved first.
func (r *Replica) blocked(snap *storage.Snapshot, in *storage.Intent, at storage.Timestamp) (bool, error) {
	if in == nil || in.Prepare > at {
		return false, nil
	}
	if mutated("H10.newer-register") {
		later := r.c.Space.Snapshot()
		defer later.Close()
		snap = later
	}
	v, ok, err := snap.Vote(in.Txn)
	if err != nil {
		return false, r.failed(err)
	}
	return ok && v.State == storage.VotePrepared, nil
}

// awaitResolution waits until a vote seen PREPARED in a snapshot is resolved. It
// may return at once, if it is by now; the caller reads again either way. A vote
// that nobody resolves is reported as Undecided.
func (r *Replica) awaitResolution(ctx context.Context, t *tenure, k storage.Key, id storage.TxnID) error {
	t.mu.Lock()
	v := t.mu.voted[id]
	resolving := v != nil && v.resolving
	var voting <-chan struct{}
	if p := t.mu.proposals[id]; p != nil {
		voting = p.done
	}
	t.mu.Unlock()
	if r.serving.Load() != t {
		return r.notOwner()
	}
	if v == nil {
		if voting == nil {
			return nil
		}
		return r.await(ctx, voting, undecidedAge, &Error{Code: Undecided, Shard: r.c.Shard, Key: k, Other: id})
	}
	patience := undecidedAge - r.c.Clock().Sub(v.since)
	if resolving {
		patience = resolvePatience
	}
	v.awaited.Store(true) // before it hurries: an outcome comes either before or behind
	r.hurryResolves()
	return r.await(ctx, v.done, patience, &Error{Code: Undecided, Shard: r.c.Shard, Key: slices.Clone(k),
		Other: id, Participants: v.participants})
}

func (r *Replica) await(ctx context.Context, done <-chan struct{}, patience time.Duration, late *Error) error {
	select {
	case <-done:
		return nil
	default:
	}
	if patience <= 0 {
		return late
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	aboutToWait(ctx)
	select {
	case <-done:
		return nil
	case <-timer.C:
		return late
	case <-ctx.Done():
		return ctx.Err()
	case <-r.life.Done():
		return r.notOwner()
	}
}

// scan is one page of a span read.
type scan struct {
	span             Span
	reverse          bool
	limit, byteLimit int
	at               storage.Timestamp
	// noIntents: no intent can matter, or the caller reads again under its locks.
	noIntents bool
	// since, if not 0, stops with a conflict at anything newer (H13).
	since storage.Timestamp
	// tombstones visits deleted keys too, for since and newest.
	tombstones bool

	rows     []Row
	bytes    int
	more     bool
	resume   storage.Key
	newest   storage.Timestamp // largest newest commit of all keys met
	conflict storage.Key
	writer   storage.Timestamp // start of the transaction that wrote the conflict
	arena    []byte
	before   int // rows of the pages with which it shares room
	expected int // pages that will be as long as this one, with it, that share room
}

func (s *scan) boundBytes() {
	if s.byteLimit <= 0 || s.byteLimit > DefaultByteLimit {
		s.byteLimit = DefaultByteLimit
	}
}

// runScan reads the page, from several snapshots if it meets undecided votes:
// what was read before one is final, what follows is read after it is resolved.
func (r *Replica) runScan(ctx context.Context, t *tenure, s *scan) error {
	s.boundBytes()
	for {
		snap, err := r.openOwn(t, s.at)
		if err != nil {
			return err
		}
		r.at(ctx, "scan")
		at, id, err := s.run(r, snap)
		snap.Close()
		if err != nil || at == nil {
			return err
		}
		if err := r.awaitResolution(ctx, t, at, id); err != nil {
			return err
		}
		if s.reverse {
			s.span.Hi = successor(at)
		} else {
			s.span.Lo = at
		}
	}
}

// run reads until the page is full, the span ends, or an undecided vote is met,
// whose key and transaction it returns.
func (s *scan) run(r *Replica, snap *storage.Snapshot) (at storage.Key, id storage.TxnID, err error) {
	it := snap.Scan(storage.ScanOptions{Lower: s.span.Lo, Upper: s.span.Hi, At: s.at,
		Reverse: s.reverse, Tombstones: s.tombstones, NoIntents: s.noIntents, Alone: s.noIntents})
	defer func() {
		if e := it.Close(); err == nil && e != nil {
			err = r.failed(e)
		}
	}()
	for it.Next() {
		read := it.Read()
		if read.Intent != nil {
			blocked, err := r.blocked(snap, read.Intent, s.at)
			if err != nil {
				return nil, id, err
			}
			if blocked {
				return slices.Clone(it.Key()), read.Intent.Txn, nil
			}
		}
		s.newest = max(s.newest, read.Newest)
		if s.since != 0 && read.Newest > s.since {
			s.conflict, s.writer = slices.Clone(it.Key()), read.Start
			return nil, id, nil
		}
		if read.Commit == 0 || read.Tombstone {
			continue
		}
		s.add(it.Key(), &read)
		if s.full() {
			return nil, id, nil
		}
	}
	return nil, id, nil
}

// add copies a row out of the iterator, many rows into one allocation.
func (s *scan) add(k storage.Key, read *storage.Read) {
	n := len(k) + len(read.Value)
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, s.moreBytes(n))
	}
	if len(s.rows) == cap(s.rows) {
		rows := make([]Row, len(s.rows), s.moreRows())
		copy(rows, s.rows)
		s.rows = rows
	}
	a := len(s.arena)
	s.arena = append(s.arena, k...)
	b := len(s.arena)
	s.arena = append(s.arena, read.Value...)
	s.rows = append(s.rows, Row{Key: s.arena[a:b:b], Value: s.arena[b:len(s.arena):len(s.arena)], Commit: read.Commit, Found: true})
	s.bytes += n
}

// moreBytes is how large the next room for rows is, the first of which has n bytes. Room
// that is given up is dear: it is as large as what the runtime hands out at a time.
func (s *scan) moreBytes(n int) int {
	more := max(1024, 4*cap(s.arena), (s.bytes+n)*s.expected)
	if s.limit > 0 {
		more = min(more, max(1024, n*(s.limit-len(s.rows)-s.before)))
	}
	return max(n, min(more, 16<<10))
}

// moreRows is for how many rows room is made in all.
func (s *scan) moreRows() int {
	n := len(s.rows)
	more := 2 * n
	switch {
	case n < 16:
		more = max(4, 4*n)
	case n < 128:
		more = 128
	}
	more = min(2*n+512, max(more, (n+1)*s.expected))
	if s.limit > 0 {
		more = min(more, s.limit)
	}
	return max(n+1, more)
}

// full ends the page if a limit is reached, and says where to go on.
func (s *scan) full() bool {
	if (s.limit <= 0 || len(s.rows) < s.limit) && s.bytes < s.byteLimit {
		return false
	}
	last := s.rows[len(s.rows)-1].Key
	s.more = true
	if s.reverse {
		s.resume = last
	} else {
		s.resume = successor(last)
	}
	return true
}
