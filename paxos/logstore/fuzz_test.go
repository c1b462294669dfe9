package logstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

func FuzzDecodeKey(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendKey(nil, kindState, replica{1, 2}))
	f.Add(appendEntryKey(nil, replica{1, 2}, 3))
	f.Fuzz(func(t *testing.T, key []byte) {
		k, r, index, err := decodeKey(key)
		if err != nil {
			return
		}
		again := appendKey(nil, k, r)
		if k == kindEntry {
			again = appendEntryKey(nil, r, index)
		}
		require.Equal(t, key, again)
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendEntry(nil, &pb.Entry{Term: 1, Type: pb.EncodedEntry, Key: 2, ClientID: 3, SeriesID: 4, RespondedTo: 5, Cmd: []byte("c")}))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decodeEntry(9, value)
		if err != nil {
			return
		}
		again, err := decodeEntry(9, appendEntry(nil, &e))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendState(nil, pb.State{Term: 1, Vote: 2, Commit: 3}))
	for _, m := range []message{&goldenBootstrap, &goldenSnapshot} {
		v, err := appendMessage(nil, m)
		require.NoError(f, err)
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if s, err := decodeState(value); err == nil {
			again, err := decodeState(appendState(nil, s))
			require.NoError(t, err)
			require.Equal(t, s, again)
		}
		// Garbage may or may not decode; it must not bring the process down.
		_ = decodeMessage(value, &pb.Bootstrap{})
		_ = decodeMessage(value, &pb.Snapshot{})
	})
}
