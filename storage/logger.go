package storage

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLogger hands Pebble's lines to slog. Its information lines describe
// every flush and compaction, hence debug level.
type pebbleLogger struct{ log *slog.Logger }

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
// written. Going on could acknowledge what is not stored, so the process stops.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := "pebble: " + fmt.Sprintf(format, args...)
	l.log.Error(message)
	panic("storage: " + message)
}

// eventListener reports what an operator must know; everything else is left to
// Metrics.
func eventListener(log *slog.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			log.Error("storage background work failed", "error", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			log.Error("storage found corrupt data", "path", info.Path, "error", info.Details)
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
