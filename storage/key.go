package storage

import (
	"encoding/binary"
	"fmt"
)

// Key is a user's key inside one shard: any bytes, compared bytewise.
type Key []byte

// kind separates the records of a space. The values are stored; their order is
// the order of the space and of a snapshot stream.
type kind byte

const (
	kindApplied kind = 0x10 // no body
	kindMeta    kind = 0x20 // body: the record's name
	kindVote    kind = 0x30 // body: the encoded TxnID
	kindStaged  kind = 0x34 // body: the encoded TxnID and the chunk's number (4 bytes, big endian)
	kindLock    kind = 0x38 // body: the encoded LockID
	kindIntent  kind = 0x40 // body: the user's key
	kindVersion kind = 0x50 // body: the user's key; always with a timestamp
	kindEnd     kind = 0xff // sorts after every record of the space
)

// Parts of a physical key; doc.go shows the whole.
const (
	spaceSize    = 8
	headerSize   = spaceSize + 1 // space and kind
	sentinel     = 0x00          // ends the part in front of the timestamp
	sentinelSize = 1
	suffixSize   = 9 // inverted timestamp and the suffix's own length
)

// appendRecordKey adds the key of a record that has no timestamp: an intent, a
// vote, a meta record, the applied record; or, of kindVersion, the part of a
// version's key in front of its timestamp.
func appendRecordKey[B ~[]byte | ~string](dst []byte, space uint64, k kind, body B) []byte {
	dst = binary.BigEndian.AppendUint64(dst, space)
	dst = append(dst, byte(k))
	dst = append(dst, body...)
	return append(dst, sentinel)
}

// appendSuffix turns a kindVersion key without a timestamp into that of the
// version committed at commit. Inverting makes newer versions sort first.
func appendSuffix(dst []byte, commit Timestamp) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(commit))
	return append(dst, suffixSize)
}

// recordKeySize is the length of appendRecordKey's output for a body.
func recordKeySize(body int) int { return headerSize + body + sentinelSize }

// splitKey returns where a physical key's timestamp begins: the length of the
// key if it has none. A bare timestamp splits at 0.
func splitKey(k []byte) int {
	n := len(k)
	if n >= suffixSize && k[n-1] == suffixSize {
		return n - suffixSize
	}
	return n
}

// bodyOf returns the body of a key that is already split from its timestamp.
func bodyOf(prefix []byte) []byte { return prefix[headerSize : len(prefix)-sentinelSize] }

// commitOf returns the timestamp of a version key that splits at n.
func commitOf(k []byte, n int) Timestamp {
	return Timestamp(^binary.BigEndian.Uint64(k[n:]))
}

// spaceEnd is the smallest key after every key of a space.
func spaceEnd(space uint64) []byte { return appendRecordKey(nil, space, kindEnd, "") }

// spaceStart is a key in front of every key of a space.
func spaceStart(space uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, space), sentinel)
}

// validateKey says what is wrong with a physical key without its space, as a
// snapshot stream carries it; nil if nothing is.
func validateKey(k []byte) error {
	n := splitKey(k)
	if n < 1+sentinelSize || k[n-1] != sentinel {
		return corruptf("key %x does not end in the sentinel", k)
	}
	body := n - 1 - sentinelSize
	switch kind(k[0]) {
	case kindApplied:
		if body != 0 || n != len(k) {
			return corruptf("applied record with key %x", k)
		}
	case kindMeta:
		if n != len(k) {
			return corruptf("meta record with key %x", k)
		}
	case kindVote:
		if body != TxnIDSize || n != len(k) {
			return corruptf("vote with key %x", k)
		}
	case kindStaged:
		if body != stagedBodySize || n != len(k) {
			return corruptf("staged chunk with key %x", k)
		}
	case kindLock:
		if body != lockIDSize || n != len(k) {
			return corruptf("lock record with key %x", k)
		}
		if _, err := decodeLockID(k[1 : n-sentinelSize]); err != nil {
			return err
		}
	case kindIntent:
		if n != len(k) {
			return corruptf("intent with key %x", k)
		}
	case kindVersion:
		if n == len(k) || !validCommit(commitOf(k, n)) {
			return corruptf("version with key %x", k)
		}
	default:
		return corruptf("key %x of unknown kind", k)
	}
	return nil
}

// validCommit reports whether a version may carry t.
func validCommit(t Timestamp) bool { return t != 0 && t <= MaxTimestamp }

// mustCommit panics on a commit timestamp that no version may carry: the caller
// has computed nonsense, and storing it would break the order of versions.
func mustCommit(t Timestamp) {
	if !validCommit(t) {
		panic(fmt.Sprintf("storage: commit timestamp %d out of range", uint64(t)))
	}
}
