package storage

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// The values whose encodings the golden files fix.
var (
	goldenTxn    = TxnID{Start: MakeTimestamp(1_700_000_000_000, 3), Gateway: 0x0102, Seq: 7}
	goldenIntent = Intent{Txn: goldenTxn, Prepare: MakeTimestamp(1_700_000_000_001, 0), Value: []byte("value")}
	goldenVote   = Vote{
		State: VoteCommitted, Prepare: 300, Commit: 301, Hash: 0x1122334455667788,
		Participants: []uint64{1, 500}, Keys: []Key{Key("k"), {}}, Locks: []byte{0xaa},
	}
	goldenLockID = LockID{Source: LocksHandedOver, Txn: goldenTxn, Number: 5}
	goldenLocks  = LockRecord{Epoch: 3, Generation: 300, Flush: 0x1122334455667788, Heir: 4, Locks: []byte{0xaa, 0xbb}}
)

// TestGolden compares encodings with testdata/golden. What stands there is on
// users' disks: a change needs a new version of the format, never a new file.
func TestGolden(t *testing.T) {
	datadriven.RunTest(t, "testdata/golden/encodings", func(t *testing.T, d *datadriven.TestData) string {
		dump := func(b []byte) string { return hex.Dump(b) }
		switch d.Cmd {
		case "timestamp":
			return fmt.Sprintf("%016x %016x\n", uint64(MakeTimestamp(1_700_000_000_000, 3)), uint64(MaxTimestamp))
		case "txn":
			return dump(goldenTxn.Append(nil))
		case "key-intent":
			return dump(appendRecordKey(nil, 0x0102, kindIntent, "a\x00b"))
		case "key-version":
			return dump(appendSuffix(appendRecordKey(nil, 0x0102, kindVersion, "a\x00b"), goldenIntent.Prepare))
		case "key-vote":
			return dump(appendRecordKey(nil, 0x0102, kindVote, goldenTxn.Append(nil)))
		case "key-staged":
			return dump(appendRecordKey(nil, 0x0102, kindStaged, stagedBody(nil, goldenTxn, 0x0304)))
		case "key-meta":
			return dump(appendRecordKey(nil, 0x0102, kindMeta, "fence"))
		case "key-applied":
			return dump(appendRecordKey(nil, 0x0102, kindApplied, ""))
		case "space-bounds":
			return dump(spaceStart(0x0102)) + dump(spaceEnd(0x0102))
		case "version":
			return dump(appendVersion(nil, versionValue, goldenTxn.Start, []byte("value")))
		case "tombstone":
			return dump(appendVersion(nil, versionTombstone, goldenTxn.Start, nil))
		case "intent":
			return dump(goldenIntent.AppendBinary(nil))
		case "intent-delete":
			return dump((&Intent{Txn: goldenTxn, Prepare: 5, Tombstone: true}).AppendBinary(nil))
		case "vote":
			return dump(goldenVote.AppendBinary(nil))
		case "key-lock":
			return dump(appendRecordKey(nil, 0x0102, kindLock, goldenLockID.appendTo(nil)))
		case "lock":
			return dump(goldenLocks.AppendBinary(nil))
		case "applied":
			return dump(Applied{Replica: 3, Index: 1 << 40}.AppendBinary(nil))
		case "format":
			return string(encodeFormat(formatVersion))
		case "names":
			return fmt.Sprintf("comparer %s\nproperty %s\nfile %s\npebble format %d\n",
				comparer.Name, commitTimeProperty, formatFile, pebbleFormat)
		case "stream":
			// Snappy may compress otherwise on another machine, so what is fixed is
			// that these bytes are read, and that what is written reads the same.
			stored, err := hex.DecodeString(strings.Join(strings.Fields(d.Input), ""))
			require.NoError(t, err)
			require.Equal(t, pairs(t, stored), pairs(t, goldenStream(t)))
			return fmt.Sprintf("%q\n", pairs(t, stored))
		case "range-stream":
			stored, err := hex.DecodeString(strings.Join(strings.Fields(d.Input), ""))
			require.NoError(t, err)
			require.Equal(t, pairsOf(t, stored, threeSpaces), pairsOf(t, goldenRange(t), threeSpaces))
			return fmt.Sprintf("%q\n", pairsOf(t, stored, threeSpaces))
		}
		d.Fatalf(t, "unknown command")
		return ""
	})
}

// goldenStream is a small stream of every kind of record.
func goldenStream(t testing.TB) []byte {
	var out strings.Builder
	f, err := newFrameWriter(&out, oneSpace)
	require.NoError(t, err)
	add := func(k, v []byte) {
		_, err := f.add(k[spaceSize:], v)
		require.NoError(t, err)
	}
	add(appendRecordKey(nil, 1, kindApplied, ""), Applied{Replica: 3, Index: 9}.AppendBinary(nil))
	add(appendRecordKey(nil, 1, kindMeta, "fence"), []byte{5})
	add(appendRecordKey(nil, 1, kindVote, goldenTxn.Append(nil)), goldenVote.AppendBinary(nil))
	add(appendRecordKey(nil, 1, kindIntent, "key"), goldenIntent.AppendBinary(nil))
	add(appendSuffix(appendRecordKey(nil, 1, kindVersion, "key"), 20), appendVersion(nil, versionTombstone, 19, nil))
	require.NoError(t, f.end())
	return []byte(out.String())
}

