package storage

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// commitTimeProperty names the block property in files; it must change with the
// meaning of the interval.
const commitTimeProperty = "rowlock.commit.v1"

// commitTimes gives every block, index block and table the interval of commit
// timestamps inside it. Records without a timestamp do not count.
//
// A deleted version is a Pebble tombstone under the same physical key, so it has
// the same timestamp: a filter that lets a version's timestamp pass lets its
// deletion pass too. A version outside the filter may appear although it was
// deleted, so who uses the filter must ignore versions outside of it.
type commitTimes struct{}

// MapPointKey is part of sstable.IntervalMapper.
func (commitTimes) MapPointKey(key pebble.InternalKey, _ []byte) (sstable.BlockInterval, error) {
	k := key.UserKey
	n := splitKey(k)
	if n == len(k) {
		return sstable.BlockInterval{}, nil
	}
	t := uint64(commitOf(k, n))
	return sstable.BlockInterval{Lower: t, Upper: t + 1}, nil
}

// MapRangeKeys is part of sstable.IntervalMapper; there are no range keys.
func (commitTimes) MapRangeKeys(sstable.Span) (sstable.BlockInterval, error) {
	return sstable.BlockInterval{}, nil
}

// newCommitTimes makes the collector for one table.
func newCommitTimes() pebble.BlockPropertyCollector {
	return sstable.NewBlockIntervalCollector(commitTimeProperty, commitTimes{}, nil)
}

// committedWithin lets an iterator skip blocks without a version in [lo, hi].
func committedWithin(lo, hi Timestamp) []pebble.BlockPropertyFilter {
	filters := make([]pebble.BlockPropertyFilter, 0, 2) // Pebble adds one of its own
	return append(filters,
		sstable.NewBlockIntervalFilter(commitTimeProperty, uint64(lo), uint64(hi)+1, nil))
}
