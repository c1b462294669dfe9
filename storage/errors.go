package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// The errors a caller decides by; match them with errors.Is.
var (
	// ErrLocked: another process, or another Engine of this one, has the data
	// directory open.
	ErrLocked = errors.New("data directory is in use")
	// ErrFormat: the data was written in a format this program does not know,
	// or the directory holds something else.
	ErrFormat = errors.New("data format not supported")
	// ErrCorrupt: stored bytes failed a checksum or do not decode.
	ErrCorrupt = errors.New("data is corrupt")
	// ErrStopped: a stream was stopped by its caller.
	ErrStopped = errors.New("stopped")
)

// corruptf makes an error that matches ErrCorrupt.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// wrap adds what was being done and marks Pebble's corruption errors.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s: %w: %w", doing, ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
