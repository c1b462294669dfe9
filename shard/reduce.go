package shard

import (
	"cmp"
	"context"
	"slices"

	"github.com/rowlockdb/rowlock/storage"
)

// Reduction makes little of the rows of a span. What, only those know who have made
// its program.
type Reduction interface {
	// Add takes the next row, in the order of keys; the slices change afterwards.
	Add(key, value []byte) error
	// Size is about how large the result has become.
	Size() int
	// Full reports that further rows make no difference.
	Full() bool
	// Result appends the result.
	Result(b []byte) []byte
}

// Counting is a Reduction to which rows may be all alike.
type Counting interface {
	Reduction
	// Counts reports that they are.
	Counts() bool
	// AddRows takes the next n rows at once.
	AddRows(n int)
}

// Reducer reads a program.
type Reducer func(program []byte) (Reduction, error)

// How much one request reduces: it holds a snapshot, and the answer is one message.
const (
	reduceRows  = 64 << 10
	reduceBytes = 1 << 20
	// reduceLook is how many rows go by between two looks whether anybody waits still.
	reduceLook = 1 << 10
)

// ReduceRequest is a snapshot read of a span whose rows are reduced by a program.
type ReduceRequest struct {
	At      storage.Timestamp
	Span    Span
	Program []byte
}

// ReduceResponse is what the rows up to Resume, or all of them, came to.
type ReduceResponse struct {
	Result []byte
	Rows   uint64 // how many there were
	More   bool
	Resume storage.Key
}

// AppendBinary appends the encoding.
func (m *ReduceRequest) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(m.At))
	return appendBytes(appendSpan(b, &m.Span), m.Program)
}

// Decode reads what AppendBinary wrote.
func (m *ReduceRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = ReduceRequest{At: d.time()}
	if span := d.span(); span != nil {
		m.Span = *span
	} else {
		d.bad = true
	}
	m.Program = d.bytes()
	return d.done()
}

// AppendBinary appends the encoding.
func (m *ReduceResponse) AppendBinary(b []byte) []byte {
	b = appendUint(appendBytes(append(b, formatVersion), m.Result), m.Rows)
	return appendOptional(appendBool(b, m.More), m.Resume)
}

// Decode reads what AppendBinary wrote.
func (m *ReduceResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = ReduceResponse{Result: d.bytes(), Rows: d.uint(), More: d.bool(), Resume: d.optional()}
	return d.done()
}

func (m *ReduceResponse) size() int { return 32 + len(m.Result) + len(m.Resume) }

// Reduces reports whether Reduce may be called: all nodes know it.
func (r *Router) Reduces() bool {
	node := r.server.node
	return node != nil && node.c.Reducer != nil && (node.Active(VersionReduce) || mutated("0072.gate"))
}

