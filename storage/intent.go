package storage

import "encoding/binary"

// Intent is a write that waits for its transaction's outcome. A key carries at
// most one.
type Intent struct {
	Txn       TxnID
	Prepare   Timestamp // the vote's prepare timestamp; 0 while only staged
	Value     []byte
	Tombstone bool
}

// blank is what stands in the store, as an empty value, where a key's intent was
// removed: it reads like no record at all. Streams and checksums pass over it.
func blank(stored []byte) bool { return len(stored) == 0 }

// Encoding of an intent: a version byte, a flags byte, the transaction id, the
// prepare timestamp (8 bytes, big endian), the value up to the end.
const (
	intentVersion    = 1
	intentTombstone  = 1 << 0
	intentHeaderSize = 2 + TxnIDSize + 8
)

// encodedSize is the length of AppendBinary's output.
func (in *Intent) encodedSize() int { return intentHeaderSize + len(in.Value) }

// AppendBinary adds the stored form of the intent.
func (in *Intent) AppendBinary(dst []byte) []byte {
	var flags byte
	if in.Tombstone {
		flags |= intentTombstone
	}
	dst = append(dst, intentVersion, flags)
	dst = in.Txn.Append(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(in.Prepare))
	return append(dst, in.Value...)
}

// DecodeIntent reads the stored form. Value points into b.
func DecodeIntent(b []byte) (Intent, error) {
	if len(b) < intentHeaderSize {
		return Intent{}, corruptf("intent of %d bytes", len(b))
	}
	if b[0] != intentVersion {
		return Intent{}, corruptf("intent version %d", b[0])
	}
	if b[1]&^intentTombstone != 0 {
		return Intent{}, corruptf("intent flags %#x", b[1])
	}
	id, rest, err := DecodeTxnID(b[2:])
	if err != nil {
		return Intent{}, err
	}
	return Intent{
		Txn:       id,
		Prepare:   Timestamp(binary.BigEndian.Uint64(rest)),
		Value:     rest[8:],
		Tombstone: b[1]&intentTombstone != 0,
	}, nil
}
