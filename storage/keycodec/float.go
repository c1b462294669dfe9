package keycodec

import (
	"encoding/binary"
	"math"
)

// floatSize is the length of an encoded float.
const floatSize = 1 + 8

// AppendFloat adds a float. -0 is stored as 0. All NaNs are one value, which
// sorts before -Inf.
func AppendFloat(dst []byte, v float64, desc bool) []byte {
	var buf [floatSize]byte
	buf[0] = tagFloat
	binary.BigEndian.PutUint64(buf[1:], sortableBits(v))
	invert(buf[:], desc)
	return append(dst, buf[:]...)
}

// sortableBits maps floats to integers of the same order: positive ones get the
// top bit, negative ones are inverted. Zero, which no number maps to, is NaN.
func sortableBits(v float64) uint64 {
	switch {
	case math.IsNaN(v):
		return 0
	case v == 0:
		return 1 << 63
	}
	u := math.Float64bits(v)
	if u>>63 == 1 {
		return ^u
	}
	return u | 1<<63
}

// DecodeFloat reads a float.
func DecodeFloat(b []byte, desc bool) (v float64, rest []byte, err error) {
	m := mask(desc)
	if len(b) < floatSize || b[0]^m != tagFloat {
		return 0, nil, malformed(KindFloat, b)
	}
	u := binary.BigEndian.Uint64(b[1:])
	if desc {
		u = ^u
	}
	switch {
	case u == 0:
		v = math.NaN()
	case u>>63 == 1:
		v = math.Float64frombits(u &^ (1 << 63))
	default:
		v = math.Float64frombits(^u)
	}
	// Bits that AppendFloat never writes: -0 and the NaNs of IEEE 754.
	if sortableBits(v) != u {
		return 0, nil, malformed(KindFloat, b)
	}
	return v, b[floatSize:], nil
}
