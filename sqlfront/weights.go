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

// compare does what the engine's type does with two texts; ok is false if they have
// other characters, as far as that matters.
func (w *asciiWeights) compare(a, b string) (order int, ok bool) {
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
