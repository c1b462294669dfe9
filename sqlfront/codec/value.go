package codec

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// The wire form of a value is its length rule, so that a reader can skip a column whose type it no longer knows.
const (
	wireVarint = 0 // a uvarint
	wireFixed  = 1 // eight bytes, little endian
	wireBytes  = 2 // a uvarint length and that many bytes
	wireNull   = 3 // nothing
	wireBits   = 2
	wireMask   = 1<<wireBits - 1
)

func (k kind) wire() uint64 {
	switch k {
	case kindFloat64:
		return wireFixed
	case kindDecimal, kindString, kindBytes, kindJSON, kindGeometry:
		return wireBytes
	case kindNull:
		return wireNull
	}
	return wireVarint
}

// zigzag maps small magnitudes of either sign to small numbers.
func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// appendPayload appends what follows the tag of a native, non-NULL value.
func (k kind) appendPayload(ctx context.Context, dst []byte, v any) ([]byte, error) {
	switch k {
	case kindInt8:
		return binary.AppendUvarint(dst, zigzag(int64(v.(int8)))), nil
	case kindInt16, kindYear:
		return binary.AppendUvarint(dst, zigzag(int64(v.(int16)))), nil
	case kindInt32:
		return binary.AppendUvarint(dst, zigzag(int64(v.(int32)))), nil
	case kindInt64:
		return binary.AppendUvarint(dst, zigzag(v.(int64))), nil
	case kindUint8:
		return binary.AppendUvarint(dst, uint64(v.(uint8))), nil
	case kindUint16, kindEnum:
		return binary.AppendUvarint(dst, uint64(v.(uint16))), nil
	case kindUint32:
		return binary.AppendUvarint(dst, uint64(v.(uint32))), nil
	case kindUint64:
		return binary.AppendUvarint(dst, v.(uint64)), nil
	case kindFloat32:
		return binary.AppendUvarint(dst, uint64(math.Float32bits(v.(float32)))), nil
	case kindFloat64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.(float64))), nil
	case kindString:
		s := v.(string)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...), nil
	case kindBytes:
		b := v.([]byte)
		return append(binary.AppendUvarint(dst, uint64(len(b))), b...), nil
	case kindTime, kindDate:
		return binary.AppendUvarint(dst, packTime(v.(time.Time))), nil
	case kindSpan:
		return binary.AppendUvarint(dst, zigzag(int64(v.(types.Timespan)))), nil
	case kindDecimal:
		return appendSized(dst, func(dst []byte) ([]byte, error) { return appendDecimal(dst, v.(*apd.Decimal)) })
	case kindJSON:
		document, err := v.(sql.JSONWrapper).ToInterface(ctx)
		if err != nil {
			return nil, err
		}
		return appendSized(dst, func(dst []byte) ([]byte, error) { return appendJSON(dst, document, 0) })
	case kindGeometry:
		b := v.(types.GeometryValue).Serialize()
		return append(binary.AppendUvarint(dst, uint64(len(b))), b...), nil
	}
	return nil, fmt.Errorf("value of Go type %T cannot be stored", v)
}

// appendSized appends what body appends, with its length in front.
func appendSized(dst []byte, body func([]byte) ([]byte, error)) ([]byte, error) {
	var scratch [64]byte
	b, err := body(scratch[:0])
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...), nil
}

// decodePayload reads a value of kind k, and returns what follows it.
func (k kind) decodePayload(b []byte) (v any, rest []byte, err error) {
	switch k.wire() {
	case wireVarint:
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, nil, ErrCorrupt
		}
		v, err = k.fromVarint(u)
		return v, b[n:], err
	case wireFixed:
		if len(b) < 8 {
			return nil, nil, ErrCorrupt
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8:], nil
	case wireBytes:
		body, rest, err := sized(b)
		if err != nil {
			return nil, nil, err
		}
		v, err = k.fromBytes(body)
		return v, rest, err
	}
	return nil, nil, ErrCorrupt
}

