package rowlock

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// identityVersion is the first byte of what the identity file says after its
// name, and the format of the whole directory.
const identityVersion = 1

const identityFile = "IDENTITY"

// founder is the number of the node that makes a cluster; all others join.
const founder = 1

// joiningFile marks a directory whose node was told to join and may not have yet.
const joiningFile = "JOINING"

// notesFile holds what a node must know of its cluster to start.
const notesFile = "CLUSTER"

// errIdentity marks an identity file that this release cannot use; Open turns
// it into ErrFormat or ErrCorrupt.
var (
	errIdentityFormat  = errors.New("identity file of another format")
	errIdentityCorrupt = errors.New("identity file is damaged")
)

// identity says who a node is. It is written when the directory is made and
// never again.
type identity struct {
	// Node is the node's number in its cluster.
	Node uint64
	// Cluster tells directories of different clusters apart.
	Cluster [16]byte
}

// encode writes three lines of text and a checksum over them (CRC-32C, like
// everything else in the directory that is not Pebble's own):
//
//	rowlock 1
//	node 7
//	cluster 000102030405060708090a0b0c0d0e0f
//	crc32c 5f3a02ef
func (id identity) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "rowlock %d\nnode %d\ncluster %s\n", identityVersion, id.Node, hex.EncodeToString(id.Cluster[:]))
	fmt.Fprintf(&b, "crc32c %08x\n", crc32.Checksum(b.Bytes(), crc32.MakeTable(crc32.Castagnoli)))
	return b.Bytes()
}

// decodeIdentity is the reverse of encode. It accepts only what encode writes.
func decodeIdentity(text []byte) (identity, error) {
	var id identity
	var version int
	if _, err := fmt.Sscanf(firstLine(text), "rowlock %d", &version); err != nil {
		return id, errIdentityCorrupt
	}
	if version != identityVersion {
		return id, fmt.Errorf("%w: version %d, this release knows %d", errIdentityFormat, version, identityVersion)
	}
	var cluster string
	var sum uint32
	if _, err := fmt.Sscanf(string(text), "rowlock %d\nnode %d\ncluster %32s\ncrc32c %08x\n", &version, &id.Node, &cluster, &sum); err != nil {
		return id, errIdentityCorrupt
	}
	if n, err := hex.Decode(id.Cluster[:], []byte(cluster)); err != nil || n != len(id.Cluster) || id.Node == 0 {
		return id, errIdentityCorrupt
	}
	if !bytes.Equal(id.encode(), text) {
		return id, errIdentityCorrupt
	}
	return id, nil
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// loadIdentity reads the identity of a directory, or makes one in an empty
// directory. A directory with other things in it is refused, so that a mistyped
// path does not scatter files over somebody's home. A node that joins a cluster gets
// its identity there: until then it has none, and a file says so, because it needs
// its stores before.
func loadIdentity(dir string, joins bool) (identity, error) {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		id, err := decodeIdentity(text)
		if err != nil {
			return id, fmt.Errorf("%s: %w", path, err)
		}
		return id, nil
	case !errors.Is(err, fs.ErrNotExist):
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	if err := onlyOurs(dir); err != nil {
		return identity{}, err
	}
	if joins {
		if err := writeDurably(filepath.Join(dir, joiningFile), []byte("this directory has no identity yet: its node is joining a cluster\n")); err != nil {
			return identity{}, fmt.Errorf("begin to join: %w", err)
		}
		return identity{}, nil
	}
	if _, err := os.Stat(filepath.Join(dir, joiningFile)); err == nil {
		return identity{}, fmt.Errorf("%s: its node was told to join a cluster and may be a member already: Options.Join (--join) is missing", dir)
	}
	id := identity{Node: founder}
	if _, err := rand.Read(id.Cluster[:]); err != nil {
		return id, fmt.Errorf("make identity: %w", err)
	}
	if err := writeDurably(path, id.encode()); err != nil {
		return id, fmt.Errorf("write identity: %w", err)
	}
	return id, nil
}

// onlyOurs reports an error when a directory without an identity holds anything
// but what a start that was cut short may have left there.
func onlyOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	joining := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == joiningFile })
	for _, e := range entries {
		switch e.Name() {
		case "data", "log", notesFile, notesFile + ".new":
			if !joining {
				return fmt.Errorf("%s: %w: it holds %s but no %s", dir, errIdentityFormat, e.Name(), identityFile)
			}
		case joiningFile, joiningFile + ".new":
		case lockFile, identityFile + ".new", "server.log", "lost+found":
		default:
			return fmt.Errorf("%s: %w: it holds %s but no %s", dir, errIdentityFormat, e.Name(), identityFile)
		}
	}
	return nil
}

// writeDurably writes a file so that after a power cut it is whole or absent.
func writeDurably(path string, text []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// makeDirectory makes dir and what is missing above it, and returns when a power
// cut does not take any of it away.
func makeDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirectory(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(parent)
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
