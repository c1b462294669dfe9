package txn

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// naive is the write buffer as one would first write it: a whole copy of the
// contents per point in time that somebody may come back to.
type naive struct {
	now   map[string]string // "" is a tombstone
	marks []naiveMark
}

type naiveMark struct {
	sequence uint64
	contents map[string]string
}

func fullKey(s shard.ID, k string) string { return fmt.Sprintf("%d/%s", s, k) }

// overlay lists what next yields for a span as of a mark.
func overlay(b *WriteBuffer, s shard.ID, span keySpan, sequence uint64) []string {
	var out []string
	var after storage.Key
	for {
		row, ok := b.next(s, span, after, sequence)
		if !ok {
			return out
		}
		out = append(out, fmt.Sprintf("%s=%s,%t", row.key, row.value, row.tombstone))
		after = row.key
	}
}

func (n *naiveMark) overlay(s shard.ID, span keySpan) []string {
	var keys []string
	for _, full := range slices.Sorted(maps.Keys(n.contents)) {
		var id shard.ID
		var k string
		if _, err := fmt.Sscanf(full, "%d/%s", &id, &k); err != nil {
			panic(err)
		}
		if id == s && span.contains(storage.Key(k)) {
			keys = append(keys, k)
		}
	}
	if span.reverse {
		slices.Reverse(keys)
	}
	var out []string
	for _, k := range keys {
		v := n.contents[fullKey(s, k)]
		out = append(out, fmt.Sprintf("%s=%s,%t", k, v, v == ""))
	}
	return out
}

func TestWriteBufferAgainstNaiveMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b WriteBuffer
		model := naive{now: map[string]string{}}
		key := rapid.SampledFrom([]string{"a", "b", "ba", "c", "d", "e", "f", "g"})
		shards := rapid.SampledFrom([]shard.ID{0, 1, 2})
		put := func(t *rapid.T) {
			s, k := shards.Draw(t, "shard"), key.Draw(t, "key")
			v := rapid.StringMatching(`[a-z]{0,4}`).Draw(t, "value")
			b.Put(s, storage.Key(k), []byte(v), v == "")
			model.now[fullKey(s, k)] = v
		}
		if rapid.Bool().Draw(t, "many") { // so that a tree takes the place of the list
			for i := range fewWrites - 2 {
				k := fmt.Sprintf("b%02d", i)
				b.Put(1, storage.Key(k), []byte("v"), false)
				model.now[fullKey(1, k)] = "v"
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put":   put,
			"again": put, // writes are more frequent than marks
			"mark": func(*rapid.T) {
				model.marks = append(model.marks, naiveMark{b.Mark(), maps.Clone(model.now)})
			},
			"rollback": func(t *rapid.T) {
				if len(model.marks) == 0 {
					t.Skip("no mark")
				}
				i := rapid.IntRange(0, len(model.marks)-1).Draw(t, "mark")
				b.RollbackTo(model.marks[i].sequence)
				model.now = maps.Clone(model.marks[i].contents)
				model.marks = model.marks[:i+1]
			},
			"overlay": func(t *rapid.T) {
				if len(model.marks) == 0 {
					t.Skip("no mark")
				}
				m := rapid.SampledFrom(model.marks).Draw(t, "mark")
				span := keySpan{reverse: rapid.Bool().Draw(t, "reverse")}
				if lo := rapid.SampledFrom([]string{"", "a", "b", "bb", "e"}).Draw(t, "lo"); lo != "" {
					span.lo = storage.Key(lo)
				}
				if hi := rapid.SampledFrom([]string{"", "b", "c", "cc", "h"}).Draw(t, "hi"); hi != "" {
					span.hi = storage.Key(hi)
				}
				s := shards.Draw(t, "shard")
				require.Equal(t, m.overlay(s, span), overlay(&b, s, span, m.sequence))
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model.now), b.Len())
				writes := 0
				for s := shard.ID(0); s < 3; s++ {
					var previous storage.Key
					for _, w := range b.Writes(s) {
						require.True(t, previous == nil || bytes.Compare(previous, w.Key) < 0, "writes out of order")
						previous = w.Key
						v, ok := model.now[fullKey(s, string(w.Key))]
						require.True(t, ok)
						require.Equal(t, v, string(w.Value))
						require.Equal(t, v == "", w.Tombstone)
						writes++
					}
				}
				require.Equal(t, len(model.now), writes)
				for full, v := range model.now {
					var s shard.ID
					var k string
					_, _ = fmt.Sscanf(full, "%d/%s", &s, &k)
					value, tombstone, ok := b.Get(s, storage.Key(k))
					require.True(t, ok)
					require.Equal(t, v, string(value))
					require.Equal(t, v == "", tombstone)
				}
				if len(model.now) == 0 {
					require.Zero(t, b.Bytes(), "an empty buffer has no size")
				}
			},
		})
	})
}

// A row written over and over by one statement costs one version, not a million.
func TestWriteBufferOverwritesInPlace(t *testing.T) {
	var b WriteBuffer
	for range 1000 {
		b.Put(1, storage.Key("k"), make([]byte, 100), false)
	}
	require.Less(t, b.Bytes(), int64(400))
	require.Len(t, b.undo, 1)
	b.Mark()
	b.Put(1, storage.Key("k"), nil, true)
	require.Len(t, b.undo, 2)
}

// The caller may reuse its slices after Put.
func TestWriteBufferCopies(t *testing.T) {
	var b WriteBuffer
	k, v := []byte("key"), []byte("value")
	b.Put(1, k, v, false)
	k[0], v[0] = 'X', 'X'
	got, _, ok := b.Get(1, storage.Key("key"))
	require.True(t, ok)
	require.Equal(t, "value", string(got))
}

