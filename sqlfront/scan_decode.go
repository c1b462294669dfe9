package sqlfront

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// projection is what is decoded of a row or an entry.
type projection struct {
	columns []int // schema positions
	whole   bool  // columns are the first ones of the schema, in its order
	result  bool  // columns are what the scan returns, in its order
	codec   *codec.RowCodec
	plan    *codec.Projection
}

// decode returns a row as wide as the schema, nil where nothing was decoded.
func (p *projection) decode(ctx *sql.Context, width int, data []byte) (sql.Row, error) {
	values := make(sql.Row, len(p.columns))
	if err := p.codec.Project(ctx, p.plan, data, values); err != nil {
		return nil, err
	}
	if p.whole && len(values) == width {
		return values, nil
	}
	full := make(sql.Row, width)
	for i, c := range p.columns {
		full[c] = values[i]
	}
	return full, nil
}

// prepare decides what is decoded, and from where.
func (s *rowScan) prepare() error {
	need := slices.Clone(s.out)
	if s.out == nil {
		need = s.info.stored
	}
	s.eager = s.mode.change && len(s.spans) > 1
	// Keys that are too coarse are checked at the entry if it has the values.
	s.checkEntry = s.check != nil && !s.index.primary && s.index.covers(s.checked)
	if s.check != nil && !s.checkEntry {
		need = union(need, s.checked)
	}
	// A locking read takes the row itself even if the entry has all columns:
	// two lockers by two paths must meet (rule S1).
	s.cover = !s.index.primary && s.mode.lock == txn.LockNone && s.index.covers(need) && !s.tx.WritesAhead()
	if s.cover || s.checkEntry {
		if s.checkEntry {
			need = union(need, s.checked)
		}
		if err := s.prepareEntry(need); err != nil {
			return err
		}
	}
	return s.prepareRow(need)
}

// prepareRow leaves out virtual columns, which the engine computes.
func (s *rowScan) prepareRow(need []int) error {
	var positions []int
	for _, c := range need {
		if p, ok := s.info.position[c]; ok {
			s.rows.columns = append(s.rows.columns, c)
			positions = append(positions, p)
		}
	}
	var err error
	s.rows.whole = inOrder(s.rows.columns)
	s.rows.result = s.out != nil && slices.Equal(s.rows.columns, s.out)
	s.rows.codec = s.info.rows
	s.rows.plan, err = s.info.rows.NewProjection(positions)
	return err
}

func (s *rowScan) prepareEntry(need []int) error {
	var positions []int
	for p, c := range s.index.cover {
		if slices.Contains(need, c) {
			s.entries.columns = append(s.entries.columns, c)
			positions = append(positions, p)
		}
	}
	var err error
	s.entries.whole = inOrder(s.entries.columns)
	s.entries.result = s.out != nil && slices.Equal(s.entries.columns, s.out)
	s.entries.codec = s.index.entry
	s.entries.plan, err = s.index.entry.NewProjection(positions)
	return err
}

// inOrder tells whether columns are 0, 1, 2 and so on.
func inOrder(columns []int) bool {
	for i, c := range columns {
		if c != i {
			return false
		}
	}
	return true
}

