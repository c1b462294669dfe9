package keycodec

import "math/big"

// Kind is the type of an encoded value.
type Kind uint8

// The kinds of values.
const (
	KindInvalid Kind = iota
	KindNull
	KindInt
	KindFloat
	KindBytes
	KindDecimal
)

func AppendNull(dst []byte, desc bool) []byte             { panic("unfinished") }
func AppendInt(dst []byte, v int64, desc bool) []byte     { panic("unfinished") }
func AppendUint(dst []byte, v uint64, desc bool) []byte   { panic("unfinished") }
func AppendFloat(dst []byte, v float64, desc bool) []byte { panic("unfinished") }
func AppendBytes(dst, v []byte, desc bool) []byte         { panic("unfinished") }
func AppendDecimal(dst []byte, neg bool, coefficient *big.Int, exponent int32, desc bool) []byte {
	panic("unfinished")
}

// PeekKind tells the kind and direction of the first value of b.
func PeekKind(b []byte) (kind Kind, desc bool)                            { panic("unfinished") }
func DecodeNull(b []byte, desc bool) (rest []byte, err error)             { panic("unfinished") }
func DecodeInt(b []byte, desc bool) (v int64, rest []byte, err error)     { panic("unfinished") }
func DecodeUint(b []byte, desc bool) (v uint64, rest []byte, err error)   { panic("unfinished") }
func DecodeFloat(b []byte, desc bool) (v float64, rest []byte, err error) { panic("unfinished") }
func DecodeBytes(b []byte, desc bool) (v, rest []byte, err error)         { panic("unfinished") }
func DecodeDecimal(b []byte, desc bool) (neg bool, coefficient *big.Int, exponent int32, rest []byte, err error) {
	panic("unfinished")
}

// Skip returns what follows the first value of b, whatever its kind and direction.
func Skip(b []byte) (rest []byte, err error) { panic("unfinished") }

// PrefixEnd returns the smallest key after all keys that begin with key, or nil if there is none.
func PrefixEnd(key []byte) []byte { panic("unfinished") }
