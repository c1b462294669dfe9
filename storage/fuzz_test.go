package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// refuse requires a decoder's error to be one of those that a caller expects.
func refuse(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func FuzzDecodeVote(f *testing.F) {
	f.Add(goldenVote.AppendBinary(nil))
	f.Add((&Vote{State: VoteAborted}).AppendBinary(nil))
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeVote(b)
		if err != nil {
			refuse(t, err)
			return
		}
		again, err := DecodeVote(v.AppendBinary(nil))
		require.NoError(t, err)
		require.Equal(t, v, again)
	})
}

func FuzzDecodeIntent(f *testing.F) {
	f.Add(goldenIntent.AppendBinary(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := DecodeIntent(b)
		if err != nil {
			refuse(t, err)
			return
		}
		require.Equal(t, b, in.AppendBinary(nil))
	})
}

// FuzzDecodeLocks puts the right checksum behind the input, so that the fields
// behind the check are reached.
func FuzzDecodeLocks(f *testing.F) {
	full := goldenLocks.AppendBinary(nil)
	f.Add(full[:len(full)-8])
	f.Add((&LockRecord{Epoch: 1, Generation: 1}).AppendBinary(nil)[:6])
	f.Add([]byte{1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(goldenLockID.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeLockID(b); err == nil {
			require.Equal(t, b, id.appendTo(nil))
		} else {
			refuse(t, err)
		}
		if _, err := DecodeLockRecord(b); err != nil {
			refuse(t, err)
		}
		r, err := DecodeLockRecord(binary.BigEndian.AppendUint64(append([]byte(nil), b...), xxhash.Sum64(b)))
		if err != nil {
			refuse(t, err)
			return
		}
		again, err := DecodeLockRecord(r.AppendBinary(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func FuzzDecodeSmall(f *testing.F) {
	f.Add(goldenTxn.Append(nil))
	f.Add(Applied{Replica: 1, Index: 2}.AppendBinary(nil))
	f.Add(appendVersion(nil, versionValue, 5, []byte("v")))
	f.Add(appendVersion(nil, versionTombstone, 5, nil))
	f.Add(encodeFormat(1))
	f.Add(appendSuffix(appendRecordKey(nil, 1, kindVersion, "k"), 5)[spaceSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, rest, err := DecodeTxnID(b); err != nil {
			refuse(t, err)
		} else {
			require.Equal(t, b, append(id.Append(nil), rest...))
		}
		if a, err := DecodeApplied(b); err != nil {
			refuse(t, err)
		} else {
			require.Equal(t, b, a.AppendBinary(nil))
		}
		if value, start, tombstone, err := decodeVersion(b); err != nil {
			refuse(t, err)
		} else {
			tag := byte(versionValue)
			if tombstone {
				tag = versionTombstone
			}
			require.Equal(t, b, appendVersion(nil, tag, start, value))
		}
		if version, err := decodeFormat(b); err != nil {
			refuse(t, err)
		} else {
			require.Equal(t, b, encodeFormat(version))
		}
		if err := validateKey(b); err != nil {
			refuse(t, err)
		}
		_ = splitKey(b)
	})
}

// FuzzStream restores whatever comes. A stream that is taken must come out of
// the space again with the same pairs.
func FuzzStream(f *testing.F) {
	good := goldenStream(f)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append([]byte(streamMagic), streamVersion))
	var huge bytes.Buffer
	w, err := newFrameWriter(&huge, oneSpace)
	require.NoError(f, err)
	require.NoError(f, w.block(frameMaxRaw, []byte{0x80, 0x80, 0x80, 0x80, 0x04}))
	f.Add(huge.Bytes())
	e, err := Open(Options{Dir: "fuzz", FS: vfs.NewMem()})
	require.NoError(f, err)
	f.Cleanup(func() { _ = e.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		s := e.Space(1)
		if err := s.Restore(bytes.NewReader(b)); err != nil {
			refuse(t, err)
			return
		}
		st := s.StreamSnapshot()
		var out bytes.Buffer
		require.NoError(t, st.WriteTo(&out, nil))
		require.NoError(t, st.Close())
		require.Equal(t, pairs(t, b), pairs(t, out.Bytes()))
	})
}

// FuzzRangeStream is FuzzStream of several spaces. No other space is touched, and what is
// refused changes nothing.
func FuzzRangeStream(f *testing.F) {
	good := goldenRange(f)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(threeSpaces)
	f.Add((&extent{first: 1, last: 4, several: true}).header())
	for _, k := range [][]byte{
		appendRecordKey(nil, 0, kindMeta, "m"), appendRecordKey(nil, 4, kindMeta, "m"), {0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 2},
	} {
		var out bytes.Buffer
		w, err := newFrameWriter(&out, threeSpaces)
		require.NoError(f, err)
		_, err = w.add(k, nil)
		require.NoError(f, err)
		require.NoError(f, w.end())
		f.Add(out.Bytes())
	}
	e, err := Open(Options{Dir: "fuzz", FS: vfs.NewMem()})
	require.NoError(f, err)
	f.Cleanup(func() { _ = e.Close() })
	before := goldenRange(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := e.Range(1, 3)
		require.NoError(t, r.Restore(bytes.NewReader(before)))
		want := pairsOf(t, before, threeSpaces)
		if err := r.Restore(bytes.NewReader(b)); err != nil {
			refuse(t, err)
		} else {
			want = pairsOf(t, b, threeSpaces)
		}
		st := r.StreamSnapshot()
		var out bytes.Buffer
		require.NoError(t, st.WriteTo(&out, nil))
		require.NoError(t, st.Close())
		require.Equal(t, want, pairsOf(t, out.Bytes(), threeSpaces))
		spaces, err := e.Spaces()
		require.NoError(t, err)
		for _, s := range spaces {
			require.True(t, 1 <= s && s <= 3, "space %d", s)
		}
	})
}

// pairs lists what a complete stream carries.
func pairs(t *testing.T, b []byte) []string { return pairsOf(t, b, oneSpace) }

func pairsOf(t *testing.T, b, header []byte) (out []string) {
	f, err := newFrameReader(bytes.NewReader(b), header)
	require.NoError(t, err)
	for {
		k, v, err := f.next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, string(k), string(v))
	}
}
