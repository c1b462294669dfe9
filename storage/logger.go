package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLogger hands Pebble's lines to slog. Its information lines describe
// every flush and compaction, hence debug level.
type pebbleLogger struct {
	log     *slog.Logger
	failure *failure
}

// Infof is part of pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

// Errorf is part of pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is part of pebble.Logger, which requires that it does not return:
// Pebble calls it when the write-ahead log or the manifest can no longer be
// written, on the goroutine of the write or on one of its own. Going on could
// acknowledge what is not stored.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := "pebble: " + fmt.Sprintf(format, args...)
	l.log.Error(message)
	if !l.failure.hear(fatalCause(message, args)) {
		panic("storage: " + message)
	}
	select {}
}

// fatalCause keeps the error that Pebble formatted, so that a caller can tell
// a full disk from a broken one.
func fatalCause(message string, args []any) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return wrap(err, "%s", message)
		}
	}
	return errors.New(message)
}

// failure is what ends the use of an engine: the first error after which what
// was written may not be stored. There is no way back from it.
type failure struct {
	report func(error) // Options.Failed
	heard  atomic.Bool
	done   chan struct{} // closed before it is reported
	closed atomic.Bool   // Close was called: what breaks off then is no failure
}

// hear reports the first error, and returns false if nobody listens.
func (f *failure) hear(err error) bool {
	if f.report == nil {
		return false
	}
	if !f.closed.Load() && f.heard.CompareAndSwap(false, true) {
		close(f.done)
		f.report(err)
	}
	return true
}

// eventListener reports what an operator must know; everything else is left to
// Metrics. Background work that fails is a failure: Pebble itself would try it
// again and again, with writes piling up in memory behind a disk that does not
// take them.
func eventListener(log *slog.Logger, f *failure) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if f.closed.Load() {
				return
			}
			log.Error("storage background work failed", "error", err)
			f.hear(wrap(err, "flush or compact"))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			log.Error("storage found corrupt data", "path", info.Path, "error", info.Details)
			f.hear(fmt.Errorf("read %s: %w: %w", info.Path, ErrCorrupt, info.Details))
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			log.Warn("disk is slow", "path", info.Path, "operation", info.OpType.String(), "duration", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			log.Warn("writes are stalled", "reason", info.Reason)
		},
		WriteStallEnd: func() { log.Info("writes go on") },
	}
}
