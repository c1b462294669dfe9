package ring

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestBalance holds the ring to the figures of the design: with 16 shards of 256 virtual nodes no
// shard owns more than about 1.2 times the mean.
func TestBalance(t *testing.T) {
	for _, test := range []struct {
		shards, vnodes int
		worst          float64 // max/mean
	}{
		{8, 128, 1.30}, {8, 256, 1.20}, {16, 128, 1.30}, {16, 256, 1.20}, {16, 1024, 1.10}, {32, 256, 1.25},
	} {
		r := New(test.shards, test.vnodes)
		sum, largest := 0.0, 0.0
		for _, s := range r.Shards() {
			sum += r.Share(s)
			largest = max(largest, r.Share(s))
		}
		require.InDelta(t, 1, sum, 1e-9)
		ratio := largest * float64(test.shards)
		t.Logf("%d shards of %d virtual nodes: max/mean %.3f", test.shards, test.vnodes, ratio)
		require.LessOrEqual(t, ratio, test.worst)
	}
}

// TestShareIsWhatKeysSee compares computed shares with where random keys go.
func TestShareIsWhatKeysSee(t *testing.T) {
	r := New(DefaultShards, DefaultVirtualNodes)
	random := rand.New(rand.NewPCG(1, 2))
	const keys = 200_000
	count := map[ShardID]int{}
	var key [8]byte
	for range keys {
		for i := range key {
			key[i] = byte(random.UintN(256))
		}
		count[r.Shard(TokenOf(key[:]))]++
	}
	for _, s := range r.Shards() {
		require.InDelta(t, r.Share(s), float64(count[s])/keys, 0.003, "shard %d", s)
	}
}

// drawRing draws a ring that has lived: shards came and went.
func drawRing(t *rapid.T) *Ring {
	r := New(rapid.IntRange(1, 20).Draw(t, "shards"), rapid.IntRange(1, 64).Draw(t, "vnodes"))
	next := ShardID(len(r.Shards()) + 1)
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		if shards := r.Shards(); rapid.Bool().Draw(t, "grow") || len(shards) == 1 {
			r, next = r.With(next), next+1
		} else {
			r = r.Without(rapid.SampledFrom(shards).Draw(t, "gone"))
		}
	}
	return r
}

// TestShardIsTheNextPoint holds the search against the definition.
func TestShardIsTheNextPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t)
		points := r.Points()
		token := Token(rapid.Uint64().Draw(t, "token"))
		if rapid.Bool().Draw(t, "near a point") {
			p := rapid.SampledFrom(points).Draw(t, "point")
			token = p.Token + Token(rapid.IntRange(-1, 1).Draw(t, "offset"))
		}
		want := points[0].Shard
		for _, p := range points {
			if p.Token >= token {
				want = p.Shard
				break
			}
		}
		require.Equal(t, want, r.Shard(token))
	})
}

// TestMinimalMovement: what moves, moves to the new shard or away from the old one, and no more
// than its share of the tokens does.
func TestMinimalMovement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := drawRing(t)
		added := slices.Max(old.Shards()) + 1
		grown := old.With(added)
		require.Equal(t, old.Epoch()+1, grown.Epoch())
		moved := 0.0
		for _, i := range Diff(old, grown) {
			require.Equal(t, added, i.NewShard)
			moved += i.Share()
		}
		require.InDelta(t, grown.Share(added), moved, 1e-9)

		back := grown.Without(added)
		require.Equal(t, old.Points(), back.Points())
		for _, i := range Diff(grown, back) {
			require.Equal(t, added, i.OldShard)
		}
	})
}

// TestMovedShare holds the share moved by one more shard to about 1/(N+1).
func TestMovedShare(t *testing.T) {
	for _, shards := range []int{8, 16, 32} {
		old := New(shards, DefaultVirtualNodes)
		moved := old.With(ShardID(shards + 1)).Share(ShardID(shards + 1))
		ideal := 1 / float64(shards+1)
		t.Logf("%d+1 shards: %.4f moved, ideal %.4f", shards, moved, ideal)
		require.InEpsilon(t, ideal, moved, 0.2)
	}
}

// TestDiff: a token is in exactly one interval if it changes its shard, else in none.
func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRing(t), drawRing(t)
		diff := Diff(a, b)
		for range 50 {
			token := Token(rapid.Uint64().Draw(t, "token"))
			var in []Interval
			for _, i := range diff {
				if i.Contains(token) {
					in = append(in, i)
				}
			}
			if a.Shard(token) == b.Shard(token) {
				require.Empty(t, in)
				continue
			}
			require.Len(t, in, 1)
			require.Equal(t, a.Shard(token), in[0].OldShard)
			require.Equal(t, b.Shard(token), in[0].NewShard)
		}
		for i := range diff {
			require.False(t, len(diff) > 1 && diff[i].joins(diff[(i+1)%len(diff)]), "intervals could be longer")
		}
		require.Empty(t, Diff(a, a))
	})
}

func TestIntervalContains(t *testing.T) {
	top := Token(math.MaxUint64)
	for _, test := range []struct {
		from, to, token Token
		want            bool
	}{
		{10, 20, 10, false}, {10, 20, 11, true}, {10, 20, 20, true}, {10, 20, 21, false},
		{top - 1, 5, top, true}, {top - 1, 5, 0, true}, {top - 1, 5, 5, true}, {top - 1, 5, 6, false}, {top - 1, 5, top - 1, false},
		{7, 7, 7, true}, {7, 7, 8, true}, {7, 7, 0, true},
	} {
		require.Equal(t, test.want, Interval{From: test.from, To: test.to}.Contains(test.token), "%+v", test)
	}
}

func TestOneShardOwnsEverything(t *testing.T) {
	for _, vnodes := range []int{1, 2, 256} {
		r := New(1, vnodes)
		require.Equal(t, 1.0, r.Share(1))
		require.Equal(t, 0.0, r.Share(2))
		diff := Diff(r, r.With(2).Without(1))
		require.Len(t, diff, 1, "vnodes %d", vnodes)
		require.Equal(t, diff[0].From, diff[0].To)
		require.Equal(t, 1.0, diff[0].Share())
	}
}

func TestBugsPanic(t *testing.T) {
	r := New(2, 4)
	for name, f := range map[string]func(){
		"no shards": func() { New(0, 1) }, "no points": func() { New(1, 0) }, "too many points": func() { New(MaxPoints, 2) },
		"the system shard": func() { r.With(0) }, "a shard twice": func() { r.With(2) }, "a shard too large": func() { r.With(MaxShard + 1) },
		"an unknown shard": func() { r.Without(3) }, "the last shard": func() { r.Without(1).Without(2) },
	} {
		require.Panics(t, f, name)
	}
}

func BenchmarkShard(b *testing.B) {
	r := New(DefaultShards, DefaultVirtualNodes)
	random := rand.New(rand.NewPCG(1, 2))
	tokens := make([]Token, 1<<16)
	for i := range tokens {
		tokens[i] = Token(random.Uint64())
	}
	i := 0
	for b.Loop() {
		r.Shard(tokens[i&(1<<16-1)])
		i++
	}
}

func BenchmarkTokenOf(b *testing.B) {
	key := []byte("a placement key of usual length")
	for b.Loop() {
		TokenOf(key)
	}
}
