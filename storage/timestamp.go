package storage

import (
	"fmt"
	"time"
)

// logicalBits is the width of a timestamp's logical part.
const logicalBits = 18

// Timestamp is a moment drawn from the timestamp oracle: milliseconds since the
// Unix epoch in the upper bits, a counter within the millisecond in the lower
// 18. Zero means "none".
type Timestamp uint64

// MaxTimestamp is the largest timestamp there is. Reading at it sees the newest
// version of every key.
const MaxTimestamp Timestamp = 1<<63 - 1

// MakeTimestamp joins milliseconds since the Unix epoch and the counter within
// that millisecond; the counter must fit into 18 bits.
func MakeTimestamp(ms uint64, logical uint32) Timestamp {
	if logical >= 1<<logicalBits || ms > uint64(MaxTimestamp)>>logicalBits {
		panic(fmt.Sprintf("storage: timestamp %d.%d out of range", ms, logical))
	}
	return Timestamp(ms<<logicalBits | uint64(logical))
}

// Millis returns the physical part in milliseconds since the Unix epoch.
func (t Timestamp) Millis() uint64 { return uint64(t) >> logicalBits }

// Logical returns the counter within the millisecond.
func (t Timestamp) Logical() uint32 { return uint32(t) & (1<<logicalBits - 1) }

// Physical returns the physical part as a time in UTC.
func (t Timestamp) Physical() time.Time { return time.UnixMilli(int64(t.Millis())).UTC() }

// IsZero reports whether t means "none".
func (t Timestamp) IsZero() bool { return t == 0 }

// String shows milliseconds and counter, as in "1700000000000.3".
func (t Timestamp) String() string {
	if t == MaxTimestamp {
		return "max"
	}
	return fmt.Sprintf("%d.%d", t.Millis(), t.Logical())
}
