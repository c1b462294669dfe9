package keycodec

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// value is one column value of any kind, with the order that its encoding must
// have.
type value struct {
	kind  Kind
	neg   bool // of u, and of the decimal
	u     uint64
	f     float64
	b     []byte
	coef  *big.Int
	scale int32
}

func (v value) append(dst []byte, desc bool) []byte {
	switch v.kind {
	case KindNull:
		return AppendNull(dst, desc)
	case KindInt:
		if v.neg {
			return AppendInt(dst, int64(v.u), desc)
		}
		return AppendUint(dst, v.u, desc)
	case KindFloat:
		return AppendFloat(dst, v.f, desc)
	case KindBytes:
		return AppendBytes(dst, v.b, desc)
	default:
		return AppendDecimal(dst, v.neg, v.coef, v.scale, desc)
	}
}

// number is the value of an integer or decimal, exactly.
func (v value) number() *big.Rat {
	if v.kind == KindInt {
		if v.neg {
			return new(big.Rat).SetInt64(int64(v.u))
		}
		return new(big.Rat).SetInt(new(big.Int).SetUint64(v.u))
	}
	r := new(big.Rat).SetInt(v.coef)
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(v.scale, -v.scale))), nil)
	if v.scale < 0 {
		r.Quo(r, new(big.Rat).SetInt(scale))
	} else {
		r.Mul(r, new(big.Rat).SetInt(scale))
	}
	if v.neg {
		r.Neg(r)
	}
	return r
}

// compare orders two values of one kind, and NULL before all.
func (v value) compare(w value) int {
	switch {
	case v.kind == KindNull || w.kind == KindNull:
		return cmp.Compare(b2i(v.kind != KindNull), b2i(w.kind != KindNull))
	case v.kind == KindFloat:
		return cmp.Compare(v.f, w.f) // NaN first, and -0 == 0
	case v.kind == KindBytes:
		return bytes.Compare(v.b, w.b)
	}
	return v.number().Cmp(w.number())
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

var (
	genUint = rapid.OneOf(
		rapid.Uint64(),
		rapid.Custom(func(t *rapid.T) uint64 { // around the changes of length
			return uint64(1)<<rapid.IntRange(0, 63).Draw(t, "bit") + rapid.Uint64Range(0, 2).Draw(t, "near") - 1
		}),
	)
	genFloat = rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
		0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64,
		math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64,
	}))
	genBytes = rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 20),
		rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xff, 0xfe, 'a'}), 0, 8),
	)
	genDecimal = rapid.Custom(func(t *rapid.T) value {
		digits := rapid.StringOfN(rapid.SampledFrom([]rune("0012599")), 0, 66, -1).Draw(t, "digits")
		coef, _ := new(big.Int).SetString("0"+digits, 10)
		return value{
			kind: KindDecimal, neg: rapid.Bool().Draw(t, "neg"), coef: coef,
			scale: rapid.Int32Range(-70, 70).Draw(t, "scale"),
		}
	})
)

// genValue draws a value of a kind, sometimes NULL.
func genValue(kind Kind) *rapid.Generator[value] {
	return rapid.Custom(func(t *rapid.T) value {
		if rapid.IntRange(0, 7).Draw(t, "null") == 0 {
			return value{kind: KindNull}
		}
		v := value{kind: kind}
		switch kind {
		case KindInt:
			v.u = genUint.Draw(t, "u")
			v.neg = int64(v.u) < 0 && rapid.Bool().Draw(t, "signed")
		case KindFloat:
			v.f = genFloat.Draw(t, "f")
		case KindBytes:
			v.b = genBytes.Draw(t, "b")
		case KindDecimal:
			v = genDecimal.Draw(t, "d")
		}
		return v
	})
}

var kinds = []Kind{KindInt, KindFloat, KindBytes, KindDecimal}

// TestOrder: encoded values sort like the values, in either direction, and equal
// values have equal encodings.
func TestOrder(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			gen := genValue(kind)
			rapid.Check(t, func(t *rapid.T) {
				v, w := gen.Draw(t, "v"), gen.Draw(t, "w")
				want := v.compare(w)
				require.Equal(t, want, bytes.Compare(v.append(nil, false), w.append(nil, false)))
				require.Equal(t, -want, bytes.Compare(v.append(nil, true), w.append(nil, true)))
			})
		})
	}
}

