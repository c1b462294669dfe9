package transport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

var (
	clusterA = [16]byte{0xaa, 15: 0x0a}
	clusterB = [16]byte{0xbb, 15: 0x0b}
)

func frame(kind frameKind, id uint64, payload string) []byte {
	return append(appendHeader(nil, kind, id, []byte(payload)), payload...)
}

// firstRelease is what the frames of the golden file speak, whatever this release does.
var firstRelease = shard.Versions{Oldest: 1, Newest: 1}

func samples() map[string][]byte {
	return map[string][]byte{
		"hello":           hello{versions: firstRelease, kind: kindRequests, from: Identity{clusterA, 3}, to: 2}.append(nil),
		"hello, joining":  hello{versions: firstRelease, kind: kindRequests}.append(nil),
		"hello, raft":     hello{versions: firstRelease, kind: kindRaft, from: Identity{clusterA, 65535}, to: 1}.append(nil),
		"hello, snapshot": hello{versions: firstRelease, kind: kindSnapshot, from: Identity{clusterA, 3}, to: 1}.append(nil),
		"hello, range":    hello{versions: shard.Versions{Oldest: 1, Newest: 9}, kind: kindRequests, from: Identity{clusterA, 3}, to: 2}.append(nil),
		"welcome":         welcome{versions: firstRelease, verdict: accepted, from: Identity{clusterA, 2}}.append(nil),
		"refusal":         welcome{versions: firstRelease, verdict: otherCluster, from: Identity{clusterB, 2}}.append(nil),
		"request":         frame(frameRequest, 1, "request"),
		"response":        frame(frameResponse, 1, "response"),
		"empty response":  frame(frameResponse, 1<<40, ""),
		"cancel":          frame(frameCancel, 2, ""),
		"heartbeat":       frame(frameHeartbeat, 0, ""),
		"refused":         frame(frameRefusal, 3, "why"),
	}
}

// TestFormatsAreStable compares with the golden file: nodes of different
// releases meet. Set UPDATE_GOLDEN to write it anew.
func TestFormatsAreStable(t *testing.T) {
	path := filepath.Join("testdata", "formats.golden")
	var lines []string
	for name, b := range samples() {
		lines = append(lines, fmt.Sprintf("%s: %s\n", name, hex.EncodeToString(b)))
	}
	slices.Sort(lines)
	got := strings.Join(lines, "")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestDamage changes every bit of every sample: none is taken for another
// message.
func TestDamage(t *testing.T) {
	for name, b := range samples() {
		for bit := range 8 * len(b) {
			damaged := bytes.Clone(b)
			damaged[bit/8] ^= 1 << (bit % 8)
			require.Error(t, readSample(name, damaged), "%s with bit %d changed", name, bit)
		}
		for n := range b {
			require.Error(t, readSample(name, b[:n]), "%s cut at %d", name, n)
		}
		require.NoError(t, readSample(name, b), name)
	}
}

func readSample(name string, b []byte) error {
	switch {
	case strings.HasPrefix(name, "hello"):
		return new(hello).decode(b, shard.Supported())
	case name == "welcome" || name == "refusal":
		return new(welcome).decode(b, shard.Supported())
	}
	_, _, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
	return err
}

// TestOpeningOfAnotherVersion: however long it is, the versions are understood, and the
// refusal names those of both sides.
func TestOpeningOfAnotherVersion(t *testing.T) {
	own := shard.Versions{Oldest: 2, Newest: 4}
	b, err := readOpening(strings.NewReader("RWLK\x07\x05"), helloSize, own)
	require.NoError(t, err)
	var h hello
	err = h.decode(b, own)
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "the other side speaks 5 to 7, this one 2 to 4")
	require.Equal(t, shard.Versions{Oldest: 5, Newest: 7}, h.versions)
	for _, strange := range []string{"GET / HTTP/1.1\r\n", "RWLK\x02\x03", "RWLK\x02\x00"} {
		b, err = readOpening(strings.NewReader(strange), helloSize, own)
		require.NoError(t, err)
		require.ErrorIs(t, h.decode(b, own), ErrProtocol, strange)
	}
	_, err = readOpening(strings.NewReader("RWLK\x02\x02\x01"), helloSize, own)
	require.Error(t, err)
}

func TestJudge(t *testing.T) {
	self := Identity{clusterA, 2}
	other := func(i Identity, k kind, to uint64) hello {
		return hello{versions: shard.Supported(), kind: k, from: i, to: to}
	}
	for _, c := range []struct {
		name string
		self Identity
		h    hello
		want verdict
	}{
		{"member", self, other(Identity{clusterA, 3}, kindRequests, 2), accepted},
		{"member, whoever answers", self, other(Identity{clusterA, 3}, kindRaft, 0), accepted},
		{"itself", self, other(self, kindRequests, 2), accepted},
		{"joining", self, other(Identity{}, kindRequests, 0), accepted},
		{"joining, with consensus", self, other(Identity{}, kindRaft, 0), unidentified},
		{"joining, with a snapshot", self, other(Identity{}, kindSnapshot, 0), unidentified},
		{"joining, at another node", self, other(Identity{}, kindRequests, 3), wrongNode},
		{"cluster without a node", self, other(Identity{Cluster: clusterA}, kindRequests, 0), unidentified},
		{"node without a cluster", self, other(Identity{Node: 3}, kindRequests, 0), otherCluster},
		{"other cluster", self, other(Identity{clusterB, 3}, kindRequests, 2), otherCluster},
		{"other node wanted", self, other(Identity{clusterA, 3}, kindRequests, 4), wrongNode},
		{"other version", self, hello{versions: shard.Versions{Oldest: shard.NewestVersion + 1, Newest: shard.NewestVersion + 2}}, otherVersion},
		{"at one that joins", Identity{}, other(Identity{clusterA, 3}, kindRequests, 0), notMember},
		{"both join", Identity{}, other(Identity{}, kindRequests, 0), notMember},
	} {
		require.Equal(t, c.want, c.self.judge(c.h, shard.Supported()), c.name)
	}
}

func TestPauses(t *testing.T) {
	for failures := range 100 {
		longest, shortest := pauseAfter(failures, 0), pauseAfter(failures, 1)
		require.LessOrEqual(t, longest, longPause)
		require.GreaterOrEqual(t, shortest, firstPause/2)
		require.Equal(t, longest/2, shortest)
		if failures > 0 {
			require.GreaterOrEqual(t, longest, pauseAfter(failures-1, 0))
		}
	}
	require.Equal(t, longPause, pauseAfter(6, 0))
}

// FuzzOpening: whatever is taken has exactly one encoding.
func FuzzOpening(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b, err := readOpening(bytes.NewReader(b), helloSize, shard.Supported())
		if err != nil {
			return
		}
		var h hello
		if h.decode(b, shard.Supported()) == nil {
			require.Equal(t, b, h.append(nil))
		}
		b = b[:min(len(b), welcomeSize)]
		var w welcome
		if w.decode(b, shard.Supported()) == nil {
			require.Equal(t, b, w.append(nil))
			require.Equal(t, w.verdict == accepted, w.refusal() == nil)
		}
	})
}

// FuzzFrames: whatever is taken has exactly one encoding, and no length is
// believed.
func FuzzFrames(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Add(append(appendHeader(nil, frameRequest, 1, make([]byte, 3)), "abcdef"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			h, payload, err := readFrame(r)
			if err != nil {
				break
			}
			again = append(appendHeader(again, h.kind, h.id, payload), payload...)
		}
		require.True(t, bytes.HasPrefix(b, again))
	})
}
