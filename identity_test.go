package rowlock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The identity file's text is fixed: directories of this release must open in
// every later one.
func TestIdentityGolden(t *testing.T) {
	id := identity{Node: 7, Cluster: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}
	const golden = "rowlock 1\nnode 7\ncluster 000102030405060708090a0b0c0d0e0f\ncrc32c 5f3a02ef\n"
	require.Equal(t, golden, string(id.encode()))
	back, err := decodeIdentity([]byte(golden))
	require.NoError(t, err)
	require.Equal(t, id, back)
}

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	first, err := loadIdentity(dir, false)
	require.NoError(t, err)
	require.NotZero(t, first.Cluster)
	second, err := loadIdentity(dir, false)
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestIdentityRefusals(t *testing.T) {
	good := string(identity{Node: 1}.encode())
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", errIdentityCorrupt},
		{"cut", good[:len(good)-4], errIdentityCorrupt},
		{"changed", "rowlock 1\nnode 2" + good[len("rowlock 1\nnode 1"):], errIdentityCorrupt},
		{"more", good + "x", errIdentityCorrupt},
		{"newer", "rowlock 2\nanything", errIdentityFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeIdentity([]byte(c.text))
			require.ErrorIs(t, err, c.want)
		})
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o644))
	_, err := loadIdentity(dir, false)
	require.ErrorIs(t, err, errIdentityFormat)
	require.ErrorContains(t, err, "thesis.tex")
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(identity{Node: 3}.encode())
	f.Add([]byte("rowlock 1\nnode 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := decodeIdentity(text); err == nil && string(id.encode()) != string(text) {
			t.Fatalf("accepted %q", text)
		}
	})
}

func TestDirectoryLock(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDirectory(dir)
	require.NoError(t, err)
	_, err = lockDirectory(dir)
	require.ErrorIs(t, err, errHeld)
	require.NoError(t, first.Close())
	again, err := lockDirectory(dir)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
