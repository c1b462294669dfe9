package dragon_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lni/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

func TestRefusedDirectories(t *testing.T) {
	dir := t.TempDir()
	h, err := dragon.Open(dragon.Options{Dir: dir})
	require.NoError(t, err)
	id := h.ID()
	_, err = dragon.Open(dragon.Options{Dir: dir})
	require.ErrorIs(t, err, paxos.ErrLocked)
	require.NoError(t, h.Close())

	_, err = dragon.Open(dragon.Options{Dir: dir, NodeHostID: "00000000-0000-4000-8000-000000000009"})
	require.ErrorIs(t, err, paxos.ErrForeign)
	_, err = dragon.Open(dragon.Options{Dir: dir, NodeHostID: "nobody"})
	require.Error(t, err)
	h, err = dragon.Open(dragon.Options{Dir: dir, NodeHostID: id})
	require.NoError(t, err)
	require.Equal(t, id, h.ID())
	require.NoError(t, h.Close())

	marker := filepath.Join(dir, "ROWLOCK")
	for content, want := range map[string]error{
		"rowlock paxos 2 " + id + "\n":     paxos.ErrFormat,
		"rowlock paxos 1 nobody\n":         paxos.ErrForeign,
		"something else\n":                 paxos.ErrForeign,
		"rowlock paxos 2 in another way\n": paxos.ErrFormat,
		"":                                 paxos.ErrForeign,
	} {
		require.NoError(t, os.WriteFile(marker, []byte(content), 0o644))
		_, err = dragon.Open(dragon.Options{Dir: dir})
		require.ErrorIs(t, err, want, "marker %q", content)
	}

	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "notes.txt"), nil, 0o644))
	_, err = dragon.Open(dragon.Options{Dir: other})
	require.ErrorIs(t, err, paxos.ErrForeign)
	names, err := os.ReadDir(other)
	require.NoError(t, err)
	require.Len(t, names, 1, "a foreign directory is left as it was")
}

// TestDamagedFiles damages Dragonboat's own files: an error, no panic.
func TestDamagedFiles(t *testing.T) {
	for _, name := range []string{"dragonboat.ds", "NODEHOST.ID"} {
		dir := t.TempDir()
		h, err := dragon.Open(dragon.Options{Dir: dir})
		require.NoError(t, err)
		require.NoError(t, h.Close())
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		b[len(b)-1] ^= 1
		require.NoError(t, os.WriteFile(file, b, 0o644))
		_, err = dragon.Open(dragon.Options{Dir: dir})
		require.Error(t, err, name)
		require.Contains(t, err.Error(), "dragon: ")
	}
}

func TestSettingsFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, dragon.CheckSettings(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dragonboat-soft-settings.json"), []byte("{}"), 0o644))
	require.ErrorContains(t, dragon.CheckSettings(dir), "dragonboat-soft-settings.json")
}

// TestMachineName: no file lies under the machine's name, so that a machine
// that is renamed finds what it had.
func TestMachineName(t *testing.T) {
	name, err := os.Hostname()
	require.NoError(t, err)
	dir := t.TempDir()
	h, err := dragon.Open(dragon.Options{Dir: dir})
	require.NoError(t, err)
	_, err = h.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: map[paxos.ReplicaID]string{1: h.ID()}},
		paxostest.NewMachine(&paxostest.Disk{}))
	require.NoError(t, err)
	require.NoError(t, h.Close())
	_, err = os.Stat(filepath.Join(dir, name))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = os.Stat(filepath.Join(dir, "host"))
	require.NoError(t, err)

	// The flag file holds the name until the next start removes it.
	h, err = dragon.Open(dragon.Options{Dir: dir})
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "dragonboat.ds"))
	require.NoError(t, err)
	require.NotContains(t, string(b), name)
	require.NoError(t, h.Close())

	fs := vfs.NewMem()
	old, renamed := dragon.NewHostFS(fs, "/d", "old-name"), dragon.NewHostFS(fs, "/d", "new-name")
	require.NoError(t, old.MkdirAll("/d/old-name/x", 0o755))
	names, err := renamed.List("/d/new-name")
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, names)
	require.NoError(t, old.MkdirAll("/d/old-name-but-longer", 0o755))
	_, err = fs.Stat("/d/old-name-but-longer")
	require.NoError(t, err, "only the whole name is translated")
}

// TestLogIsCutByBytes: few large entries are as good a reason to cut the log
// as many small ones.
func TestLogIsCutByBytes(t *testing.T) {
	h, err := dragon.Open(dragon.Options{Dir: t.TempDir(), LogBytes: 1 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Close()) }()
	disk := &paxostest.Disk{}
	g, err := h.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: map[paxos.ReplicaID]string{1: h.ID()}},
		paxostest.NewMachine(disk))
	require.NoError(t, err)
	cut := func() bool {
		first, err := dragon.LogFirst(h, 1, 1)
		require.NoError(t, err)
		return first > 1
	}
	for i := 0; i < 2000 && !cut(); i++ {
		command := make([]byte, 64<<10)
		copy(command, fmt.Sprint(i))
		_, err := g.Propose(context.Background(), command)
		require.NoError(t, err)
	}
	require.Eventually(t, cut, time.Minute, time.Millisecond)
	require.Positive(t, disk.Syncs(), "synced before the log is cut")
}
