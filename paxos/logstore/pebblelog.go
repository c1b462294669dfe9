package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// fatalError is what a write panics with when Pebble gives up inside it.
type fatalError struct{ err error }

func (f fatalError) Error() string { return f.err.Error() }

// pebbleLogger passes what Pebble has to say to slog. Pebble reports a commit
// that failed by Fatalf, which must not return: the panic is caught by the
// write that was under way and made an error of it. A Fatalf on one of Pebble's
// own goroutines ends the process, unless Options.Fatal stops there.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l *pebbleLogger) Infof(string, ...any) {} // every flush and compaction

func (l *pebbleLogger) Errorf(format string, args ...any) {
	if l.log != nil {
		l.log.Error("log store: " + fmt.Sprintf(format, args...))
	}
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fatalCause(fmt.Sprintf("logstore: "+format, args...), args)
	if l.log != nil {
		l.log.Error("log store cannot go on", "error", err)
	}
	if l.fatal != nil {
		l.fatal(err)
	}
	panic(fatalError{err})
}

// fatalCause keeps the error that Pebble formatted, so that a caller can tell a
// full disk from a broken one.
func fatalCause(message string, args []any) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return fmt.Errorf("%s: %w", message, err)
		}
	}
	return errors.New(message)
}

func (l *pebbleLogger) events() *pebble.EventListener {
	if l.log == nil {
		return &pebble.EventListener{}
	}
	return &pebble.EventListener{
		BackgroundError: func(err error) { l.log.Error("log store: background error", "error", err) },
		DiskSlow: func(i pebble.DiskSlowInfo) {
			l.log.Warn("log store: disk is slow", "path", i.Path, "operation", i.OpType.String(), "for", i.Duration)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { l.log.Warn("log store: writes stall", "reason", i.Reason) },
		WriteStallEnd:   func() { l.log.Warn("log store: writes go on") },
	}
}

// isLocked tells whether an error of Open means that the lock is taken, by
// another process (EAGAIN or EACCES of the file lock) or by this one.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process")
}