// The headers of the streams in tests.
var (
	oneSpace    = (&extent{first: 1, last: 1}).header()
	threeSpaces = (&extent{first: 1, last: 3, several: true}).header()
)

// goldenRange is a small stream of the spaces 1 to 3, of which the second is empty.
func goldenRange(t testing.TB) []byte {
	var out bytes.Buffer
	f, err := newFrameWriter(&out, threeSpaces)
	require.NoError(t, err)
	for space := uint64(1); space <= 3; space += 2 {
		for _, p := range [][2][]byte{
			{appendRecordKey(nil, space, kindApplied, ""), Applied{Replica: 3, Index: space}.AppendBinary(nil)},
			{appendSuffix(appendRecordKey(nil, space, kindVersion, "key"), 20), appendVersion(nil, versionTombstone, 19, nil)},
		} {
			_, err := f.add(p[0], p[1])
			require.NoError(t, err)
		}
	}
	require.NoError(t, f.end())
	return out.Bytes()
}

// TestGoldenDecodes reads the golden bytes back.
func TestGoldenDecodes(t *testing.T) {
	id, rest, err := DecodeTxnID(append(goldenTxn.Append(nil), 1))
	require.NoError(t, err)
	require.Equal(t, goldenTxn, id)
	require.Equal(t, []byte{1}, rest)
	in, err := DecodeIntent(goldenIntent.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, goldenIntent, in)
	v, err := DecodeVote(goldenVote.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, goldenVote, v)
	empty, err := DecodeVote((&Vote{State: VoteAborted}).AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, Vote{State: VoteAborted}, empty)
	l, err := DecodeLockRecord(goldenLocks.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, goldenLocks, l)
	lid, err := decodeLockID(goldenLockID.appendTo(nil))
	require.NoError(t, err)
	require.Equal(t, goldenLockID, lid)
	a, err := DecodeApplied(Applied{Replica: 3, Index: 9}.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, Applied{Replica: 3, Index: 9}, a)
	version, err := decodeFormat(encodeFormat(77))
	require.NoError(t, err)
	require.Equal(t, uint64(77), version)
}

// TestDecodersRefuse: every shortening of a record, unknown versions, states and
// flags, and trailing bytes are corruption.
func TestDecodersRefuse(t *testing.T) {
	refused := func(name string, b []byte, decode func([]byte) error) {
		require.ErrorIs(t, decode(b), ErrCorrupt, "%s %x", name, b)
	}
	vote := func(b []byte) error { _, err := DecodeVote(b); return err }
	intent := func(b []byte) error { _, err := DecodeIntent(b); return err }
	applied := func(b []byte) error { _, err := DecodeApplied(b); return err }
	version := func(b []byte) error { _, _, _, err := decodeVersion(b); return err }
	full := goldenVote.AppendBinary(nil)
	for n := range full {
		refused("vote", full[:n], vote)
	}
	refused("vote", append(full, 0), vote)
	refused("vote version", append([]byte{9}, full[1:]...), vote)
	refused("vote state", append([]byte{1, 4}, full[2:]...), vote)
	locks := func(b []byte) error { _, err := DecodeLockRecord(b); return err }
	full = goldenLocks.AppendBinary(nil)
	for n := range full {
		refused("lock record", full[:n], locks)
		damaged := append([]byte(nil), full...)
		damaged[n] ^= 0x10
		refused("damaged lock record", damaged, locks)
	}
	refused("lock record", append(full, 0), locks)
	id := func(b []byte) error { _, err := decodeLockID(b); return err }
	full = goldenLockID.appendTo(nil)
	refused("lock id", full[:len(full)-1], id)
	refused("lock id", append(full, 0), id)
	refused("lock source", append([]byte{3}, full[1:]...), id)
	full = goldenIntent.AppendBinary(nil)
	for n := range intentHeaderSize {
		refused("intent", full[:n], intent)
	}
	refused("intent version", append([]byte{2}, full[1:]...), intent)
	refused("intent flags", append([]byte{1, 2}, full[2:]...), intent)
	full = Applied{Replica: 1, Index: 2}.AppendBinary(nil)
	refused("applied", full[:len(full)-1], applied)
	refused("applied", append(full, 0), applied)
	refused("applied version", append([]byte{2}, full[1:]...), applied)
	refused("version", appendVersion(nil, versionValue, 1, nil)[:8], version)
	refused("version tag", appendVersion(nil, 3, 1, nil), version)
	refused("tombstone", appendVersion(nil, versionTombstone, 1, []byte("v")), version)
}
