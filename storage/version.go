package storage

import "encoding/binary"

// Encoding of a version: one tag byte, the writer's start timestamp (8 bytes,
// big endian), the value up to the end. The tag is both version byte and type;
// a later format takes further tags.
const (
	versionValue      = 1
	versionTombstone  = 2
	versionHeaderSize = 1 + 8
)

// appendVersion adds the stored form of a version.
func appendVersion(dst []byte, tag byte, start Timestamp, value []byte) []byte {
	dst = append(dst, tag)
	dst = binary.BigEndian.AppendUint64(dst, uint64(start))
	return append(dst, value...)
}

// decodeVersion reads the stored form. The value points into b and is not nil
// unless the version is a tombstone.
func decodeVersion(b []byte) (value []byte, start Timestamp, tombstone bool, err error) {
	if len(b) < versionHeaderSize {
		return nil, 0, false, corruptf("version of %d bytes", len(b))
	}
	start = Timestamp(binary.BigEndian.Uint64(b[1:]))
	value = b[versionHeaderSize:]
	switch b[0] {
	case versionValue:
		return value, start, false, nil
	case versionTombstone:
		if len(value) != 0 {
			return nil, 0, false, corruptf("tombstone with a value of %d bytes", len(value))
		}
		return nil, start, true, nil
	}
	return nil, 0, false, corruptf("version tag %d", b[0])
}
