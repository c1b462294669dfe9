package sqlfront

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
)

// asciiWeights are a collation's weights of the ASCII characters. The engine looks
// weights up in a map of all characters of the world, one by one, and nearly all
// text is of these.
type asciiWeights [utf8.RuneSelf]int32

var weightsByCollation sync.Map // sql.CollationID → *asciiWeights

// weightsOf returns nil for a collation that has no weights.
func weightsOf(id sql.CollationID) *asciiWeights {
	if w, ok := weightsByCollation.Load(id); ok {
		return w.(*asciiWeights)
	}
	if id == sql.Collation_Unspecified || id == sql.Collation_binary {
		return nil
	}
	weight := id.Sorter()
	if weight == nil {
		return nil
	}
	w := &asciiWeights{}
	for i := range w {
		w[i] = weight(rune(i))
	}
	weightsByCollation.Store(id, w)
	return w
}

// asciiRanks are the ranks of the weights of ASCII characters, the least of which is 1.
type asciiRanks [utf8.RuneSelf]uint8

func (w *asciiWeights) ranks() *asciiRanks {
	order := slices.Clone(w[:])
	slices.Sort(order)
	order = slices.Compact(order)
	ranks := &asciiRanks{}
	for i, weight := range w {
		at, _ := slices.BinarySearch(order, weight)
		ranks[i] = uint8(at) + 1
	}
	return ranks
}

// prefix is a number in the order of texts that begin with other weights: of texts with the
// same number compare knows more. ok is false for other characters.
func (r *asciiRanks) prefix(text []byte) (n uint64, ok bool) {
	if len(text) < 8 {
		for i, c := range text {
			if c >= utf8.RuneSelf {
				return 0, false
			}
			n |= uint64(r[c]) << (56 - 8*i)
		}
		return n, true
	}
	if binary.LittleEndian.Uint64(text)&highBits != 0 {
		return 0, false
	}
	for _, c := range text[:8] {
		n = n<<8 | uint64(r[c&0x7f])
	}
	return n, true
}

// highBits are those that ASCII characters do not have.
const highBits = 0x8080808080808080

// isASCII tells whether text has no other characters.
func isASCII(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if binary.LittleEndian.Uint64(text)&highBits != 0 {
			return false
		}
	}
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// compare does what the engine's type does with two texts; ok is false if they have
// other characters, as far as that matters.
func (w *asciiWeights) compare(a, b string) (order int, ok bool) { return compareWeights(w, a, b) }

func compareWeights[T string | []byte](w *asciiWeights, a, b T) (order int, ok bool) {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x|y >= utf8.RuneSelf {
			return 0, false
		}
		if x != y && w[x] != w[y] {
			return cmp.Compare(w[x], w[y]), true
		}
	}
	return cmp.Compare(len(a), len(b)), true
}

// appendWeights adds the weights of a text as the engine hashes them; ok is false if
// it has other characters.
func (w *asciiWeights) appendWeights(b []byte, text string) (_ []byte, ok bool) {
	n := len(b)
	b = slices.Grow(b, 4*len(text))[:n+4*len(text)]
	to := b[n:]
	for i := range len(text) {
		c := text[i]
		if c >= utf8.RuneSelf {
			return b[:n], false
		}
		binary.LittleEndian.PutUint32(to[4*i:], uint32(w[c]))
	}
	return b, true
}
