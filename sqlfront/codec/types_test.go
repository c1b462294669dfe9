package codec

import (
	"math"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	"pgregory.net/rapid"
)

// sample is a column type and a way to draw values of it, as the engine would hand them over.
type sample struct {
	name  string
	typ   sql.Type
	draw  func(*rapid.T) any
	keyed bool // can be part of a key
}

func text(collation sql.CollationID) sql.Type {
	return types.MustCreateString(sqltypes.VarChar, 100, collation)
}

// words are strings in which collations differ: case, accents, sharp s, spaces at the end, other scripts, beyond the BMP.
func words(t *rapid.T) any {
	alphabet := []rune("aAbBäÄåßsSñ zZ~\x00éЖж中あ𝔘😀")
	return string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 6).Draw(t, "runes"))
}

func latin(t *rapid.T) any {
	alphabet := []rune("aAbBäÄåßsSñ zZ~\x00éÿ")
	return string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 6).Draw(t, "runes"))
}

func drawBytes(t *rapid.T) any {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xFE, 0xFF}), 0, 6).Draw(t, "bytes")
}

func drawTime(lo, hi int64, unit time.Duration) func(*rapid.T) any {
	return func(t *rapid.T) any {
		if rapid.IntRange(0, 9).Draw(t, "zero") == 0 {
			return types.ZeroTime
		}
		micros := rapid.Int64Range(lo*1e6, hi*1e6).Draw(t, "micros")
		return time.UnixMicro(micros).UTC().Truncate(unit)
	}
}

func drawDecimal(t *rapid.T) any {
	digits := rapid.SampledFrom([]string{"0", "1", "15", "150", "99999999999999999999999", "7", "70", "1000000"}).Draw(t, "digits")
	c, _ := new(big.Int).SetString(digits, 10)
	d := &apd.Decimal{Exponent: -5, Negative: digits != "0" && rapid.Bool().Draw(t, "negative")}
	d.Coeff.SetMathBigInt(c)
	return d
}

func of[T any](g *rapid.Generator[T]) func(*rapid.T) any {
	return func(t *rapid.T) any { return g.Draw(t, "value") }
}

