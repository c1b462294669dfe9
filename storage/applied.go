package storage

import "encoding/binary"

// Applied says how far a replica has applied its log. It is written in the same
// batch as the data, so the two never disagree.
type Applied struct {
	Replica uint64
	Index   uint64
}

// Encoding of the applied record: a version byte, replica and index (8 bytes
// each, big endian).
const (
	appliedVersion = 1
	appliedSize    = 1 + 8 + 8
)

// AppendBinary adds the stored form of the record.
func (a Applied) AppendBinary(dst []byte) []byte {
	dst = append(dst, appliedVersion)
	dst = binary.BigEndian.AppendUint64(dst, a.Replica)
	return binary.BigEndian.AppendUint64(dst, a.Index)
}

// DecodeApplied reads the stored form.
func DecodeApplied(b []byte) (Applied, error) {
	if len(b) != appliedSize {
		return Applied{}, corruptf("applied record of %d bytes", len(b))
	}
	if b[0] != appliedVersion {
		return Applied{}, corruptf("applied record version %d", b[0])
	}
	return Applied{
		Replica: binary.BigEndian.Uint64(b[1:]),
		Index:   binary.BigEndian.Uint64(b[9:]),
	}, nil
}
