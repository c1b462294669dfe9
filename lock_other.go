//go:build !unix

package rowlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const lockFile = "LOCK"

var errHeld = errors.New("held by another process")

// lockDirectory only marks the directory: where there is no flock, the lock
// that the store takes on its own folder keeps a second process out.
func lockDirectory(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	return f, nil
}
