package keycodec

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrMalformed is what every decoder's error matches: the bytes are not an
// encoding of the asked-for kind and direction.
var ErrMalformed = errors.New("malformed key")

// Kind is the type of an encoded value.
type Kind uint8

// The kinds of values. Signed and unsigned integers are one kind.
const (
	KindInvalid Kind = iota
	KindNull
	KindInt
	KindFloat
	KindBytes
	KindDecimal
)

// String names the kind in lower case.
func (k Kind) String() string {
	switch k {
	case KindNull:
		return "null"
	case KindInt:
		return "integer"
	case KindFloat:
		return "float"
	case KindBytes:
		return "bytes"
	case KindDecimal:
		return "decimal"
	}
	return "invalid"
}

// First bytes of the ascending encodings. All are below 0x80; those of the
// descending ones, their complements, are above.
const (
	tagNull     = 0x01
	tagInt      = 0x18 // plus or minus the number of bytes that follow
	tagFloat    = 0x30
	tagBytes    = 0x40
	tagNegative = 0x50
	tagZero     = 0x51
	tagPositive = 0x52
)

// AppendNull adds a NULL, which sorts before all values, or last under desc.
func AppendNull(dst []byte, desc bool) []byte {
	return append(dst, tagNull^mask(desc))
}

// DecodeNull reads a NULL.
func DecodeNull(b []byte, desc bool) (rest []byte, err error) {
	if len(b) == 0 || b[0]^mask(desc) != tagNull {
		return nil, malformed(KindNull, b)
	}
	return b[1:], nil
}

// PeekKind tells the kind and direction of the first value of b; KindInvalid if
// b does not begin with a value.
func PeekKind(b []byte) (kind Kind, desc bool) {
	if len(b) == 0 {
		return KindInvalid, false
	}
	tag := b[0]
	if tag >= 0x80 {
		tag, desc = ^tag, true
	}
	switch {
	case tag == tagNull:
		return KindNull, desc
	case tag >= tagInt-8 && tag <= tagInt+8:
		return KindInt, desc
	case tag == tagFloat:
		return KindFloat, desc
	case tag == tagBytes:
		return KindBytes, desc
	case tag >= tagNegative && tag <= tagPositive:
		return KindDecimal, desc
	}
	return KindInvalid, false
}

// Skip returns what follows the first value of b, whatever its kind and
// direction. It checks no more than it must to find the end.
func Skip(b []byte) (rest []byte, err error) {
	kind, desc := PeekKind(b)
	switch kind {
	case KindNull:
		return b[1:], nil
	case KindInt:
		_, rest, err = integerContent(b, desc)
	case KindFloat:
		if len(b) < floatSize {
			return nil, malformed(kind, b)
		}
		return b[floatSize:], nil
	case KindBytes:
		return skipBytes(b, desc)
	case KindDecimal:
		return skipDecimal(b, desc)
	default:
		return nil, malformed(kind, b)
	}
	return rest, err
}

// PrefixEnd returns the smallest key after all keys that begin with key; nil,
// meaning "no end", if there is none. The result shares nothing with key.
func PrefixEnd(key []byte) []byte {
	end := bytes.Clone(key)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// mask is what the bytes of a value are combined with: inverted under desc.
func mask(desc bool) byte {
	if desc {
		return 0xff
	}
	return 0
}

// invert inverts all of b under desc.
func invert(b []byte, desc bool) {
	if !desc {
		return
	}
	for i := range b {
		b[i] = ^b[i]
	}
}

// malformed makes a decoder's error; it shows no more than the first bytes.
func malformed(kind Kind, b []byte) error {
	return fmt.Errorf("%w: no %s at %x", ErrMalformed, kind, b[:min(len(b), 16)])
}