// stored is a Router whose shards hold fixed rows, for the cursor's model test.
// It pages as an owner does: at least one row, at most Limit.
type stored struct {
	Router
	shards map[shard.ID]map[string]string
	page   int // most rows per answer
}

func (s *stored) DataShards() []shard.ID { return slices.Sorted(maps.Keys(s.shards)) }

func (s *stored) Timestamp(context.Context) (storage.Timestamp, error) { return 7, nil }

func (s *stored) ReadMany(ctx context.Context, reads []shard.ShardRead) { ReadEach(ctx, s, reads) }

// ReadEach is ReadMany for routers of which a test watches each read.
func ReadEach(ctx context.Context, r Router, reads []shard.ShardRead) {
	(*crew)(nil).inParallel(len(reads), func(i int) {
		q := &reads[i]
		q.Response, q.Err = r.Read(ctx, q.Shard, q.Request)
	})
}

func (s *stored) Read(_ context.Context, id shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error) {
	span := keySpan{r.Span.Lo, r.Span.Hi, r.Reverse}
	var keys []string
	for k := range s.shards[id] {
		if span.contains(storage.Key(k)) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if r.Reverse {
		slices.Reverse(keys)
	}
	limit := s.page
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	resp := &shard.ReadResponse{}
	if len(keys) > limit {
		resp.More = true
		resp.Resume = append(storage.Key(keys[limit-1]), 0)
		if r.Reverse {
			resp.Resume = storage.Key(keys[limit-1])
		}
		keys = keys[:limit]
	}
	for _, k := range keys {
		resp.Rows = append(resp.Rows, shard.Row{Key: storage.Key(k), Value: []byte(s.shards[id][k]), Found: true, Commit: 1})
	}
	return resp, nil
}

func (s *stored) Reduces() bool { return true }

// ReadFiltered looks at a page of rows and leaves out those that begin with b.
func (s *stored) ReadFiltered(ctx context.Context, id shard.ID, q *shard.FilteredRead) (*shard.ReadResponse, error) {
	resp, err := s.Read(ctx, id, &q.Read)
	if err == nil {
		resp.Rows = slices.DeleteFunc(resp.Rows, func(r shard.Row) bool { return r.Key[0] == 'b' })
	}
	return resp, err
}

// A cursor shows the stored rows with the own writes of its opening laid over
// them, in order, whatever is written, rolled forward or paged meanwhile.
func TestCursorAgainstNaiveMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		router := &stored{shards: map[shard.ID]map[string]string{}, page: rapid.IntRange(1, 3).Draw(t, "page")}
		key := rapid.StringMatching(`[a-d]{1,2}`)
		home := func(k string) shard.ID { return shard.ID(1 + int(k[len(k)-1])%3) }
		n := rapid.IntRange(1, 3).Draw(t, "shards")
		for i := 1; i <= n; i++ {
			router.shards[shard.ID(i)] = map[string]string{}
		}
		place := func(k string) shard.ID { return 1 + (home(k)-1)%shard.ID(n) }
		for _, k := range rapid.SliceOfN(key, 0, 20).Draw(t, "stored") {
			router.shards[place(k)][k] = "stored"
		}
		c := &Coordinator{router: router, cfg: Config{MaxBytes: 1 << 20}}
		c.mu.open = map[uint64]*Txn{}
		tx := c.Begin(Options{Isolation: RepeatableRead})
		want := map[string]string{}
		for _, rows := range router.shards {
			maps.Copy(want, rows)
		}
		writes := rapid.SliceOfN(key, 0, 12)
		for i, k := range writes.Draw(t, "before") {
			if i%3 == 0 {
				tx.buffer.Put(place(k), storage.Key(k), nil, true)
				delete(want, k)
			} else {
				tx.buffer.Put(place(k), storage.Key(k), []byte("own"), false)
				want[k] = "own"
			}
		}
		span := keySpan{reverse: rapid.Bool().Draw(t, "reverse")}
		if lo := key.Draw(t, "lo"); rapid.Bool().Draw(t, "bounded below") {
			span.lo = storage.Key(lo)
		}
		if hi := key.Draw(t, "hi"); rapid.Bool().Draw(t, "bounded above") {
			span.hi = storage.Key(hi)
		}
		scan := Scan{Lo: span.lo, Hi: span.hi, Reverse: span.reverse, Limit: rapid.IntRange(0, 4).Draw(t, "limit")}
		if rapid.Bool().Draw(t, "filter") {
			scan.Filter = []byte("no b")
			if !span.reverse { // backward all rows come
				maps.DeleteFunc(want, func(k, v string) bool { return k[0] == 'b' && v == "stored" })
			}
		}
		cursor, err := tx.Scan(context.Background(), scan)
		require.NoError(t, err)
		later := writes.Draw(t, "during")
		var got, expect []string
		for {
			if len(later) > 0 {
				tx.buffer.Put(place(later[0]), storage.Key(later[0]), []byte("too late"), len(later)%2 == 0)
				later = later[1:]
			}
			row, ok, err := cursor.Next(context.Background())
			require.NoError(t, err)
			if !ok {
				break
			}
			got = append(got, fmt.Sprintf("%s=%s", row.Key, row.Value))
		}
		cursor.Close()
		cursor.Close()
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if span.contains(storage.Key(k)) {
				expect = append(expect, k+"="+want[k])
			}
		}
		if span.reverse {
			slices.Reverse(expect)
		}
		require.Equal(t, expect, got)
	})
}