// Reduce reduces the rows of a span on a shard at a snapshot, or the first part of
// them. Errors: those of Read.
func (r *Router) Reduce(ctx context.Context, s ID, q *ReduceRequest) (*ReduceResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := r.server.reduce(ctx, local, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[ReduceResponse](ctx, r, s, methodReduce, q)
}

func (s *Server) reduce(ctx context.Context, r *Replica, q *ReduceRequest) (*ReduceResponse, error) {
	if s.node == nil || s.node.c.Reducer == nil {
		return nil, &Error{Code: BadRequest, Shard: r.c.Shard, Detail: "nothing is reduced here"}
	}
	reduction, err := s.node.c.Reducer(q.Program)
	if err != nil {
		return nil, &Error{Code: BadRequest, Shard: r.c.Shard, Detail: err.Error()}
	}
	return r.Reduce(ctx, q, reduction)
}

// Reduce is a snapshot read like Read, whose rows go into a reduction of its own.
func (r *Replica) Reduce(ctx context.Context, q *ReduceRequest, reduction Reduction) (*ReduceResponse, error) {
	f := &fold{span: q.Span, at: q.At, reduction: reduction}
	if _, err := r.readInto(ctx, &ReadRequest{At: q.At, Span: &q.Span}, false, f); err != nil {
		return nil, err
	}
	return &ReduceResponse{Result: reduction.Result(nil), Rows: f.rows, More: f.more, Resume: f.resume}, nil
}

// fold is a page of a span whose rows are reduced.
type fold struct {
	span      Span
	at        storage.Timestamp
	reduction Reduction
	most      uint64 // rows that are looked at; 0: reduceRows

	rows   uint64
	more   bool
	resume storage.Key
}

// runFold reduces the page. Where no intent can matter it walks over the versions alone.
// Otherwise it goes on from later snapshots behind undecided votes, as runScan does.
func (r *Replica) runFold(ctx context.Context, t *tenure, f *fold, intents bool) error {
	for {
		snap, err := r.openOwn(t, f.at)
		if err != nil {
			return err
		}
		r.at(ctx, "reduce")
		var key storage.Key
		var id storage.TxnID
		if intents && !mutated("0072.undecided-uncounted") {
			key, id, err = f.scan(ctx, r, snap)
		} else {
			err = f.walk(ctx, r, snap)
		}
		snap.Close()
		if err != nil || key == nil {
			return err
		}
		if err := r.awaitResolution(ctx, t, key, id); err != nil {
			return err
		}
		f.span.Lo = key
	}
}

// walk reduces rows where nothing is undecided.
func (f *fold) walk(ctx context.Context, r *Replica, snap *storage.Snapshot) error {
	w := snap.Walk(f.span.Lo, f.span.Hi, f.at)
	if c, ok := f.reduction.(Counting); ok && c.Counts() {
		return errorAfter(r, f.count(ctx, w, c), w.Close())
	}
	for w.Next() {
		if err := f.add(ctx, r, w.Key(), w.Value()); err != nil {
			return errorAfter(r, err, w.Close())
		}
		if f.more || f.reduction.Full() {
			break
		}
	}
	return errorAfter(r, nil, w.Close())
}

// count is walk for rows that are all alike.
func (f *fold) count(ctx context.Context, w *storage.Walk, c Counting) error {
	for {
		n := w.Pass(int(min(reduceLook, f.page()-f.rows)))
		c.AddRows(n)
		f.rows += uint64(n)
		switch {
		case n < reduceLook && f.rows < f.page():
			return nil // the end, or an error, which Close tells
		case ctx.Err() != nil:
			return ctx.Err()
		case f.rows >= f.page():
			f.more, f.resume = true, successor(w.Key())
			return nil
		}
	}
}

// page is how many rows are looked at.
func (f *fold) page() uint64 { return min(cmp.Or(f.most, reduceRows), reduceRows) }

// errorAfter is the error of reading, or else that of closing.
func errorAfter(r *Replica, err, closing error) error {
	if err == nil && closing != nil {
		err = r.failed(closing)
	}
	return err
}

// scan reduces rows until an undecided vote is met, whose key and transaction it
// returns.
func (f *fold) scan(ctx context.Context, r *Replica, snap *storage.Snapshot) (at storage.Key, id storage.TxnID, err error) {
	it := snap.Scan(storage.ScanOptions{Lower: f.span.Lo, Upper: f.span.Hi, At: f.at})
	defer func() { err = errorAfter(r, err, it.Close()) }()
	for it.Next() {
		read := it.Read()
		if read.Intent != nil {
			blocked, err := r.blocked(snap, read.Intent, f.at)
			if err != nil {
				return nil, id, err
			}
			if blocked {
				return slices.Clone(it.Key()), read.Intent.Txn, nil
			}
		}
		if read.Commit == 0 || read.Tombstone {
			continue
		}
		if err := f.add(ctx, r, it.Key(), read.Value); err != nil || f.more || f.reduction.Full() {
			return nil, id, err
		}
	}
	return nil, id, nil
}

// add reduces one row, and ends the page behind it if that is long enough.
func (f *fold) add(ctx context.Context, r *Replica, k storage.Key, value []byte) error {
	if err := f.reduction.Add(k, value); err != nil {
		return &Error{Code: BadRequest, Shard: r.c.Shard, Key: slices.Clone(k), Detail: err.Error()}
	}
	if f.rows++; f.rows%reduceLook == 0 && ctx.Err() != nil {
		return ctx.Err()
	}
	if f.rows >= f.page() || f.reduction.Size() >= reduceBytes {
		f.more, f.resume = true, successor(k)
	}
	return nil
}
