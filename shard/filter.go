package shard

import (
	"context"

	"github.com/rowlockdb/rowlock/storage"
)

// RowFilter chooses rows, and what of them is wanted.
type RowFilter interface {
	// Row returns what is wanted of a row; false if it is not wanted at all. What it
	// returns is valid until the next call.
	Row(value []byte) (kept []byte, wanted bool, err error)
}

// FilteredRead is a ReadRequest for a span, forward, that brings only rows that a
// filter wants. A page ends also when Visit rows were looked at. Rows come without their
// commit timestamps.
type FilteredRead struct {
	Read    ReadRequest
	Visit   int
	Program []byte
}

// AppendBinary appends the encoding.
func (m *FilteredRead) AppendBinary(b []byte) []byte {
	b = m.Read.appendFields(append(b, formatVersion))
	return appendBytes(appendUint(b, uint64(m.Visit)), m.Program)
}

// Decode reads what AppendBinary wrote.
func (m *FilteredRead) Decode(b []byte) error {
	d := newDecoder(b)
	m.Read.decodeFields(&d)
	m.Visit, m.Program = d.small(), d.bytes()
	return d.done()
}

// ReadFiltered reads the rows of a span that a filter wants. It may be called where
// Reduce may be. Errors: those of Read.
func (r *Router) ReadFiltered(ctx context.Context, s ID, q *FilteredRead) (*ReadResponse, error) {
	if local := r.local(s); local != nil && !r.encode {
		if response, err := r.server.readFiltered(ctx, local, q); CodeOf(err) != NotOwner {
			return response, err
		}
	}
	return callFor[ReadResponse](ctx, r, s, methodReadFiltered, q)
}

func (s *Server) readFiltered(ctx context.Context, r *Replica, q *FilteredRead) (*ReadResponse, error) {
	if s.node == nil || s.node.c.Filters == nil || q.Read.Span == nil || q.Read.Reverse {
		return nil, &Error{Code: BadRequest, Shard: r.c.Shard, Detail: "nothing is filtered so here"}
	}
	filter, err := s.node.c.Filters(q.Program)
	if err != nil {
		return nil, &Error{Code: BadRequest, Shard: r.c.Shard, Detail: err.Error()}
	}
	return r.ReadFiltered(ctx, q, filter)
}

// ReadFiltered is a snapshot read like Read: its rows go through a filter of its own.
func (r *Replica) ReadFiltered(ctx context.Context, q *FilteredRead, filter RowFilter) (*ReadResponse, error) {
	wanted := &wantedRows{filter: filter}
	wanted.rows.limit, wanted.rows.byteLimit = q.Read.Limit, min(q.Read.ByteLimit, reduceBytes)
	f := &fold{span: *q.Read.Span, at: q.Read.At, reduction: wanted}
	if q.Visit > 0 {
		f.most = uint64(q.Visit)
	}
	if _, err := r.readInto(ctx, &q.Read, false, f); err != nil {
		return nil, err
	}
	return &ReadResponse{Rows: wanted.rows.rows, More: f.more, Resume: f.resume}, nil
}

// wantedRows is the reduction that keeps the rows that a filter wants.
type wantedRows struct {
	filter RowFilter
	rows   scan // as a page of a span read
}

func (w *wantedRows) Add(key, value []byte) error {
	kept, wanted, err := w.filter.Row(value)
	if err != nil || !wanted {
		return err
	}
	w.rows.add(key, &storage.Read{Value: kept})
	return nil
}

// Size ends the page where a limit is reached.
func (w *wantedRows) Size() int {
	if w.rows.limit > 0 && len(w.rows.rows) >= w.rows.limit || w.rows.byteLimit > 0 && w.rows.bytes >= w.rows.byteLimit {
		return reduceBytes
	}
	return w.rows.bytes
}

func (w *wantedRows) Full() bool             { return false }
func (w *wantedRows) Result(b []byte) []byte { return b }