// TestOrderOfTuples: concatenated columns sort column by column, each in its own
// direction.
func TestOrderOfTuples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "columns")
		var a, b []byte
		want := 0
		for range n {
			gen := genValue(rapid.SampledFrom(kinds).Draw(t, "kind"))
			desc := rapid.Bool().Draw(t, "desc")
			v, w := gen.Draw(t, "v"), gen.Draw(t, "w")
			if rapid.Bool().Draw(t, "same") {
				w = v
			}
			a, b = v.append(a, desc), w.append(b, desc)
			if order := v.compare(w); want == 0 && desc {
				want = -order
			} else if want == 0 {
				want = order
			}
		}
		require.Equal(t, want, bytes.Compare(a, b))
	})
}

// TestRoundTrip: what was appended is decoded, skipped, and recognised, whatever
// follows.
func TestRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			gen := genValue(kind)
			rapid.Check(t, func(t *rapid.T) {
				v, desc := gen.Draw(t, "v"), rapid.Bool().Draw(t, "desc")
				tail := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "tail")
				start := []byte("in front")
				b := append(v.append(bytes.Clone(start), desc), tail...)
				require.True(t, bytes.HasPrefix(b, start))
				b = b[len(start):]
				got, direction := PeekKind(b)
				require.Equal(t, v.kind, got)
				require.Equal(t, desc, direction)
				rest, err := Skip(b)
				require.NoError(t, err)
				require.Equal(t, tail, append([]byte{}, rest...))
				w, rest, err := decode(b, got, desc)
				require.NoError(t, err)
				require.Equal(t, tail, append([]byte{}, rest...))
				require.Zero(t, v.compare(w))
			})
		})
	}
}

// decode reads a value of a known kind.
func decode(b []byte, kind Kind, desc bool) (v value, rest []byte, err error) {
	v.kind = kind
	switch kind {
	case KindNull:
		rest, err = DecodeNull(b, desc)
	case KindInt:
		var i int64
		if i, rest, err = DecodeInt(b, desc); err == nil {
			v.u, v.neg = uint64(i), i < 0
		} else {
			v.u, rest, err = DecodeUint(b, desc)
		}
	case KindFloat:
		v.f, rest, err = DecodeFloat(b, desc)
	case KindBytes:
		v.b, rest, err = DecodeBytes(b, desc)
	case KindDecimal:
		v.neg, v.coef, v.scale, rest, err = DecodeDecimal(b, desc)
	default:
		err = malformed(kind, b)
	}
	return v, rest, err
}

// TestIntegerRanges: a decoder refuses what its result cannot hold.
func TestIntegerRanges(t *testing.T) {
	_, _, err := DecodeInt(AppendUint(nil, math.MaxInt64+1, false), false)
	require.ErrorIs(t, err, ErrMalformed)
	_, _, err = DecodeUint(AppendInt(nil, -1, true), true)
	require.ErrorIs(t, err, ErrMalformed)
	for _, i := range []int64{math.MinInt64, -256, -255, -1, 0, 1, 255, 256, math.MaxInt64} {
		got, rest, err := DecodeInt(AppendInt(nil, i, false), false)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Equal(t, i, got)
	}
	require.Panics(t, func() { AppendDecimal(nil, false, big.NewInt(-1), 0, false) })
}

// TestWrongDirection: asking for another direction or kind is an error, not
// another value.
func TestWrongDirection(t *testing.T) {
	for _, desc := range []bool{false, true} {
		values := map[Kind][]byte{
			KindNull: AppendNull(nil, desc), KindInt: AppendInt(nil, 5, desc), KindFloat: AppendFloat(nil, 5, desc),
			KindBytes: AppendBytes(nil, []byte("five"), desc), KindDecimal: AppendDecimal(nil, false, big.NewInt(5), 0, desc),
		}
		for kind, b := range values {
			for other := range values {
				_, _, err := decode(b, other, desc)
				require.Equal(t, kind == other, err == nil, "%s read as %s", kind, other)
			}
			_, _, err := decode(b, kind, !desc)
			require.ErrorIs(t, err, ErrMalformed)
			for n := range b {
				_, _, err := decode(b[:n], kind, desc)
				require.ErrorIs(t, err, ErrMalformed)
				_, err = Skip(b[:n])
				require.ErrorIs(t, err, ErrMalformed)
			}
		}
	}
}