func (k kind) fromVarint(u uint64) (any, error) {
	switch k {
	case kindInt8:
		return fits[int8](unzigzag(u))
	case kindInt16, kindYear:
		return fits[int16](unzigzag(u))
	case kindInt32:
		return fits[int32](unzigzag(u))
	case kindInt64:
		return unzigzag(u), nil
	case kindUint8:
		return fitsUnsigned[uint8](u)
	case kindUint16, kindEnum:
		return fitsUnsigned[uint16](u)
	case kindUint32:
		return fitsUnsigned[uint32](u)
	case kindUint64:
		return u, nil
	case kindFloat32:
		if u > math.MaxUint32 {
			return nil, ErrCorrupt
		}
		return math.Float32frombits(uint32(u)), nil
	case kindTime, kindDate:
		return unpackTime(u), nil
	case kindSpan:
		return types.Timespan(unzigzag(u)), nil
	}
	return nil, ErrCorrupt
}

func (k kind) fromBytes(b []byte) (any, error) {
	switch k {
	case kindString:
		return string(b), nil
	case kindBytes:
		return append(make([]byte, 0, len(b)), b...), nil
	case kindDecimal:
		return decodeDecimal(b)
	case kindJSON:
		return decodeJSON(b)
	case kindGeometry:
		return decodeGeometry(b)
	}
	return nil, ErrCorrupt
}

func fits[T int8 | int16 | int32](v int64) (any, error) {
	if int64(T(v)) != v {
		return nil, ErrCorrupt
	}
	return T(v), nil
}

func fitsUnsigned[T uint8 | uint16 | uint32](u uint64) (any, error) {
	if uint64(T(u)) != u {
		return nil, ErrCorrupt
	}
	return T(u), nil
}

// sized splits b into a length-prefixed body and the rest.
func sized(b []byte) (body, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, ErrCorrupt
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// skipPayload returns what follows a value of a wire form.
func skipPayload(wire uint64, b []byte) ([]byte, error) {
	switch wire {
	case wireVarint:
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, ErrCorrupt
		}
		return b[n:], nil
	case wireFixed:
		if len(b) < 8 {
			return nil, ErrCorrupt
		}
		return b[8:], nil
	case wireBytes:
		_, rest, err := sized(b)
		return rest, err
	}
	return b, nil
}

// packTime keeps microseconds since 1970 in UTC. Whole seconds, by far the most common, take half the bytes: the lowest bit
// tells them apart. The engine's zero date is a time like any other (the last day of November of the year -1).
func packTime(t time.Time) uint64 {
	micros := t.UnixMicro()
	if micros%1e6 == 0 {
		return zigzag(micros/1e6) << 1
	}
	return zigzag(micros)<<1 | 1
}

func unpackTime(u uint64) time.Time {
	v := unzigzag(u >> 1)
	if u&1 == 0 {
		return time.Unix(v, 0).UTC()
	}
	return time.UnixMicro(v).UTC()
}

// appendDecimal keeps sign, exponent and coefficient, so that 1.50 stays 1.50.
func appendDecimal(dst []byte, d *apd.Decimal) ([]byte, error) {
	if d.Form != apd.Finite {
		return nil, fmt.Errorf("decimal %s cannot be stored", d)
	}
	head := zigzag(int64(d.Exponent)) << 1
	if d.Negative {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	if !d.Coeff.IsUint64() {
		return append(dst, d.Coeff.Bytes()...), nil
	}
	for u, shift := d.Coeff.Uint64(), 56; shift >= 0; shift -= 8 {
		if u>>shift != 0 {
			dst = append(dst, byte(u>>shift))
		}
	}
	return dst, nil
}

func decodeDecimal(b []byte) (any, error) {
	head, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, ErrCorrupt
	}
	exponent := unzigzag(head >> 1)
	if int64(int32(exponent)) != exponent {
		return nil, ErrCorrupt
	}
	d := &apd.Decimal{Negative: head&1 != 0, Exponent: int32(exponent)}
	d.Coeff.SetBytes(b[n:])
	return d, nil
}
