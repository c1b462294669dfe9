package logstore

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden file")

var goldenBootstrap = pb.Bootstrap{
	Addresses: map[uint64]string{1: "a"}, Type: pb.OnDiskStateMachine,
}

var goldenSnapshot = pb.Snapshot{
	Filepath: "f", FileSize: 7, Index: 100, Term: 3, ShardID: 5, OnDiskIndex: 99, Dummy: true,
	Membership: pb.Membership{ConfigChangeId: 2, Addresses: map[uint64]string{1: "a"}},
	Type:       pb.OnDiskStateMachine,
}

// TestGolden pins the bytes of every record: a change makes the stores of
// earlier releases unreadable and needs a new version.
func TestGolden(t *testing.T) {
	r := replica{group: 0x0102, id: 3}
	boot, err := appendMessage(nil, &goldenBootstrap)
	require.NoError(t, err)
	snap, err := appendMessage(nil, &goldenSnapshot)
	require.NoError(t, err)
	var b strings.Builder
	for _, line := range []struct {
		what  string
		bytes []byte
	}{
		{"format key", formatKey},
		{"format value", []byte{formatVersion}},
		{"bootstrap key", appendKey(nil, kindBootstrap, r)},
		{"bootstrap", boot},
		{"state key", appendKey(nil, kindState, r)},
		{"state", appendState(nil, pb.State{Term: 300, Vote: 2, Commit: 70000})},
		{"snapshot key", appendKey(nil, kindSnapshot, r)},
		{"snapshot", snap},
		{"entry key", appendEntryKey(nil, r, 0x0a0b0c)},
		{"entry", appendEntry(nil, &pb.Entry{Term: 300, Index: 1, Type: pb.EncodedEntry, Key: 0x0102030405060708, ClientID: 0x1112131415161718, SeriesID: 1, RespondedTo: 2, Cmd: []byte("command")})},
		{"entries end", appendEntriesEnd(nil, r)},
		{"entries end of the last replica", appendEntriesEnd(nil, replica{1, 1<<64 - 1})},
	} {
		fmt.Fprintf(&b, "%s: %s\n", line.what, hex.EncodeToString(line.bytes))
	}
	const file = "testdata/golden.txt"
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}
