package keycodec

import (
	"math"
	"math/big"
	"strings"
)

// AppendDecimal adds the number coefficient * 10^exponent, negative if neg. The
// coefficient must not be negative. The scale is not kept: 1.0 and 1.00 have one
// encoding, as have 0 and -0.
func AppendDecimal(dst []byte, neg bool, coefficient *big.Int, exponent int32, desc bool) []byte {
	if coefficient.Sign() < 0 {
		panic("keycodec: negative coefficient")
	}
	if coefficient.Sign() == 0 {
		return append(dst, tagZero^mask(desc))
	}
	start := len(dst)
	tag := byte(tagPositive)
	if neg {
		tag = tagNegative
	}
	dst = append(dst, tag)
	digits := coefficient.String()
	magnitude := int64(len(digits)) + int64(exponent)
	dst = AppendInt(dst, magnitude, false)
	dst = appendDigits(dst, strings.TrimRight(digits, "0"))
	// The larger the magnitude, the smaller a negative number.
	invert(dst[start+1:], neg)
	invert(dst[start:], desc)
	return dst
}

// appendDigits adds two digits a byte and a zero byte, which is smaller than any
// digits and so makes a shorter number smaller.
func appendDigits(dst []byte, digits string) []byte {
	for i := 0; i < len(digits); i += 2 {
		pair := (digits[i] - '0') * 10
		if i+1 < len(digits) {
			pair += digits[i+1] - '0'
		}
		dst = append(dst, 1+pair)
	}
	return append(dst, 0)
}

// DecodeDecimal reads a decimal. The coefficient has no trailing zero digits,
// so the exponent is the largest that can express the number; zero is 0 * 10^0.
func DecodeDecimal(b []byte, desc bool) (neg bool, coefficient *big.Int, exponent int32, rest []byte, err error) {
	kind, d := PeekKind(b)
	if kind != KindDecimal || d != desc {
		return false, nil, 0, nil, malformed(KindDecimal, b)
	}
	tag := b[0] ^ mask(desc)
	if tag == tagZero {
		return false, new(big.Int), 0, b[1:], nil
	}
	neg = tag == tagNegative
	magnitude, digits, rest, ok := decodeMagnitude(b[1:], neg != desc)
	if !ok {
		return false, nil, 0, nil, malformed(KindDecimal, b)
	}
	exp := magnitude - int64(len(digits))
	coefficient, ok = new(big.Int).SetString(digits, 10)
	if !ok || exp < math.MinInt32 || exp > math.MaxInt32 {
		return false, nil, 0, nil, malformed(KindDecimal, b)
	}
	return neg, coefficient, int32(exp), rest, nil
}

// decodeMagnitude reads the exponent and the digits, which neither begin nor end
// with a zero.
func decodeMagnitude(b []byte, inverted bool) (magnitude int64, digits string, rest []byte, ok bool) {
	magnitude, b, err := DecodeInt(b, inverted)
	if err != nil {
		return 0, "", nil, false
	}
	m := mask(inverted)
	var text []byte
	for i, c := range b {
		c ^= m
		if c == 0 {
			digits = strings.TrimSuffix(string(text), "0")
			ok = digits != "" && digits[0] != '0' && digits[len(digits)-1] != '0'
			return magnitude, digits, b[i+1:], ok
		}
		if c > 100 {
			break
		}
		text = append(text, '0'+(c-1)/10, '0'+(c-1)%10)
	}
	return 0, "", nil, false
}

// skipDecimal returns what follows a decimal.
func skipDecimal(b []byte, desc bool) ([]byte, error) {
	tag := b[0] ^ mask(desc)
	if tag == tagZero {
		return b[1:], nil
	}
	inverted := (tag == tagNegative) != desc
	_, rest, err := integerContent(b[1:], inverted)
	if err != nil {
		return nil, err
	}
	m := mask(inverted)
	for i, c := range rest {
		if c == m {
			return rest[i+1:], nil
		}
	}
	return nil, malformed(KindDecimal, b)
}
