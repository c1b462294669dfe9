package sqlfront

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/stats"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// histograms are what ANALYZE TABLE found out about the values of indexed columns, and
// what UPDATE HISTOGRAM was told. They are of one definition of a table: the planner takes
// from them which columns an index has, and which lookups find one row at most, so that
// those of an index which is another by now must not be used. They live in the memory of
// this gateway.
type histograms struct {
	catalog *Catalog
	mu      sync.RWMutex
	tables  map[tableName]map[statKey]tableStatistic
}

type tableName struct{ database, table string }

// statKey is an index, or a prefix of it, of a table.
type statKey struct{ index, columns string }

type tableStatistic struct {
	sql.Statistic
	table   catalog.ID
	version uint64
}

var _ sql.StatsProvider = (*histograms)(nil)

func newHistograms(c *Catalog) *histograms {
	return &histograms{catalog: c, tables: map[tableName]map[statKey]tableStatistic{}}
}

func nameOf(database, table string) tableName {
	return tableName{strings.ToLower(database), strings.ToLower(table)}
}

func keyOf(index string, columns []string) statKey {
	return statKey{strings.ToLower(index), strings.ToLower(strings.Join(columns, ","))}
}

const (
	sampledRows = 4096 // whose values make a histogram
	mostBuckets = 256
	// A histogram whose table has grown or shrunk by this factor is not used.
	outgrown = 4
)

// GetTableStats implements sql.StatsProvider.
func (h *histograms) GetTableStats(_ *sql.Context, _, db string, table sql.Table) ([]sql.Statistic, error) {
	own := ownTable(table)
	if own == nil {
		return nil, nil
	}
	info := own.now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	var found []sql.Statistic
	for _, s := range h.tables[nameOf(db, info.desc.Name)] {
		if h.holds(s, info) {
			found = append(found, s.Statistic)
		}
	}
	return found, nil
}

// holds tells whether a statistic may be used for a table as it is.
func (h *histograms) holds(s tableStatistic, info *tableInfo) bool {
	if (s.table != info.desc.ID || s.version != info.desc.Version) && !mutated("0080.stale-histogram") {
		return false
	}
	now, known := h.catalog.stats.known(info, time.Now())
	return !known || now <= outgrown*(s.RowCount()+countLimit) && s.RowCount() <= outgrown*(now+countLimit)
}

// GetStats implements sql.StatsProvider. The planner asks it for nothing but the size of
// merge joins, and panics there when a bucket ends with NULL; it has a guess of its own.
func (h *histograms) GetStats(*sql.Context, sql.StatQualifier, []string) (sql.Statistic, bool) {
	return nil, false
}

