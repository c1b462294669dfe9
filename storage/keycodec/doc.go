// Package keycodec encodes column values so that the encoded bytes sort like
// the values.
//
// # What it promises
//
// Every encoding is self-delimiting, so a tuple is the concatenation of its
// columns, and bytes.Compare of two tuples of the same column types and
// directions equals comparing them column by column. Equal values have equal
// encodings: 1.0 and 1.00, or 0.0 and -0.0, are one key.
//
// The first byte of a value says its type and its direction, so [Skip] and
// [PeekKind] need no schema. A descending value is the ascending encoding with
// every bit inverted. NULL sorts before all values, hence last under desc.
//
// # Layout of the ascending form
//
//	NULL     0x01
//	integer  0x18-n, n bytes      negative: the low n bytes of the two's complement, n = 1..8
//	         0x18+n, n bytes      zero and positive: n = 0..8 big-endian bytes
//	float    0x30, 8 bytes        IEEE 754 bits, made to sort; NaN is all zero and sorts first
//	bytes    0x40, content, 0x00 0x01   a zero byte inside is written 0x00 0xFF
//	decimal  0x50 negative, 0x51 zero, 0x52 positive; unless zero then:
//	         exponent E as an integer above, digits, 0x00
//	         value = 0.d1d2d3... * 10^E with d1 != 0; each digit byte is 1 + two decimal digits
//	         negative: exponent and digits inverted
//
// Signed and unsigned integers share one encoding and sort together.
//
// # What it does not do
//
// It knows no SQL types and no collations: text arrives here as bytes that are
// already a sort key.
package keycodec
