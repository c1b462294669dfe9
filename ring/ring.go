package ring

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"
)

// Defaults of a new cluster. The number of shards is fixed when the cluster is created.
const (
	// DefaultShards is the number of data shards of a new cluster.
	DefaultShards = 16
	// DefaultVirtualNodes is the number of points each shard has on the ring. With 16 shards of
	// 256 points the largest shard holds about 1.1 times the mean.
	DefaultVirtualNodes = 256
)

// Limits of a ring. They keep a decoder from allocating by a length nobody checked.
const (
	// MaxShard is the largest shard identifier a ring can hold.
	MaxShard = math.MaxUint32
	// MaxPoints is the largest number of points of a ring (shards times virtual nodes).
	MaxPoints = 1 << 22
)

// Algorithm names the pair of functions behind a ring: from placement key to token, and from
// (shard, virtual node) to point. It is stored, so a ring is never read with another function.
type Algorithm uint8

// AlgorithmXXH3 is the 64-bit XXH3 of the placement key, seed 0; a point is the XXH3 of shard and
// virtual node number, each as 8 bytes, most significant first.
const AlgorithmXXH3 Algorithm = 1

// Token is a position on the ring: a 64-bit hash of a placement key.
type Token uint64

// TokenOf returns the token of an encoded placement key. The mapping is part of the stored data:
// it never changes within an Algorithm.
func TokenOf(placement []byte) Token { return Token(xxh3.Hash(placement)) }

// ShardID names a shard. 0 is the system shard, which is never on the ring; data shards are 1..N.
type ShardID uint64

// Point is one virtual node: the shard owns the tokens after the point before, up to and
// including this one.
type Point struct {
	Token Token
	Shard ShardID
}

// Ring maps tokens to shards. It is immutable and safe for concurrent use.
type Ring struct {
	epoch     uint64
	algorithm Algorithm
	vnodes    int
	// tokens and owners are parallel and sorted by token: the binary search touches tokens only.
	tokens []Token
	owners []uint32
	// first narrows the search: first[b] is the first point whose leading bits are at least b, for
	// about as many buckets as there are points. Tokens are hashes, so a bucket holds about one.
	first []uint32
	shift uint // of a token, to its bucket
}

// New returns a ring of epoch 1 with the data shards 1..shards and vnodes points for each.
// It panics when either is not positive or their product exceeds MaxPoints.
func New(shards int, vnodes int) *Ring {
	if shards <= 0 || vnodes <= 0 || shards > MaxPoints/vnodes {
		panic(fmt.Sprintf("ring: %d shards of %d virtual nodes", shards, vnodes))
	}
	points := make([]Point, 0, shards*vnodes)
	for s := 1; s <= shards; s++ {
		points = appendPoints(points, ShardID(s), vnodes)
	}
	return build(1, vnodes, points)
}

// appendPoints adds the virtual nodes of one shard.
func appendPoints(dst []Point, shard ShardID, vnodes int) []Point {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(shard))
	for v := range vnodes {
		binary.BigEndian.PutUint64(b[8:], uint64(v))
		dst = append(dst, Point{Token: Token(xxh3.Hash(b[:])), Shard: shard})
	}
	return dst
}

// build sorts the points into a ring. Of two points with one token the smaller shard comes first
// and owns the token; the other one then owns nothing, which costs it 2^-64 of the ring per tie.
func build(epoch uint64, vnodes int, points []Point) *Ring {
	slices.SortFunc(points, comparePoints)
	r := &Ring{
		epoch: epoch, algorithm: AlgorithmXXH3, vnodes: vnodes,
		tokens: make([]Token, len(points)), owners: make([]uint32, len(points)),
	}
	for i, p := range points {
		r.tokens[i], r.owners[i] = p.Token, uint32(p.Shard)
	}
	r.fillBuckets()
	return r
}

// fillBuckets derives first from the sorted tokens.
func (r *Ring) fillBuckets() {
	width := max(1, bits.Len(uint(len(r.tokens)-1)))
	r.shift = uint(64 - width)
	r.first = make([]uint32, 1<<width+1)
	bucket := 0
	for i, t := range r.tokens {
		for ; bucket <= int(t>>r.shift); bucket++ {
			r.first[bucket] = uint32(i)
		}
	}
	for ; bucket < len(r.first); bucket++ {
		r.first[bucket] = uint32(len(r.tokens))
	}
}

