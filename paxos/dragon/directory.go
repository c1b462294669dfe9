package dragon

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/errors/oserror"
	"github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"github.com/rowlockdb/rowlock/paxos"
)

const (
	// markerFile says whose directory this is. It is one line of text:
	//
	//	rowlock paxos <version> <host id>
	markerFile    = "ROWLOCK"
	markerVersion = 1
	// logDir is the log store's.
	logDir = "log"
	// flagFile is where Dragonboat writes down what a directory was made with.
	flagFile = "dragonboat.ds"
)

// directory is the part of a data directory that is not the log.
type directory struct {
	fs  vfs.FS
	dir string
}

func (d directory) join(name string) string { return d.fs.PathJoin(d.dir, name) }

// check reads the marker and returns the host id in it, empty in a new
// directory. It changes nothing.
func (d directory) check() (string, error) {
	b, err := d.read(markerFile)
	if err == nil {
		return d.parseMarker(b)
	}
	if !oserror.IsNotExist(err) {
		return "", fmt.Errorf("dragon: read %s: %w", d.join(markerFile), err)
	}
	names, err := d.fs.List(d.dir)
	if err != nil && !oserror.IsNotExist(err) {
		return "", fmt.Errorf("dragon: list %s: %w", d.dir, err)
	}
	for _, name := range names {
		// A crash between the first two steps of Open leaves only the log.
		if name != logDir && name != markerFile+".new" {
			return "", fmt.Errorf("dragon: %s holds %q and is not a directory of Rowlock's: %w", d.dir, name, paxos.ErrForeign)
		}
	}
	return "", nil
}

func (d directory) parseMarker(b []byte) (string, error) {
	var version int
	var id string
	if _, err := fmt.Sscanf(string(b), "rowlock paxos %d %s\n", &version, &id); err != nil {
		if version > markerVersion {
			return "", fmt.Errorf("dragon: %s has version %d, this release reads %d: %w", d.dir, version, markerVersion, paxos.ErrFormat)
		}
		return "", fmt.Errorf("dragon: %s cannot be read: %w", d.join(markerFile), paxos.ErrForeign)
	}
	if version != markerVersion {
		return "", fmt.Errorf("dragon: %s has version %d, this release reads %d: %w", d.dir, version, markerVersion, paxos.ErrFormat)
	}
	if !uuidForm.MatchString(id) {
		return "", fmt.Errorf("dragon: %s names no host: %w", d.join(markerFile), paxos.ErrForeign)
	}
	return id, nil
}

// mark writes the marker.
func (d directory) mark(id string) error {
	return d.replace(markerFile, fmt.Appendf(nil, "rowlock paxos %d %s\n", markerVersion, id))
}

// forgetHostname removes the machine's name from Dragonboat's flag file, which
// otherwise refuses the directory when the name has changed.
func (d directory) forgetHostname() error {
	b, err := d.read(flagFile)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("dragon: read %s: %w", d.join(flagFile), err)
	}
	var s raftpb.RaftDataStatus
	if err := decodeFlag(b, &s); err != nil {
		return fmt.Errorf("dragon: %s: %w", d.join(flagFile), err)
	}
	if s.Hostname == "" {
		return nil
	}
	s.Hostname = ""
	b, err = encodeFlag(&s)
	if err != nil {
		return fmt.Errorf("dragon: %s: %w", d.join(flagFile), err)
	}
	return d.replace(flagFile, b)
}

// flagSumLen is the length of the checksum in front of a flag file: the second
// half of an MD5, by Dragonboat's choice.
const flagSumLen = 8

func decodeFlag(b []byte, s *raftpb.RaftDataStatus) error {
	if len(b) < flagSumLen || !bytes.Equal(b[:flagSumLen], flagSum(b[flagSumLen:])) {
		return errors.New("checksum does not match")
	}
	return s.Unmarshal(b[flagSumLen:])
}

func encodeFlag(s *raftpb.RaftDataStatus) ([]byte, error) {
	b, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	return append(flagSum(b), b...), nil
}

func flagSum(b []byte) []byte {
	sum := md5.Sum(b)
	return bytes.Clone(sum[flagSumLen:])
}

func (d directory) read(name string) ([]byte, error) {
	f, err := d.fs.Open(d.join(name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// replace writes a file so that after a crash it is the old or the new one.
func (d directory) replace(name string, b []byte) error {
	if err := d.tryReplace(name, b); err != nil {
		return fmt.Errorf("dragon: write %s: %w", d.join(name), err)
	}
	return nil
}

func (d directory) tryReplace(name string, b []byte) error {
	fresh := d.join(name + ".new")
	f, err := d.fs.Create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(fresh, d.join(name)); err != nil {
		return err
	}
	return d.sync(d.dir)
}

// emptiedSnapshot is the length of a snapshot file whose state was taken out:
// a header of 1024 bytes, an empty table of client sessions of 16, their
// checksum of 4 and a tail of 16.
const emptiedSnapshot = 1024 + 16 + 4 + 16

// snapshotLevels is how many directories lie between the machine's directory
// and a snapshot file: deployment, part, replica and snapshot.
const snapshotLevels = 4

// snapshotSize returns the length of a snapshot file. The recorded path is
// from the time when it was written, when the machine or the directory may
// have had another name; only its end counts.
func (h *host) snapshotSize(recorded string) (int64, error) {
	fs := h.options.FS
	tail := fs.PathBase(recorded)
	for range snapshotLevels {
		recorded = fs.PathDir(recorded)
		tail = fs.PathJoin(fs.PathBase(recorded), tail)
	}
	info, err := fs.Stat(fs.PathJoin(h.options.Dir, fixedHost, tail))
	if err != nil {
		return 0, fmt.Errorf("dragon: snapshot %s: %w", recorded, err)
	}
	return info.Size(), nil
}

// create makes the directory with its parents, so that a power cut does not
// take it away again: a new directory lasts once its parent is synced.
func (d directory) create() error {
	var fresh []string
	for dir := d.dir; ; dir = d.fs.PathDir(dir) {
		_, err := d.fs.Stat(dir)
		if err == nil || dir == d.fs.PathDir(dir) {
			break
		}
		if !oserror.IsNotExist(err) {
			return fmt.Errorf("dragon: create %s: %w", d.dir, err)
		}
		fresh = append(fresh, dir)
	}
	if err := d.fs.MkdirAll(d.dir, 0o750); err != nil {
		return fmt.Errorf("dragon: create %s: %w", d.dir, err)
	}
	for _, dir := range fresh {
		if err := d.sync(d.fs.PathDir(dir)); err != nil {
			return fmt.Errorf("dragon: create %s: %w", d.dir, err)
		}
	}
	return nil
}

func (d directory) sync(dir string) error {
	f, err := d.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// hostname returns the machine's name, as Dragonboat will ask for it.
func hostname() (string, error) {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", fmt.Errorf("dragon: the machine has no name: %w", err)
	}
	return name, nil
}
