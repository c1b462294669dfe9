package codec

import (
	"fmt"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Raw values mean what Project gives, for all types, and in rows of which some columns
// came later.
func TestRawValues(t *testing.T) {
	ctx := sql.NewEmptyContext()
	columns, list := allColumns()
	for i, s := range list {
		if v := s.typ.Zero(); v != nil && i%2 == 0 {
			columns[i].Default = must(AppendDefault(ctx, nil, s.typ, v))
		}
	}
	now := must(NewRowCodec(7, columns))
	rapid.Check(t, func(t *rapid.T) {
		var old []Column // what the row was written with
		var row sql.Row
		for i, s := range list {
			if rapid.Bool().Draw(t, "was there") {
				old, row = append(old, columns[i]), append(row, s.nullable(t))
			}
		}
		data := must(must(NewRowCodec(6, old)).Append(ctx, nil, row))
		positions := rapid.SliceOfNDistinct(rapid.IntRange(0, len(list)-1), 0, 8, rapid.ID[int]).Draw(t, "positions")
		want := make(sql.Row, len(positions))
		require.NoError(t, now.Project(ctx, must(now.NewProjection(positions)), data, want))
		p := must(now.NewRawProjection(positions))
		got := make([]Raw, p.Len())
		require.NoError(t, p.Read(data, got))
		for i, position := range positions {
			require.Equal(t, fmt.Sprintf("%#v", want[i]), fmt.Sprintf("%#v", must(got[i].Value(columns[position].Type))))
		}
	})
}

func TestRawForms(t *testing.T) {
	for want, list := range map[RawForm][]sql.Type{
		RawSigned:   {types.Int8, types.Int16, types.Int24, types.Int32, types.Int64, types.Boolean},
		RawUnsigned: {types.Uint8, types.Uint16, types.Uint24, types.Uint32, types.Uint64},
		RawText:     {types.Text, types.LongText, types.MustCreateStringWithDefaults(types.Text.Type(), 10)},
		RawOther: {types.Year, types.Float32, types.Float64, types.Date, types.Time, types.Blob, types.JSON, types.MustCreateBitType(5),
			types.MustCreateEnumType([]string{"a"}, sql.Collation_Default), types.MustCreateSetType([]string{"a"}, sql.Collation_Default)},
	} {
		for _, typ := range list {
			require.Equal(t, want, RawFormOf(typ), "%s", typ)
		}
	}
	_, err := must(NewRowCodec(1, []Column{{ID: 1, Type: types.Int8}})).NewRawProjection([]int{0, 0})
	require.Error(t, err)
}

// FuzzRaw: damaged rows are refused where Project refuses them, and give the same values
// where it gives any.
func FuzzRaw(f *testing.F) {
	ctx := sql.NewEmptyContext()
	columns, list := allColumns()
	c := must(NewRowCodec(7, columns))
	positions := make([]int, len(list))
	for i := range positions {
		positions[i] = i
	}
	plain, p := must(c.NewProjection(positions)), must(c.NewRawProjection(positions))
	row := make(sql.Row, len(list))
	for i, s := range list {
		row[i] = s.typ.Zero()
	}
	f.Add(must(c.Append(ctx, nil, row)))
	f.Add([]byte{1, 7, 5, 200, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		want, got := make(sql.Row, len(list)), make([]Raw, len(list))
		err := c.Project(ctx, plain, data, want)
		require.Equal(t, err == nil, p.Read(data, got) == nil)
		if err != nil {
			return
		}
		for i := range want {
			require.Equal(t, fmt.Sprintf("%#v", want[i]), fmt.Sprintf("%#v", must(got[i].Value(columns[i].Type))))
		}
	})
}
