package storage

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// comparerName is stored in every file; Pebble refuses to open files written
// with another. It must change if the order ever does.
const comparerName = "rowlock.v1"

// comparer orders physical keys: first what is in front of the timestamp,
// bytewise, then the timestamp, none before any. The split lets Pebble build its
// bloom filters over keys without timestamps, so that one filter answers for all
// versions of a key.
//
// The two halves must be compared separately. The sentinel makes "a" sort before
// "a\x00", but the version keys of "a" and the key "a\x00" differ at a byte that
// is a timestamp in one and part of the key in the other.
var comparer = &pebble.Comparer{
	Name:                 comparerName,
	Split:                splitKey,
	Compare:              compareKeys,
	Equal:                bytes.Equal,
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	AbbreviatedKey: func(k []byte) uint64 {
		return pebble.DefaultComparer.AbbreviatedKey(k[:splitKey(k)])
	},
	Separator:          separator,
	Successor:          successor,
	ImmediateSuccessor: func(dst, a []byte) []byte { return append(append(dst, a...), sentinel) },
	FormatKey:          func(k []byte) fmt.Formatter { return physicalKey(k) },
}

// compareKeys is the order of physical keys.
func compareKeys(a, b []byte) int {
	an, bn := splitKey(a), splitKey(b)
	if c := bytes.Compare(a[:an], b[:bn]); c != 0 {
		return c
	}
	return bytes.Compare(a[an:], b[bn:])
}

// withoutSentinel returns the part in front of timestamp and sentinel; false if
// there is no sentinel, as in a bare timestamp.
func withoutSentinel(k []byte) ([]byte, bool) {
	n := splitKey(k)
	if n == 0 || k[n-1] != sentinel {
		return nil, false
	}
	return k[:n-1], true
}

// separator appends a key s with a <= s < b that is as short as it can easily
// be made; index blocks consist of such keys.
func separator(dst, a, b []byte) []byte {
	aBody, aOK := withoutSentinel(a)
	bBody, bOK := withoutSentinel(b)
	if !aOK || !bOK || bytes.Equal(aBody, bBody) {
		return append(dst, a...)
	}
	n := len(dst)
	dst = pebble.DefaultComparer.Separator(dst, aBody, bBody)
	if bytes.Equal(dst[n:], aBody) {
		return append(dst[:n], a...)
	}
	return append(dst, sentinel)
}

// successor appends a short key s with a <= s.
func successor(dst, a []byte) []byte {
	body, ok := withoutSentinel(a)
	if !ok {
		return append(dst, a...)
	}
	n := len(dst)
	dst = pebble.DefaultComparer.Successor(dst, body)
	if bytes.Equal(dst[n:], body) {
		return append(dst[:n], a...)
	}
	return append(dst, sentinel)
}

// physicalKey shows a key in Pebble's messages and tools.
type physicalKey []byte

// Format writes space/kind/body@commit, the body quoted; a key that is not one
// of ours is shown in hexadecimal.
func (k physicalKey) Format(f fmt.State, _ rune) {
	n := splitKey(k)
	if n < headerSize+sentinelSize || k[n-1] != sentinel {
		fmt.Fprintf(f, "%x", []byte(k))
		return
	}
	fmt.Fprintf(f, "%x/%x/%q", []byte(k[:spaceSize]), k[spaceSize], bodyOf(k[:n]))
	if n < len(k) {
		fmt.Fprintf(f, "@%d", uint64(commitOf(k, n)))
	}
}
