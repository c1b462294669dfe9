package sqlfront

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/txn"
)

// rangedRun is one execution.
type rangedRun struct {
	*fastRanged
	q *fastQuery
	b *boundRead
	// direct: text that is stored in utf8mb4 is sent as it is.
	direct bool

	most   int         // rows that there may be
	values []codec.Raw // of the rows, one after the other
	rows   int
	states []foldState // of folds, which keep no values
	bytes  int         // of the rows that were read whose text may be kept
	own    bool        // text is copied
	texts  []byte      // room for that
	order  []int32     // places of the rows in the result; nil: as they come
	room   []byte      // for numbers as text
	found  int64
	sent   bool
}

// ranged executes a SELECT of a short range.
func (f *fastPath) ranged(q *fastQuery, b *boundRead, scan txn.Scan) func(*sql.Context) error {
	return func(ctx *sql.Context) error {
		f.ranges.Add(1)
		r := &rangedRun{fastRanged: b.ranged, q: q, b: b, most: scan.Limit, states: make([]foldState, len(b.ranged.folds))}
		set := ctx.GetCharacterSetResults()
		r.direct = set == sql.CharacterSet_utf8mb4 || set == sql.CharacterSet_Unspecified || set == sql.CharacterSet_binary || mutated("0090.character-set")
		result, err := r.read(ctx, scan)
		settled := q.settleAlone(ctx)
		if err == nil {
			err = settled
		}
		info := q.session.GetLastQueryInfo()
		if !mutated("0090.row-count") {
			info.RowCount.Store(-1)
		}
		info.FoundRows.Store(r.found)
		if err != nil {
			return err
		}
		q.showState()
		if r.sent && len(result.Rows) == 0 {
			return nil
		}
		return q.send(result)
	}
}

