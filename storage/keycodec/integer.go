package keycodec

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// AppendInt adds a signed integer.
func AppendInt(dst []byte, v int64, desc bool) []byte {
	if v >= 0 {
		return AppendUint(dst, uint64(v), desc)
	}
	// As many low bytes of the two's complement as tell v from all negatives of
	// that length: the inverted value's length.
	n := max(byteLen(^uint64(v)), 1)
	return appendInteger(dst, byte(tagInt-n), uint64(v), n, desc)
}

// AppendUint adds an unsigned integer. It sorts together with signed ones.
func AppendUint(dst []byte, v uint64, desc bool) []byte {
	n := byteLen(v)
	return appendInteger(dst, byte(tagInt+n), v, n, desc)
}

// appendInteger adds the tag and the low n bytes of v.
func appendInteger(dst []byte, tag byte, v uint64, n int, desc bool) []byte {
	var buf [9]byte
	binary.BigEndian.PutUint64(buf[1:], v)
	buf[8-n] = tag
	value := buf[8-n:]
	invert(value, desc)
	return append(dst, value...)
}

// byteLen returns how many bytes v needs; 0 for 0.
func byteLen(v uint64) int { return (bits.Len64(v) + 7) / 8 }

// DecodeInt reads an integer that fits into an int64.
func DecodeInt(b []byte, desc bool) (v int64, rest []byte, err error) {
	neg, u, rest, err := decodeInteger(b, desc)
	if err != nil {
		return 0, nil, err
	}
	if !neg && u > math.MaxInt64 {
		return 0, nil, malformed(KindInt, b)
	}
	return int64(u), rest, nil
}

// DecodeUint reads an integer that is not negative.
func DecodeUint(b []byte, desc bool) (v uint64, rest []byte, err error) {
	neg, u, rest, err := decodeInteger(b, desc)
	if err != nil {
		return 0, nil, err
	}
	if neg {
		return 0, nil, malformed(KindInt, b)
	}
	return u, rest, nil
}

// decodeInteger reads an integer; u is the two's complement if it is negative.
// Only the shortest form is accepted, so that equal values are equal bytes.
func decodeInteger(b []byte, desc bool) (neg bool, u uint64, rest []byte, err error) {
	content, rest, err := integerContent(b, desc)
	if err != nil {
		return false, 0, nil, err
	}
	m := mask(desc)
	neg = b[0]^m < tagInt
	if neg {
		u = math.MaxUint64
	}
	for _, c := range content {
		u = u<<8 | uint64(c^m)
	}
	shortest := byteLen(u)
	if neg {
		if int64(u) >= 0 {
			return false, 0, nil, malformed(KindInt, b)
		}
		shortest = max(byteLen(^u), 1)
	}
	if shortest != len(content) {
		return false, 0, nil, malformed(KindInt, b)
	}
	return neg, u, rest, nil
}

// LeastInt returns the least integer whose ascending encoding is not in front of b, which
// may be any bytes; false if they all are. u is the two's complement if it is negative.
func LeastInt(b []byte) (neg bool, u uint64, ok bool) {
	if len(b) == 0 || b[0] < tagInt-8 {
		return true, 1 << 63, true
	}
	if b[0] > tagInt+8 {
		return false, 0, false
	}
	n, content := int(b[0])-tagInt, b[1:]
	if neg = n < 0; neg {
		n, u = -n, math.MaxUint64
	}
	for i := range n {
		if u <<= 8; i < len(content) {
			u |= uint64(content[i])
		}
	}
	switch {
	// What has a shorter form is not encoded like this: the next one is the first, or
	// last, that has this form.
	case neg && n == 8 && int64(u) >= 0:
		return true, 1 << 63, true
	case neg && n > 1 && byteLen(^u) < n:
		return true, -(uint64(1) << (8 * (n - 1))), true
	case !neg && n > 0 && byteLen(u) < n:
		return false, 1 << (8 * (n - 1)), true
	case len(content) <= n:
		return neg, u, true
	}
	// b goes on behind the encoding of u.
	if u++; u == 0 && !neg {
		return false, 0, false
	}
	return neg && u != 0, u, true
}

// integerContent returns the bytes behind an integer's tag.
func integerContent(b []byte, desc bool) (content, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, malformed(KindInt, b)
	}
	n := int(b[0]^mask(desc)) - tagInt
	if n < 0 {
		n = -n
	}
	if n > 8 || len(b) < 1+n {
		return nil, nil, malformed(KindInt, b)
	}
	return b[1 : 1+n], b[1+n:], nil
}