func comparePoints(a, b Point) int {
	switch {
	case a.Token < b.Token:
		return -1
	case a.Token > b.Token:
		return 1
	case a.Shard < b.Shard:
		return -1
	case a.Shard > b.Shard:
		return 1
	}
	return 0
}

// Shard returns the shard that owns a token: the shard of the first point at or after it, and of
// the first point of all when there is none.
func (r *Ring) Shard(t Token) ShardID { return ShardID(r.owners[r.search(t)]) }

// search returns the index of the point that owns t: a binary search inside its bucket.
func (r *Ring) search(t Token) int {
	bucket := t >> r.shift
	low, high := int(r.first[bucket]), int(r.first[bucket+1])
	for low < high {
		if middle := int(uint(low+high) >> 1); r.tokens[middle] < t {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(r.tokens) {
		return 0
	}
	return low
}

// Epoch counts the changes of the ring; the first ring has epoch 1.
func (r *Ring) Epoch() uint64 { return r.epoch }

// Algorithm returns the identifier of the hash functions the ring was made with.
func (r *Ring) Algorithm() Algorithm { return r.algorithm }

// VirtualNodes returns the number of points per shard.
func (r *Ring) VirtualNodes() int { return r.vnodes }

// Points returns a copy of the points in token order.
func (r *Ring) Points() []Point {
	points := make([]Point, len(r.tokens))
	for i := range points {
		points[i] = Point{Token: r.tokens[i], Shard: ShardID(r.owners[i])}
	}
	return points
}

// Shards returns the shards on the ring in ascending order.
func (r *Ring) Shards() []ShardID {
	owners := slices.Clone(r.owners)
	slices.Sort(owners)
	owners = slices.Compact(owners)
	shards := make([]ShardID, len(owners))
	for i, s := range owners {
		shards[i] = ShardID(s)
	}
	return shards
}

// Share returns the part of all tokens that a shard owns, 0..1.
func (r *Ring) Share(s ShardID) float64 {
	var hi, lo uint64 // 128 bits: one shard alone owns 2^64 tokens
	for i, owner := range r.owners {
		if ShardID(owner) != s {
			continue
		}
		size := uint64(r.tokens[i] - r.before(i))
		if size == 0 && len(r.tokens) == 1 {
			return 1
		}
		var carry uint64
		lo, carry = bits.Add64(lo, size, 0)
		hi += carry
	}
	return float64(hi) + float64(lo)/(1<<64)
}

// before returns the token of the point before point i, around the end of the ring.
func (r *Ring) before(i int) Token {
	if i == 0 {
		return r.tokens[len(r.tokens)-1]
	}
	return r.tokens[i-1]
}

// With returns the ring of the next epoch with one more shard. Only tokens that the new shard
// takes change their owner. It panics when the shard is the system shard, is on the ring already
// or is larger than MaxShard, or when the ring would exceed MaxPoints.
func (r *Ring) With(shard ShardID) *Ring {
	if shard == 0 || shard > MaxShard || slices.Contains(r.owners, uint32(shard)) {
		panic(fmt.Sprintf("ring: cannot add shard %d", shard))
	}
	if len(r.tokens)+r.vnodes > MaxPoints {
		panic(fmt.Sprintf("ring: shard %d exceeds %d points", shard, MaxPoints))
	}
	return build(r.epoch+1, r.vnodes, appendPoints(r.Points(), shard, r.vnodes))
}

// Without returns the ring of the next epoch with one shard less. Only the tokens of that shard
// change their owner. It panics when the shard is not on the ring or is the last one.
func (r *Ring) Without(shard ShardID) *Ring {
	points := slices.DeleteFunc(r.Points(), func(p Point) bool { return p.Shard == shard })
	if len(points) == len(r.tokens) || len(points) == 0 {
		panic(fmt.Sprintf("ring: cannot remove shard %d", shard))
	}
	return build(r.epoch+1, r.vnodes, points)
}
