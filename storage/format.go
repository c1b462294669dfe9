package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the version of everything this package stores: key layout,
// record encodings, comparer. A program opens only directories of its own
// version.
const formatVersion = 3

// formatFile names the file that holds the version, next to Pebble's files.
const formatFile = "ROWLOCK-STORAGE"

// The format file is two lines of text: the version, and the checksum of the
// first line.
const (
	formatLine     = "rowlock storage format %d\n"
	formatChecksum = "xxh64 %016x\n"
	formatMaxSize  = 256
)

// encodeFormat makes the content of the format file.
func encodeFormat(version uint64) []byte {
	line := fmt.Sprintf(formatLine, version)
	return append([]byte(line), fmt.Sprintf(formatChecksum, xxhash.Sum64String(line))...)
}

// decodeFormat reads the version from the content of the format file.
func decodeFormat(content []byte) (uint64, error) {
	first, _, _ := strings.Cut(string(content), "\n")
	var version uint64
	if _, err := fmt.Sscanf(first+"\n", formatLine, &version); err != nil {
		return 0, corruptf("format file %s is not readable", formatFile)
	}
	if string(content) != string(encodeFormat(version)) {
		return 0, corruptf("format file %s fails its checksum", formatFile)
	}
	return version, nil
}

// checkFormat compares the directory's format with this program's, and marks a
// new directory. The mark is durable before the store is made: a directory with
// a store but no mark is not ours.
func checkFormat(fs vfs.FS, dir string, readOnly bool) error {
	content, err := readFormat(fs, fs.PathJoin(dir, formatFile))
	switch {
	case err == nil:
		version, err := decodeFormat(content)
		if err != nil {
			return err
		}
		if version != formatVersion {
			return fmt.Errorf("%w: the directory has storage format %d, this program reads and writes format %d",
				ErrFormat, version, formatVersion)
		}
		return nil
	case !errors.Is(err, errNoFormat):
		return err
	}
	store, err := pebble.Peek(dir, fs)
	if err != nil {
		return err
	}
	if store.Exists {
		return fmt.Errorf("%w: the directory holds a Pebble store that is not Rowlock's (no %s file)",
			ErrFormat, formatFile)
	}
	if readOnly {
		return fmt.Errorf("%w: the directory holds no data", ErrFormat)
	}
	return writeFormat(fs, dir)
}

// errNoFormat says that there is no format file.
var errNoFormat = errors.New("no format file")

// readFormat returns the content of the format file.
func readFormat(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoFormat
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, formatMaxSize))
}

// writeFormat puts the format file into place, durably and in one step.
func writeFormat(fs vfs.FS, dir string) error {
	path := fs.PathJoin(dir, formatFile)
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := f.Write(encodeFormat(formatVersion)); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// syncDir makes the directory's entries durable.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