// union is a with the elements of b that it lacks.
func union(a, b []int) []int {
	out := slices.Clone(a)
	for _, c := range b {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// fetch reads the rows that entries point to, one request per shard.
func (s *rowScan) fetch(ctx *sql.Context, entries []txn.Row) error {
	keys, from, err := s.behind(ctx, entries)
	if err != nil || len(keys) == 0 {
		return err
	}
	rows, err := s.tx.GetMany(ctx, keys, s.mode.options())
	if err != nil {
		return err
	}
	return s.emitFetched(ctx, rows, from)
}

// behind are the keys of the rows that entries point to, and of the entries; those
// that fail the check are left out.
func (s *rowScan) behind(ctx *sql.Context, entries []txn.Row) (keys []txn.Key, from []storage.Key, err error) {
	for _, e := range entries {
		if !e.Found {
			continue
		}
		at, covered, err := decodeEntry(s.info.desc.Rows, e.Value)
		if err != nil {
			return nil, nil, err
		}
		if s.checkEntry {
			if ok, err := s.passes(ctx, &s.entries, covered); err != nil || !ok {
				if err != nil {
					return nil, nil, err
				}
				continue
			}
		}
		keys = append(keys, at.txn())
		from = append(from, e.Key)
	}
	return keys, from, nil
}

// emitFetched emits rows that were found by way of the entries from.
func (s *rowScan) emitFetched(ctx *sql.Context, rows []txn.Row, from []storage.Key) (err error) {
	if s.tx.WritesAhead() {
		if rows, err = s.current(ctx, rows, from); err != nil {
			return err
		}
	}
	return s.emitRows(ctx, rows)
}

// current leaves out rows that this transaction wrote and that have another
// entry now than the one of the snapshot through which they were found.
func (s *rowScan) current(ctx *sql.Context, rows []txn.Row, from []storage.Key) ([]txn.Row, error) {
	var kept []txn.Row
	for i, r := range rows {
		if !r.Found {
			continue
		}
		row, err := s.info.decodeRow(ctx, r.Value)
		if err != nil {
			return nil, err
		}
		if row, err = s.info.withVirtual(ctx, row); err != nil {
			return nil, err
		}
		at, _, err := s.index.entryLocation(ctx, row, location{key: r.Key})
		if err != nil {
			return nil, err
		}
		if bytes.Equal(at.key, from[i]) {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// passes tells whether the decoded columns satisfy the ranges.
func (s *rowScan) passes(ctx *sql.Context, p *projection, data []byte) (bool, error) {
	full, err := p.decode(ctx, len(s.info.schema), data)
	if err != nil {
		return false, err
	}
	return s.satisfies(ctx, full)
}

func (s *rowScan) satisfies(ctx *sql.Context, full sql.Row) (bool, error) {
	values := make([]any, len(s.checked))
	for i, c := range s.checked {
		values[i] = full[c]
	}
	return s.check.Contains(ctx, values)
}

func (s *rowScan) emitRows(ctx *sql.Context, rows []txn.Row) error {
	for _, r := range rows {
		if !r.Found {
			continue
		}
		if err := s.emit(ctx, &s.rows, r.Value, s.check != nil && !s.checkEntry); err != nil {
			return err
		}
	}
	return nil
}

func (s *rowScan) emitEntries(ctx *sql.Context, entries []txn.Row) error {
	for _, e := range entries {
		if !e.Found {
			continue
		}
		_, covered, err := decodeEntry(s.info.desc.Rows, e.Value)
		if err != nil {
			return err
		}
		if err := s.emit(ctx, &s.entries, covered, s.check != nil); err != nil {
			return err
		}
	}
	return nil
}

// emit decodes one row, checks it and adds it to the page.
func (s *rowScan) emit(ctx *sql.Context, p *projection, data []byte, check bool) error {
	if p.result && !check {
		row := make(sql.Row, len(s.out))
		if err := p.codec.Project(ctx, p.plan, data, row); err != nil {
			return fmt.Errorf("row of %s: %w", s.info.desc.Name, err)
		}
		s.page = append(s.page, row)
		return nil
	}
	full, err := p.decode(ctx, len(s.info.schema), data)
	if err != nil {
		return fmt.Errorf("row of %s: %w", s.info.desc.Name, err)
	}
	if check {
		if ok, err := s.satisfies(ctx, full); err != nil || !ok {
			return err
		}
	}
	s.page = append(s.page, s.project(full))
	return nil
}

func (s *rowScan) project(full sql.Row) sql.Row {
	if s.out == nil {
		for i, c := range s.info.schema {
			if c.Virtual {
				full[i] = nil
			}
		}
		return full
	}
	row := make(sql.Row, len(s.out))
	for i, c := range s.out {
		row[i] = full[c]
	}
	return row
}