// SetStats implements sql.StatsProvider.
func (h *histograms) SetStats(ctx *sql.Context, s sql.Statistic) error {
	q := s.Qualifier()
	info := sessionOf(ctx).tableInfo(q.Db(), q.Table())
	if info == nil {
		return sql.ErrTableNotFound.New(q.Table())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := nameOf(q.Db(), q.Table())
	if h.tables[name] == nil {
		h.tables[name] = map[statKey]tableStatistic{}
	}
	h.tables[name][keyOf(q.Index(), s.Columns())] = tableStatistic{s, info.desc.ID, info.desc.Version}
	return nil
}

// DropStats implements sql.StatsProvider.
func (h *histograms) DropStats(_ *sql.Context, q sql.StatQualifier, columns []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.tables[nameOf(q.Db(), q.Table())]
	for key := range of {
		if key.columns == keyOf("", columns).columns && (q.Index() == "" || strings.EqualFold(q.Index(), key.index)) {
			delete(of, key)
		}
	}
	return nil
}

// DropDbStats implements sql.StatsProvider.
func (h *histograms) DropDbStats(_ *sql.Context, _, db string, _ bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.tables {
		if name.database == strings.ToLower(db) {
			delete(h.tables, name)
		}
	}
	return nil
}

// RowCount implements sql.StatsProvider.
func (h *histograms) RowCount(ctx *sql.Context, _, _ string, table sql.Table) (uint64, error) {
	if t, ok := sql.GetUnderlyingTable(table).(sql.StatisticsTable); ok {
		n, _, err := t.RowCount(ctx)
		return n, err
	}
	return 0, nil
}

// DataLength implements sql.StatsProvider.
func (h *histograms) DataLength(ctx *sql.Context, _, _ string, table sql.Table) (uint64, error) {
	if t, ok := sql.GetUnderlyingTable(table).(sql.StatisticsTable); ok {
		return t.DataLength(ctx)
	}
	return 0, nil
}

// AnalyzeTable implements sql.StatsProvider. Rows are read in a snapshot of its own and
// without locks: as many shards of the table, in whole, as it takes to know the rest.
func (h *histograms) AnalyzeTable(ctx *sql.Context, table sql.Table, db string) error {
	own := ownTable(table)
	if own == nil {
		return nil
	}
	info := own.now()
	began := time.Now()
	sample := rowSample{ctx: ctx, info: info, random: rand.New(rand.NewPCG(uint64(info.desc.ID), 0))}
	count := rowCount{statistics: &h.catalog.stats, info: info, sample: sample.take}
	if err := count.run(ctx); err != nil {
		return err
	}
	now := time.Now()
	h.catalog.stats.keep(info.primary.id, &rowEstimate{rows: count.estimate(), counted: now, took: now.Sub(began), asked: now})
	fresh, err := sample.statistics(db, uint64(count.estimate()))
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tables[nameOf(db, info.desc.Name)] = fresh
	return nil
}

// rowSample is a sample of a table's rows, every row as likely as any other.
type rowSample struct {
	ctx    *sql.Context
	info   *tableInfo
	random *rand.Rand
	seen   int
	rows   []sql.Row // the columns of indexes; nil for others
}

// take looks at the next row.
func (r *rowSample) take(value []byte) error {
	r.seen++
	place := len(r.rows)
	if place == sampledRows {
		if place = r.random.IntN(r.seen); place >= sampledRows {
			return nil
		}
	} else {
		r.rows = append(r.rows, nil)
	}
	row, err := r.info.decodeRow(r.ctx, value)
	if err == nil {
		row, err = r.info.withVirtual(r.ctx, row)
	}
	if err != nil {
		return err
	}
	r.rows[place] = r.info.indexedOnly(row)
	return nil
}

// indexedOnly drops what no index has from a row: it may be large.
func (t *tableInfo) indexedOnly(row sql.Row) sql.Row {
	kept := make(sql.Row, len(row))
	for _, x := range append([]*indexInfo{t.primary}, t.indexes...) {
		for _, c := range x.columns {
			kept[c] = row[c]
		}
	}
	return kept
}

// statistics are those of every index and of every prefix of its columns.
func (r *rowSample) statistics(db string, rows uint64) (map[statKey]tableStatistic, error) {
	info := r.info
	out := map[statKey]tableStatistic{}
	if len(r.rows) == 0 {
		return out, nil
	}
	all := info.indexes
	if !info.keyless() {
		all = append([]*indexInfo{info.primary}, info.indexes...)
	}
	for _, x := range all {
		if x.state != catalog.IndexPublic && !x.primary {
			continue
		}
		index := &Index{table: info, index: x}
		dependencies, set, err := stats.IndexFds(r.ctx, strings.ToLower(info.desc.Name), info.schema, index)
		if err != nil {
			return nil, err
		}
		for n := 1; n <= len(x.columns); n++ {
			s, err := r.statistic(db, x, n, rows)
			if err != nil {
				return nil, err
			}
			out[keyOf(x.name, s.Columns())] = tableStatistic{s.WithFuncDeps(dependencies).WithColSet(set), info.desc.ID, info.desc.Version}
		}
	}
	return out, nil
}

// statistic is that of the first n columns of an index.
func (r *rowSample) statistic(db string, x *indexInfo, n int, rows uint64) (sql.Statistic, error) {
	var columns []string
	var typs []sql.Type
	for _, c := range x.columns[:n] {
		columns, typs = append(columns, r.info.schema[c].Name), append(typs, r.info.schema[c].Type)
	}
	groups, nulls, err := r.groups(r.ctx, x.columns[:n], typs)
	if err != nil {
		return nil, err
	}
	scale := float64(rows) / float64(len(r.rows))
	distinct := distinctValues(groups, scale)
	if x.unique && n == len(x.columns) {
		distinct = float64(rows) - scale*float64(nulls)
	}
	perGroup := max(1, distinct/float64(len(groups)))
	buckets := buckets(groups, len(r.rows), scale, perGroup)
	return stats.NewStatistic(rows, uint64(distinct), uint64(scale*float64(nulls)), rows*rowWidth(r.info.schema), time.Now(),
		sql.NewStatQualifier(db, "", r.info.desc.Name, x.name), columns, typs, buckets, sql.IndexClassDefault, nil), nil
}

// valueGroup is the rows of a sample that have one value.
type valueGroup struct {
	value sql.Row
	rows  int
	null  bool // some column of it is
}

// groups are the values of some columns, in their order.
func (r *rowSample) groups(ctx context.Context, columns []int, typs []sql.Type) (groups []valueGroup, nulls int, err error) {
	values := make([]sql.Row, len(r.rows))
	for i, row := range r.rows {
		for _, c := range columns {
			values[i] = append(values[i], row[c])
		}
	}
	compare := func(a, b sql.Row) int {
		for i, typ := range typs {
			order, failed := compareValues(ctx, typ, a[i], b[i])
			if failed != nil {
				err = failed
			}
			if order != 0 {
				return order
			}
		}
		return 0
	}
	slices.SortFunc(values, compare)
	for _, v := range values {
		null := slices.Contains(v, nil)
		if null {
			nulls++
		}
		if last := len(groups) - 1; last >= 0 && compare(groups[last].value, v) == 0 {
			groups[last].rows++
			continue
		}
		groups = append(groups, valueGroup{v, 1, null})
	}
	return groups, nulls, err
}

// compareValues puts NULL first.
func compareValues(ctx context.Context, typ sql.Type, a, b any) (int, error) {
	switch {
	case a == nil && b == nil:
		return 0, nil
	case a == nil:
		return -1, nil
	case b == nil:
		return 1, nil
	}
	return typ.Compare(ctx, a, b)
}

// distinctValues estimates how many values a table has whose sample has these: a value
// seen twice was most likely seen by everybody, one seen once stands for the square root
// of the scale (Charikar and others, "Towards Estimation Error Guarantees for Distinct
// Values", 2000).
func distinctValues(groups []valueGroup, scale float64) float64 {
	once := 0
	for _, g := range groups {
		if g.rows == 1 {
			once++
		}
	}
	return math.Sqrt(max(1, scale))*float64(once) + float64(len(groups)-once)
}

// buckets have about the same number of rows each; a value that has as many alone has
// its own.
func buckets(groups []valueGroup, sampled int, scale, perGroup float64) []sql.HistogramBucket {
	full := max(1, (sampled+mostBuckets-1)/mostBuckets)
	scaled := func(n int) uint64 { return uint64(math.Ceil(scale * float64(n))) }
	var out []sql.HistogramBucket
	rows, nulls, begin := 0, 0, 0
	for i, g := range groups {
		rows += g.rows
		if g.null {
			nulls += g.rows
		}
		next := 0
		if i+1 < len(groups) {
			next = groups[i+1].rows
		}
		if i+1 < len(groups) && rows < full && next < full {
			continue
		}
		out = append(out, stats.NewHistogramBucket(scaled(rows), uint64(math.Ceil(perGroup*float64(i+1-begin))), scaled(nulls),
			scaled(g.rows), g.value, nil, nil))
		rows, nulls, begin = 0, 0, i+1
	}
	return out
}
