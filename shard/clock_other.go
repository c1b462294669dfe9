//go:build !linux

package shard

import "time"

var started = time.Now()

// bootClock is good enough to wait by: if it stops, the wait is longer.
func bootClock() time.Duration { return time.Since(started) }

// bootClockRuns: there is no clock that is known to run while the machine is
// suspended, and so no lease.
func bootClockRuns() bool { return false }
