package shard

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock is the time since the machine was started, suspension included. The
// clock behind time.Now stops while a machine is suspended.
func bootClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(started) // enough to wait by; see bootClockRuns
	}
	return time.Duration(t.Nano())
}

func bootClockRuns() bool {
	var t unix.Timespec
	return unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) == nil && t.Nano() > 0
}

var started = time.Now()