var (
	year1000 = time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	year9999 = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

func samples() []sample {
	point := types.Point{SRID: 4326, X: 1.5, Y: -2}
	line := types.LineString{SRID: 4326, Points: []types.Point{point, {SRID: 4326, X: 3, Y: 4}}}
	ring := types.LineString{SRID: 4326, Points: []types.Point{point, {SRID: 4326, X: 3, Y: 4}, {SRID: 4326}, point}}
	polygon := types.Polygon{SRID: 4326, Lines: []types.LineString{ring}}
	geometries := []types.GeometryValue{
		point, line, polygon,
		types.MultiPoint{SRID: 4326, Points: []types.Point{point, point}},
		types.MultiLineString{SRID: 4326, Lines: []types.LineString{line, ring}},
		types.MultiPolygon{SRID: 4326, Polygons: []types.Polygon{polygon}},
		types.GeomColl{SRID: 4326, Geoms: []types.GeometryValue{point, polygon, types.GeomColl{SRID: 4326, Geoms: []types.GeometryValue{}}}},
	}
	documents := []any{
		nil, true, false, "text", 1.5, int64(-7), uint64(math.MaxUint64), apd.New(150, -2),
		[]any{}, map[string]any{}, []any{nil, "a", []any{1.0}}, map[string]any{"b": 1.0, "a": map[string]any{"": nil}},
		time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), types.Timespan(-5),
	}
	document := func(t *rapid.T) any {
		return types.JSONDocument{Val: rapid.SampledFrom(documents).Draw(t, "document")}
	}
	geometry := func(t *rapid.T) any { return rapid.SampledFrom(geometries).Draw(t, "geometry") }
	return []sample{
		{"tinyint", types.Int8, of(rapid.Int8()), true},
		{"boolean", types.Boolean, of(rapid.Int8Range(0, 1)), true},
		{"smallint", types.Int16, of(rapid.Int16()), true},
		{"mediumint", types.Int24, of(rapid.Int32Range(-1<<23, 1<<23-1)), true},
		{"int", types.Int32, of(rapid.Int32()), true},
		{"bigint", types.Int64, of(rapid.Int64()), true},
		{"tinyint unsigned", types.Uint8, of(rapid.Uint8()), true},
		{"smallint unsigned", types.Uint16, of(rapid.Uint16()), true},
		{"mediumint unsigned", types.Uint24, of(rapid.Uint32Range(0, 1<<24-1)), true},
		{"int unsigned", types.Uint32, of(rapid.Uint32()), true},
		{"bigint unsigned", types.Uint64, of(rapid.Uint64()), true},
		{"bit(64)", types.MustCreateBitType(64), of(rapid.Uint64()), true},
		{"float", types.Float32, of(rapid.Float32()), true},
		{"double", types.Float64, of(rapid.Float64()), true},
		{"decimal(30,5)", types.MustCreateColumnDecimalType(30, 5), drawDecimal, true},
		{"date", types.Date, drawTime(year1000, year9999, 24*time.Hour), true},
		{"datetime", types.Datetime, drawTime(year1000, year9999, time.Second), true},
		{"datetime(6)", types.DatetimeMaxPrecision, drawTime(year1000, year9999, time.Microsecond), true},
		{"timestamp", types.Timestamp, drawTime(1, math.MaxInt32, time.Second), true},
		{"timestamp(6)", types.TimestampMaxPrecision, drawTime(1, math.MaxInt32, time.Microsecond), true},
		{"time", types.Time, func(t *rapid.T) any {
			return types.Timespan(rapid.Int64Range(-3020399000000, 3020399000000).Draw(t, "span"))
		}, true},
		{"year", types.Year, func(t *rapid.T) any {
			return rapid.SampledFrom([]int16{0, 1901, 1970, 2026, 2155}).Draw(t, "year")
		}, true},
		{"enum", types.MustCreateEnumType([]string{"z", "a", "m"}, sql.Collation_Default), of(rapid.Uint16Range(1, 3)), true},
		{"set", types.MustCreateSetType([]string{"z", "a", "m"}, sql.Collation_Default), of(rapid.Uint64Range(0, 7)), true},
		{"utf8mb4_0900_ai_ci", text(sql.Collation_utf8mb4_0900_ai_ci), words, true},
		{"utf8mb4_0900_bin", text(sql.Collation_utf8mb4_0900_bin), words, true},
		{"utf8mb4_bin", text(sql.Collation_utf8mb4_bin), words, true},
		{"utf8mb4_general_ci", text(sql.Collation_utf8mb4_general_ci), words, true},
		{"utf8mb4_unicode_ci", text(sql.Collation_utf8mb4_unicode_ci), words, true},
		{"latin1_swedish_ci", text(sql.Collation_latin1_swedish_ci), latin, true},
		{"ascii_bin", text(sql.Collation_ascii_bin), of(rapid.StringMatching("[ -~]{0,5}")), true},
		{"text", types.CreateLongText(sql.Collation_utf8mb4_0900_ai_ci), words, true},
		{"varbinary", types.MustCreateBinary(sqltypes.VarBinary, 100), drawBytes, true},
		{"blob", types.LongBlob, drawBytes, true},
		{"json", types.JSON, document, false},
		{"geometry", types.GeometryType{}, geometry, false},
		{"vector", must(types.CreateVectorType(2)), func(t *rapid.T) any {
			return sql.EncodeVector([]float32{rapid.Float32().Draw(t, "x"), 2})
		}, false},
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// nullable draws NULL now and then.
func (s sample) nullable(t *rapid.T) any {
	if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
		return nil
	}
	return s.draw(t)
}
