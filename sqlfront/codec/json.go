package codec

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// A JSON document is stored as a tree of tagged values rather than as text: the engine tells integers, unsigned integers,
// decimals and doubles apart, and a document read back has to print and compare as the one that was written.
const (
	jsonNull = iota
	jsonFalse
	jsonTrue
	jsonInt
	jsonUint
	jsonDouble
	jsonString
	jsonArray
	jsonObject
	jsonDecimal
	jsonTime
	jsonSpan
)

// maxJSONDepth is the depth at which Go's own JSON reader stops; nothing deeper comes out of a parsed text.
const maxJSONDepth = 10000

func appendJSON(dst []byte, v any, depth int) ([]byte, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("JSON document is nested deeper than %d", maxJSONDepth)
	}
	switch v := v.(type) {
	case nil:
		return append(dst, jsonNull), nil
	case bool:
		if v {
			return append(dst, jsonTrue), nil
		}
		return append(dst, jsonFalse), nil
	case string:
		dst = binary.AppendUvarint(append(dst, jsonString), uint64(len(v)))
		return append(dst, v...), nil
	case float64:
		return binary.LittleEndian.AppendUint64(append(dst, jsonDouble), math.Float64bits(v)), nil
	case float32:
		return appendJSON(dst, float64(v), depth)
	case int64:
		return binary.AppendUvarint(append(dst, jsonInt), zigzag(v)), nil
	case uint64:
		return binary.AppendUvarint(append(dst, jsonUint), v), nil
	case time.Time:
		return binary.AppendUvarint(append(dst, jsonTime), packTime(v)), nil
	case types.Timespan:
		return binary.AppendUvarint(append(dst, jsonSpan), zigzag(int64(v))), nil
	case *apd.Decimal:
		return appendSized(append(dst, jsonDecimal), func(b []byte) ([]byte, error) { return appendDecimal(b, v) })
	case []any:
		return appendJSONArray(dst, v, depth)
	case map[string]any:
		return appendJSONObject(dst, v, depth)
	}
	return appendOtherJSON(dst, v, depth)
}

func appendJSONArray(dst []byte, items []any, depth int) (_ []byte, err error) {
	dst = binary.AppendUvarint(append(dst, jsonArray), uint64(len(items)))
	for _, item := range items {
		if dst, err = appendJSON(dst, item, depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendJSONObject writes members in the order of their names: equal documents have equal bytes.
func appendJSONObject(dst []byte, members map[string]any, depth int) (_ []byte, err error) {
	dst = binary.AppendUvarint(append(dst, jsonObject), uint64(len(members)))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		dst = append(binary.AppendUvarint(dst, uint64(len(name))), name...)
		if dst, err = appendJSON(dst, members[name], depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendOtherJSON takes the small integers and whatever else the engine's functions may leave in a document.
func appendOtherJSON(dst []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case int:
		return appendJSON(dst, int64(v), depth)
	case int8:
		return appendJSON(dst, int64(v), depth)
	case int16:
		return appendJSON(dst, int64(v), depth)
	case int32:
		return appendJSON(dst, int64(v), depth)
	case uint:
		return appendJSON(dst, uint64(v), depth)
	case uint8:
		return appendJSON(dst, uint64(v), depth)
	case uint16:
		return appendJSON(dst, uint64(v), depth)
	case uint32:
		return appendJSON(dst, uint64(v), depth)
	case types.JSONDocument:
		return appendJSON(dst, v.Val, depth)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("value of Go type %T in a JSON document: %w", v, err)
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	return appendJSON(dst, plain, depth)
}

func decodeJSON(b []byte) (any, error) {
	v, rest, err := decodeJSONValue(b, 0)
	if err == nil && len(rest) != 0 {
		err = ErrCorrupt
	}
	if err != nil {
		return nil, err
	}
	return types.JSONDocument{Val: v}, nil
}

func decodeJSONValue(b []byte, depth int) (v any, rest []byte, err error) {
	if len(b) == 0 || depth > maxJSONDepth {
		return nil, nil, ErrCorrupt
	}
	tag, b := b[0], b[1:]
	switch tag {
	case jsonNull:
		return nil, b, nil
	case jsonFalse, jsonTrue:
		return tag == jsonTrue, b, nil
	case jsonInt:
		return kindInt64.decodePayload(b)
	case jsonUint:
		return kindUint64.decodePayload(b)
	case jsonDouble:
		return kindFloat64.decodePayload(b)
	case jsonString:
		return kindString.decodePayload(b)
	case jsonDecimal:
		return kindDecimal.decodePayload(b)
	case jsonTime:
		return kindTime.decodePayload(b)
	case jsonSpan:
		return kindSpan.decodePayload(b)
	case jsonArray:
		return decodeJSONArray(b, depth)
	case jsonObject:
		return decodeJSONObject(b, depth)
	}
	return nil, nil, ErrCorrupt
}

// count reads how many items follow; every item takes a byte at least, so a larger count is a lie and is not allocated for.
func count(b []byte) (n int, rest []byte, err error) {
	u, read := binary.Uvarint(b)
	if read <= 0 || u > uint64(len(b)-read) {
		return 0, nil, ErrCorrupt
	}
	return int(u), b[read:], nil
}

func decodeJSONArray(b []byte, depth int) (any, []byte, error) {
	n, b, err := count(b)
	if err != nil {
		return nil, nil, err
	}
	items := make([]any, n)
	for i := range items {
		if items[i], b, err = decodeJSONValue(b, depth+1); err != nil {
			return nil, nil, err
		}
	}
	return items, b, nil
}

func decodeJSONObject(b []byte, depth int) (any, []byte, error) {
	n, b, err := count(b)
	if err != nil {
		return nil, nil, err
	}
	members := make(map[string]any, n)
	for range n {
		var name []byte
		if name, b, err = sized(b); err != nil {
			return nil, nil, err
		}
		var v any
		if v, b, err = decodeJSONValue(b, depth+1); err != nil {
			return nil, nil, err
		}
		members[string(name)] = v
	}
	return members, b, nil
}
