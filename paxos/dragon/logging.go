package dragon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
)

// Dragonboat's loggers are global. They are bound once, and write to the
// logger of the host that was opened last.
var (
	bindLogger    sync.Once
	processLogger atomic.Pointer[slog.Logger]
)

func useLogger(l *slog.Logger) {
	processLogger.Store(l)
	bindLogger.Do(func() {
		logger.SetLoggerFactory(func(name string) logger.ILogger { return &raftLogger{name: name} })
	})
}

// raftLogger passes Dragonboat's messages to slog. What Dragonboat calls
// information is our debugging.
type raftLogger struct{ name string }

var _ logger.ILogger = (*raftLogger)(nil)

// SetLevel does nothing: slog's handler decides.
func (r *raftLogger) SetLevel(logger.LogLevel) {}

func (r *raftLogger) Debugf(format string, args ...any) {}

func (r *raftLogger) Infof(format string, args ...any) { r.log(slog.LevelDebug, format, args) }

func (r *raftLogger) Warningf(format string, args ...any) {
	level := slog.LevelWarn
	switch r.name {
	case "config", "raft":
		// The first warns at every start that TLS is off; who turned it off
		// knows. The second warns at every step of every election.
		level = slog.LevelDebug
	}
	r.log(level, format, args)
}

func (r *raftLogger) Errorf(format string, args ...any) { r.log(slog.LevelError, format, args) }

// Panicf must not return: Dragonboat goes on with broken state otherwise. It
// panics while a host is being opened, where that becomes an error.
func (r *raftLogger) Panicf(format string, args ...any) {
	r.log(slog.LevelError, format, args)
	err := fmt.Errorf("dragonboat: "+format, args...)
	panicked(err)
	panic(err)
}

func (r *raftLogger) log(level slog.Level, format string, args []any) {
	l := processLogger.Load()
	ctx := context.Background()
	if l == nil || !l.Enabled(ctx, level) {
		return
	}
	l.Log(ctx, level, "raft: "+fmt.Sprintf(format, args...), "part", r.name)
}
