package catalog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// The first byte of a record is its version; decoding refuses others. Records have the
// first one wherever a release that knows no other can use them.
const (
	recordFirst = 1
	// recordBlocks is of tables whose rows are placed by blocks.
	recordBlocks = 2
)

// Versioned is a value whose record may have another version than the first.
type Versioned interface{ RecordVersion() byte }

// RecordVersion implements Versioned: who does not know of blocks would look for rows in
// the wrong places.
func (t *Table) RecordVersion() byte {
	if t != nil && t.Blocks > 0 {
		return recordBlocks
	}
	return recordFirst
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt means that a stored record is not what was written.
var ErrCorrupt = errors.New("catalog: corrupt record")

// ErrFormat means that a record was written by a newer format.
var ErrFormat = errors.New("catalog: unknown record format")

// EncodeRecord returns v at rest: version byte, JSON, CRC-32C of both.
func EncodeRecord(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("catalog: encode %T: %w", v, err)
	}
	out := make([]byte, 0, len(body)+5)
	version := byte(recordFirst)
	if v, ok := v.(Versioned); ok {
		version = v.RecordVersion()
	}
	out = append(out, version)
	out = append(out, body...)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli)), nil
}

// DecodeRecord reads into v what EncodeRecord wrote.
func DecodeRecord(data []byte, v any) error {
	if len(data) < 5 {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(data))
	}
	body, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	if body[0] != recordFirst && body[0] != recordBlocks {
		return fmt.Errorf("%w %d", ErrFormat, body[0])
	}
	if err := json.Unmarshal(body[1:], v); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}
