package codec

import (
	"sync"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
)

// collation turns text into bytes that compare as the engine compares the text: one weight per character, then by length.
type collation struct {
	raw    bool // the weight of a character is its code point: UTF-8 itself already sorts so, and can be read back
	weight sql.CollationSorter
	ascii  [utf8.RuneSelf]int32
}

// collations holds one *collation per sql.CollationID in use: most of a collation's cost is its table of ASCII weights.
var collations sync.Map

func collationOf(id sql.CollationID) (*collation, error) {
	if c, ok := collations.Load(id); ok {
		return c.(*collation), nil
	}
	c := &collation{raw: rawOrder(id), weight: id.Sorter()}
	if c.weight == nil {
		return nil, sql.ErrCollationNotYetImplementedTemp.New(id.Name())
	}
	for r := range c.ascii {
		c.ascii[r] = c.weight(rune(r))
	}
	actual, _ := collations.LoadOrStore(id, c)
	return actual.(*collation), nil
}

func rawOrder(id sql.CollationID) bool {
	switch id {
	case sql.Collation_utf8mb4_0900_bin, sql.Collation_utf8mb4_bin, sql.Collation_utf8mb3_bin:
		return true
	}
	return false
}

// appendWeights appends the sort key of s. Bytes that are not UTF-8 weigh as U+FFFD, as they do in the engine's comparison.
func (c *collation) appendWeights(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		if b := s[i]; b < utf8.RuneSelf {
			dst = appendWeight(dst, c.ascii[b])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		dst = appendWeight(dst, c.weight(r))
		i += size
	}
	return dst
}

// The weight encoding: small weights take one byte, the dense ranks of the Unicode collations two or three. The first byte
// says how many follow, and larger first bytes stand for larger weights, so that the bytes sort as the weights do. The first
// byte is never zero, which spares most text the escape that the key codec has for zero bytes.
const (
	weights1 = 0xC0 - 1           // first byte 0x01..0xBF
	weights2 = weights1 + 48*1<<8 // first byte 0xC0..0xEF, one more
	weights3 = weights2 + 15*1<<16
)

// appendWeight appends one weight. The engine's weights are never negative.
func appendWeight(dst []byte, weight int32) []byte {
	switch w := uint32(weight); {
	case w < weights1:
		return append(dst, byte(w)+1)
	case w < weights2:
		w -= weights1
		return append(dst, 0xC0+byte(w>>8), byte(w))
	case w < weights3:
		w -= weights2
		return append(dst, 0xF0+byte(w>>16), byte(w>>8), byte(w))
	default:
		return append(dst, 0xFF, byte(w>>24), byte(w>>16), byte(w>>8), byte(w))
	}
}