// read reads the range and does with it what the statement says. What it returns is still
// to be sent.
func (r *rangedRun) read(ctx *sql.Context, scan txn.Scan) (*sqltypes.Result, error) {
	s := r.q.session
	tx, err := s.txn(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.visible(ctx, tx, readMode{}, r.b.info, r.b.info.primary); err != nil {
		return nil, err
	}
	cursor, err := tx.Scan(ctx, scan)
	if err != nil {
		return nil, s.failed(err)
	}
	defer cursor.Close()
	result := &sqltypes.Result{Fields: r.b.fields}
	for {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return nil, s.failed(err)
		}
		if !ok {
			break
		}
		if err := r.add(row.Value); err != nil {
			return nil, s.failed(fmt.Errorf("row of %s: %w", r.b.info.desc.Name, err))
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.rows == rowsAtOnce && len(r.steps)+len(r.folds) == 0 {
			if result, err = r.sendSome(ctx, result); err != nil {
				return nil, err
			}
		}
	}
	if len(r.folds) > 0 {
		err = r.fold(ctx, result)
	} else {
		if err = r.sort(ctx); err == nil {
			err = r.encode(ctx, result)
		}
	}
	if err == nil && ctx.Err() != nil && r.rows > 0 {
		err = context.Cause(ctx)
	}
	return result, err
}

// add takes the next row.
func (r *rangedRun) add(stored []byte) error {
	n, width, room := len(r.values), len(r.columns), min(r.most, rowsAtOnce)
	if len(r.folds) > 0 {
		n, room = 0, 1
	}
	if cap(r.values)-n < width {
		r.values = slices.Grow(r.values, max(n, room*width))
	}
	r.values = r.values[:n+width]
	r.rows++
	row := r.values[n:]
	if err := r.fastRanged.rows.Read(stored, row); err != nil {
		return err
	}
	if len(r.folds) > 0 {
		r.foldRow(row)
		return nil
	}
	r.keep(len(stored), row)
	return nil
}

// mostPinned is how many bytes of rows text may be part of. It holds on to all that was read
// with it, also of columns that nobody wants.
const mostPinned = 256 << 10

// keep makes the last row's text our own, if what was read so far is too much to hold on
// to; first that of the others.
func (r *rangedRun) keep(size int, row []codec.Raw) {
	if r.bytes += size; r.bytes <= mostPinned || mutated("0090.pinned") {
		return
	}
	if !r.own {
		r.own, row = true, r.values
	}
	for i := range row {
		if n := len(row[i].Text); n > 0 {
			if cap(r.texts)-len(r.texts) < n {
				r.texts = make([]byte, 0, max(n, 16<<10))
			}
			at := len(r.texts)
			r.texts = append(r.texts, row[i].Text...)
			row[i].Text = r.texts[at:len(r.texts):len(r.texts)]
		}
	}
}

// row is what was read of a row.
func (r *rangedRun) row(i int32) []codec.Raw {
	width := len(r.columns)
	return r.values[int(i)*width:][:width]
}

// sendSome sends the rows that were read so far.
func (r *rangedRun) sendSome(ctx *sql.Context, result *sqltypes.Result) (*sqltypes.Result, error) {
	if err := r.encode(ctx, result); err != nil {
		return nil, err
	}
	r.sent, r.rows, r.values, r.bytes, r.own, r.texts = true, 0, nil, 0, false, nil
	return &sqltypes.Result{Fields: r.b.fields}, r.q.send(result)
}

// encode adds the rows to the result, in their order.
func (r *rangedRun) encode(ctx *sql.Context, result *sqltypes.Result) error {
	n, width := r.rows, len(r.out)
	if r.order != nil {
		n = len(r.order)
	}
	if n == 0 {
		return nil
	}
	all := make([]sqltypes.Value, n*width)
	result.Rows = make([][]sqltypes.Value, n)
	for i := range n {
		at := int32(i)
		if r.order != nil {
			at = r.order[i]
		}
		r.found++ // also of the one at which it fails
		row, to := r.row(at), all[i*width:(i+1)*width:(i+1)*width]
		for j, c := range r.out {
			if err := r.value(ctx, r.b.result[j], &r.columns[c], &row[c], &to[j]); err != nil {
				return err
			}
		}
		result.Rows[i] = to
	}
	result.RowsAffected = uint64(n)
	return nil
}

// value is a value as the client gets it.
func (r *rangedRun) value(ctx *sql.Context, t sql.Type, c *rangedColumn, v *codec.Raw, to *sqltypes.Value) (err error) {
	switch {
	case v.Null: // the zero Value is NULL
	case c.form == codec.RawText && c.unicode && r.direct:
		*to = sqltypes.MakeTrusted(c.wire, v.Text)
	case c.form == codec.RawSigned:
		*to = sqltypes.MakeTrusted(c.wire, r.number(func(b []byte) []byte { return strconv.AppendInt(b, int64(v.Whole), 10) }))
	case c.form == codec.RawUnsigned:
		*to = sqltypes.MakeTrusted(c.wire, r.number(func(b []byte) []byte { return strconv.AppendUint(b, v.Whole, 10) }))
	default:
		var plain any
		if plain, err = v.Value(c.typ); err == nil {
			*to, err = t.SQL(ctx, nil, plain)
		}
	}
	return err
}

// number makes text of at most twenty bytes.
func (r *rangedRun) number(write func([]byte) []byte) []byte {
	if cap(r.room)-len(r.room) < 20 {
		r.room = make([]byte, 0, 20*min(max(r.rows, 1), rowsAtOnce))
	}
	n := len(r.room)
	r.room = write(r.room)
	return r.room[n:len(r.room):len(r.room)]
}

// foldState is what an aggregate has come to. Sums are the engine's: floating point, in the
// order of the rows.
type foldState struct {
	count   int64
	sum     float64
	extreme uint64
}

func (r *rangedRun) signed(f *rangedFold) bool {
	return r.columns[f.column].form == codec.RawSigned || mutated("0090.unsigned")
}

// foldRow takes a row into the aggregates.
func (r *rangedRun) foldRow(row []codec.Raw) {
	for i := range r.folds {
		f, s := &r.folds[i], &r.states[i]
		if f.column < 0 {
			s.count++
			continue
		}
		v := &row[f.column]
		if v.Null && !mutated("0090.null-folded") {
			continue
		}
		s.count++
		signed := r.signed(f)
		switch f.of {
		case foldSum, foldAvg:
			if signed {
				s.sum += float64(int64(v.Whole))
			} else {
				s.sum += float64(v.Whole)
			}
		case foldMin, foldMax:
			less := v.Whole < s.extreme
			if signed {
				less = int64(v.Whole) < int64(s.extreme)
			}
			if s.count == 1 || less == (f.of == foldMin) {
				s.extreme = v.Whole
			}
		}
	}
}

// fold is the only row of aggregates.
func (r *rangedRun) fold(ctx *sql.Context, result *sqltypes.Result) error {
	row := make([]sqltypes.Value, len(r.folds))
	for i := range r.folds {
		v := r.folded(&r.folds[i], &r.states[i])
		if v == nil {
			continue
		}
		var err error
		if row[i], err = r.b.result[i].SQL(ctx, nil, v); err != nil {
			return err
		}
	}
	result.Rows, result.RowsAffected = [][]sqltypes.Value{row}, 1
	r.found = 1
	return nil
}

// folded is an aggregate's value.
func (r *rangedRun) folded(f *rangedFold, s *foldState) any {
	switch {
	case f.of == foldCount:
		return s.count
	case s.count == 0:
		return nil
	case f.of == foldSum:
		return s.sum
	case f.of == foldAvg:
		return s.sum / float64(s.count)
	case r.signed(f):
		return int64(s.extreme)
	}
	return s.extreme
}

// sort takes the steps.
func (r *rangedRun) sort(ctx *sql.Context) error {
	for i := 0; i < len(r.steps); i++ {
		if r.order == nil {
			r.order = make([]int32, r.rows)
			for j := range r.order {
				r.order[j] = int32(j)
			}
		}
		step := &r.steps[i]
		if d := step.distinct; d != nil {
			// Sorted by the column itself, equal ones are neighbours.
			if i+1 < len(r.steps) && r.sortsBy(r.steps[i+1].order, d) && (r.isASCII(d.column) || mutated("0090.neighbours")) {
				i++
				if err := r.orderBy(ctx, r.steps[i].order); err != nil {
					return err
				}
				r.dropNeighbours(&r.steps[i].order[0])
				continue
			}
			if err := r.dropEqual(ctx, d); err != nil {
				return err
			}
			continue
		}
		if err := r.orderBy(ctx, step.order); err != nil {
			return err
		}
	}
	return nil
}

func (r *rangedRun) sortsBy(order []rangedOrder, d *rangedDistinct) bool {
	return len(order) == 1 && order[0].column == d.column && order[0].weights == d.rows.weights[0]
}

// isASCII tells whether all of a column is ASCII or NULL.
func (r *rangedRun) isASCII(column int) bool {
	for _, at := range r.order {
		if !isASCII(r.row(at)[column].Text) {
			return false
		}
	}
	return true
}

// dropNeighbours leaves the first of equal rows.
func (r *rangedRun) dropNeighbours(o *rangedOrder) {
	r.order = slices.CompactFunc(r.order, func(a, b int32) bool {
		x, y := &r.row(a)[o.column], &r.row(b)[o.column]
		if x.Null || y.Null {
			return x.Null && y.Null
		}
		order, _ := compareWeights(o.weights, x.Text, y.Text)
		return order == 0
	})
}

// dropEqual leaves the first of equal rows as the engine does, by their hashes.
func (r *rangedRun) dropEqual(ctx *sql.Context, d *rangedDistinct) (err error) {
	set := newRowSet(d.rows)
	row := make(sql.Row, 1)
	kept := r.order[:0]
	for _, at := range r.order {
		if row[0], err = r.row(at)[d.column].Value(r.columns[d.column].typ); err != nil {
			return err
		}
		fresh, err := set.add(ctx, row)
		if err != nil {
			return err
		}
		if fresh {
			kept = append(kept, at)
		}
	}
	r.order = kept
	return nil
}

// rangedPlace is a row to be sorted: by key, where it says something.
type rangedPlace struct {
	key   uint64
	at    int32
	place int32
}

// orderBy sorts as rowOrder does.
func (r *rangedRun) orderBy(ctx *sql.Context, order []rangedOrder) (err error) {
	all := make([]rangedPlace, len(r.order))
	for i, at := range r.order {
		all[i] = rangedPlace{at: at, place: int32(i)}
	}
	r.keys(&order[0], all)
	slices.SortFunc(all, func(a, b rangedPlace) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		if err != nil {
			return 0
		}
		var n int
		if n, err = r.compare(ctx, order, r.row(a.at), r.row(b.at)); n != 0 {
			return n
		}
		if mutated("0090.unstable") {
			return cmp.Compare(b.place, a.place)
		}
		return cmp.Compare(a.place, b.place)
	})
	for i := range all {
		r.order[i] = all[i].at
	}
	return err
}