// TestPrefixEnd: exactly the keys with the prefix lie between it and its end.
func TestPrefixEnd(t *testing.T) {
	require.Nil(t, PrefixEnd(nil))
	require.Nil(t, PrefixEnd([]byte{0xff, 0xff}))
	require.Equal(t, []byte{2}, PrefixEnd([]byte{1, 0xff}))
	gen := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xfe, 0xff}), 0, 5)
	rapid.Check(t, func(t *rapid.T) {
		prefix, k := gen.Draw(t, "prefix"), gen.Draw(t, "key")
		end := PrefixEnd(prefix)
		inside := bytes.Compare(k, prefix) >= 0 && (end == nil || bytes.Compare(k, end) < 0)
		require.Equal(t, bytes.HasPrefix(k, prefix), inside)
	})
}

// TestGolden fixes the encodings, ascending and descending; they are the keys of
// users' rows.
func TestGolden(t *testing.T) {
	datadriven.RunTest(t, "testdata/golden", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for _, text := range strings.Split(d.Input, "\n") {
			v := parse(t, d.Cmd, text)
			fmt.Fprintf(&out, "%-24s %s %s\n", text, hex.EncodeToString(v.append(nil, false)), hex.EncodeToString(v.append(nil, true)))
		}
		return out.String()
	})
}

// parse reads a value in a golden file.
func parse(t *testing.T, kind, text string) value {
	var err error
	v := value{}
	switch kind {
	case "null":
		v.kind = KindNull
	case "integer":
		v.kind = KindInt
		if v.neg = text[0] == '-'; v.neg {
			var i int64
			i, err = strconv.ParseInt(text, 10, 64)
			v.u = uint64(i)
		} else {
			v.u, err = strconv.ParseUint(text, 10, 64)
		}
	case "float":
		v.kind = KindFloat
		v.f, err = strconv.ParseFloat(text, 64)
	case "bytes":
		v.kind = KindBytes
		text, err = strconv.Unquote(text)
		v.b = []byte(text)
	case "decimal":
		v.kind = KindDecimal
		mantissa, exponent, _ := strings.Cut(text, "e")
		v.neg = mantissa[0] == '-'
		v.coef, _ = new(big.Int).SetString(strings.TrimPrefix(mantissa, "-"), 10)
		var e int64
		e, err = strconv.ParseInt(exponent, 10, 32)
		v.scale = int32(e)
	}
	require.NoError(t, err)
	return v
}

// FuzzDecode gives any bytes to every decoder. What one accepts must be exactly
// what the value's own encoding begins with: there is one encoding per value.
func FuzzDecode(f *testing.F) {
	for _, desc := range []bool{false, true} {
		f.Add(AppendNull(nil, desc))
		f.Add(AppendInt(nil, -300, desc))
		f.Add(AppendUint(nil, math.MaxUint64, desc))
		f.Add(AppendFloat(nil, math.Pi, desc))
		f.Add(AppendFloat(nil, math.NaN(), desc))
		f.Add(AppendBytes(nil, []byte("a\x00b"), desc))
		f.Add(AppendDecimal(nil, true, big.NewInt(12345), -2, desc))
		f.Add(AppendDecimal(nil, false, new(big.Int), 3, desc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, desc := PeekKind(b)
		for _, k := range append(kinds, KindNull) {
			for _, d := range []bool{false, true} {
				v, rest, err := decode(b, k, d)
				if err != nil {
					require.ErrorIs(t, err, ErrMalformed)
					continue
				}
				require.Equal(t, kind, k)
				require.Equal(t, desc, d)
				used := b[:len(b)-len(rest)]
				require.Equal(t, used, v.append(nil, d))
				after, err := Skip(b)
				require.NoError(t, err)
				require.Equal(t, len(rest), len(after))
			}
		}
		if _, err := Skip(b); err != nil {
			require.ErrorIs(t, err, ErrMalformed)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	coefficient := big.NewInt(123456789)
	b.ReportAllocs()
	var key []byte
	for b.Loop() {
		key = AppendInt(key[:0], 123456, false)
		key = AppendBytes(key, []byte("some text"), true)
		key = AppendFloat(key, 2.5, false)
		key = AppendDecimal(key, false, coefficient, -2, false)
	}
}

func BenchmarkDecode(b *testing.B) {
	key := AppendBytes(AppendInt(nil, 123456, false), []byte("some text"), true)
	b.ReportAllocs()
	for b.Loop() {
		_, rest, err := DecodeInt(key, false)
		if err == nil {
			_, _, err = DecodeBytes(rest, true)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
