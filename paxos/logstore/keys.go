package logstore

import (
	"encoding/binary"
	"fmt"
)

// kind is the first byte of a key.
type kind byte

const (
	kindBootstrap kind = 'b'
	kindEntry     kind = 'e'
	kindSnapshot  kind = 'n'
	kindState     kind = 's'
)

// formatKey sorts before all other keys.
var formatKey = []byte("!format")

// replica names one replica of one group.
type replica struct{ group, id uint64 }

const (
	replicaKeyLen = 1 + 8 + 8
	entryKeyLen   = replicaKeyLen + 8
)

// appendKey appends the key of a record of a replica, or the prefix of its
// entries.
func appendKey(dst []byte, k kind, r replica) []byte {
	dst = append(dst, byte(k))
	dst = binary.BigEndian.AppendUint64(dst, r.group)
	return binary.BigEndian.AppendUint64(dst, r.id)
}

// appendEntryKey appends the key of an entry.
func appendEntryKey(dst []byte, r replica, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(dst, kindEntry, r), index)
}

// appendEntriesEnd appends the smallest key after all entries of a replica:
// the entries' prefix counted up by one.
func appendEntriesEnd(dst []byte, r replica) []byte {
	start := len(dst)
	dst = appendKey(dst, kindEntry, r)
	for i := len(dst) - 1; i >= start; i-- {
		dst[i]++
		if dst[i] != 0 {
			break
		}
	}
	return dst
}

// decodeKey takes a key apart; index is zero unless it is an entry's.
func decodeKey(key []byte) (k kind, r replica, index uint64, err error) {
	if len(key) != replicaKeyLen && len(key) != entryKeyLen {
		return 0, replica{}, 0, fmt.Errorf("logstore: key of %d bytes", len(key))
	}
	k = kind(key[0])
	r = replica{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])}
	switch {
	case k == kindEntry && len(key) == entryKeyLen:
		return k, r, binary.BigEndian.Uint64(key[replicaKeyLen:]), nil
	case (k == kindBootstrap || k == kindSnapshot || k == kindState) && len(key) == replicaKeyLen:
		return k, r, 0, nil
	}
	return 0, replica{}, 0, fmt.Errorf("logstore: key of kind %q with %d bytes", byte(k), len(key))
}