// keys gives rows numbers in the order of the first column, the same to all if there is a
// value of which it is not known.
func (r *rangedRun) keys(o *rangedOrder, all []rangedPlace) {
	form := r.columns[o.column].form
	for i := range all {
		v := &r.row(all[i].at)[o.column]
		key, ok := v.Whole, !v.Null || mutated("0090.null-sorted")
		switch {
		case form == codec.RawSigned:
			key ^= 1 << 63
		case form == codec.RawText && o.ranks != nil:
			var plain bool
			key, plain = o.ranks.prefix(v.Text)
			ok = ok && (plain || mutated("0090.other-characters"))
		case form != codec.RawUnsigned:
			ok = false
		}
		if !ok {
			for j := range all[:i+1] {
				all[j].key = 0
			}
			return
		}
		if o.Order == sql.Descending {
			key = ^key
		}
		all[i].key = key
	}
}

// compare is rowOrder.compare.
func (r *rangedRun) compare(ctx *sql.Context, order []rangedOrder, a, b []codec.Raw) (int, error) {
	for i := range order {
		o := &order[i]
		x, y := &a[o.column], &b[o.column]
		if n, ok := o.quick(r.columns[o.column].form, x, y); ok {
			if n != 0 {
				return n, nil
			}
			continue
		}
		typ := r.columns[o.column].typ
		v, err := x.Value(typ)
		if err != nil {
			return 0, err
		}
		w, err := y.Value(typ)
		if err != nil {
			return 0, err
		}
		if n, err := o.orderColumn.compare(ctx, v, w); n != 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

// quick compares whole numbers and text of ASCII characters; ok is false for others.
func (o *rangedOrder) quick(form codec.RawForm, x, y *codec.Raw) (n int, ok bool) {
	if x.Null || y.Null {
		return 0, false
	}
	if o.Order == sql.Descending {
		x, y = y, x
	}
	switch {
	case form == codec.RawSigned:
		return cmp.Compare(int64(x.Whole), int64(y.Whole)), true
	case form == codec.RawUnsigned:
		return cmp.Compare(x.Whole, y.Whole), true
	case form == codec.RawText && o.weights != nil:
		return compareWeights(o.weights, x.Text, y.Text)
	}
	return 0, false
}
