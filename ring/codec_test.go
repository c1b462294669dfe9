package ring

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite-golden", false, "write testdata/*.golden anew: existing clusters would lose their rows")

// golden compares with a file in testdata. These files are promises to stored data: a difference
// is never fixed by writing the file anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *rewrite {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestGoldenMapping holds key -> token -> shard in place for the default ring.
func TestGoldenMapping(t *testing.T) {
	r := New(DefaultShards, DefaultVirtualNodes)
	var b strings.Builder
	keys := [][]byte{nil, {0}, {0xff}, []byte("a"), []byte("row"), []byte(strings.Repeat("long key ", 40))}
	for n := range uint64(40) {
		keys = append(keys, binary.BigEndian.AppendUint64(nil, n*n*n))
	}
	for _, k := range keys {
		fmt.Fprintf(&b, "%.40x %016x %d\n", k, uint64(TokenOf(k)), r.Shard(TokenOf(k)))
	}
	golden(t, "mapping", b.String())
}

// TestGoldenPoints holds the points of new rings in place: With must fit what is stored.
func TestGoldenPoints(t *testing.T) {
	var b strings.Builder
	for _, p := range New(DefaultShards, DefaultVirtualNodes).With(17).Points() {
		fmt.Fprintf(&b, "%016x %d\n", uint64(p.Token), p.Shard)
	}
	golden(t, "points", fmt.Sprintf("%016x\n%s", xxh3.HashString(b.String()), b.String()[:19*20]))
}

// TestGoldenFormat holds the stored form in place, in both directions.
func TestGoldenFormat(t *testing.T) {
	r := New(3, 2).With(4)
	golden(t, "format", hex.Dump(r.AppendBinary(nil)))
	again, err := Decode(r.AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, r, again)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t)
		prefix := rapid.SliceOf(rapid.Byte()).Draw(t, "prefix")
		again, err := Decode(r.AppendBinary(prefix)[len(prefix):])
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

// TestDecodeRefuses: every single changed, missing or added byte is noticed.
func TestDecodeRefuses(t *testing.T) {
	good := New(2, 2).AppendBinary(nil)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i]++
		_, err := Decode(bad)
		if i < 2 {
			require.ErrorIs(t, err, ErrFormat)
		} else {
			require.ErrorIs(t, err, ErrCorrupt, "byte %d", i)
		}
		_, err = Decode(good[:i])
		require.ErrorIs(t, err, ErrCorrupt, "%d bytes", i)
	}
	_, err := Decode(append(good, 0))
	require.ErrorIs(t, err, ErrCorrupt)
}

// sealed puts a right checksum on bytes, to get past it.
func sealed(body []byte) []byte { return binary.BigEndian.AppendUint64(body, xxh3.Hash(body)) }

// TestDecodeChecksContents: a right checksum does not make a ring.
func TestDecodeChecksContents(t *testing.T) {
	body := func(change func([]byte)) []byte {
		b := New(2, 2).AppendBinary(nil)
		b = b[:len(b)-checksumSize]
		change(b)
		return sealed(b)
	}
	for name, change := range map[string]func([]byte){
		"epoch 0":          func(b []byte) { clear(b[2:10]) },
		"no virtual nodes": func(b []byte) { clear(b[10:14]) },
		"no points":        func(b []byte) { clear(b[14:18]) },
		"too many points":  func(b []byte) { b[14] = 0xff },
		"one point more":   func(b []byte) { b[17]++ },
		"system shard":     func(b []byte) { clear(b[headerSize+8 : headerSize+12]) },
		"out of order":     func(b []byte) { b[headerSize] = 0xff },
		"a point twice":    func(b []byte) { copy(b[headerSize:], b[headerSize+pointSize:headerSize+2*pointSize]) },
	} {
		_, err := Decode(body(change))
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
}

// FuzzDecode: no bytes make Decode panic, and what it accepts it writes back byte for byte.
func FuzzDecode(f *testing.F) {
	for _, r := range []*Ring{New(1, 1), New(3, 2), New(16, 8).With(17)} {
		b := r.AppendBinary(nil)
		f.Add(b[:len(b)-checksumSize])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealed(append([]byte(nil), b...))} {
			r, err := Decode(b)
			if err != nil {
				continue
			}
			if string(r.AppendBinary(nil)) != string(b) {
				t.Fatalf("%x is written back as %x", b, r.AppendBinary(nil))
			}
			r.Shard(0)
		}
	})
}
