package storage

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// CollectGarbage adds to the batch the removal of versions that no read at or
// above below can see: of each key in [lo, hi) (nil: open end) every version
// that a newer one at or below below hides, and that newer one itself if it is a
// tombstone. Intents stay.
//
// It reads the state before this batch and looks at about limit versions (at
// least two). next is where to go on, in a later batch; nil when the range is
// done. What it removes and returns depends on the space's content and the
// arguments alone, so replicas may run it while applying.
func (b *Batch) CollectGarbage(lo, hi Key, below Timestamp, limit int) (next Key, removed int, err error) {
	if below == 0 || lo != nil && hi != nil && bytes.Compare(lo, hi) >= 0 {
		return nil, 0, nil
	}
	o := bounds(b.space.id, kindVersion, lo, hi)
	o.PointKeyFilters = committedWithin(1, min(below, MaxTimestamp))
	it, _, err := b.space.open(o)
	if err != nil {
		return nil, 0, wrap(err, "collect garbage in space %d", b.space.id)
	}
	c := collector{b: b.b, it: it, below: below, left: max(limit, 2)}
	err = c.run()
	return c.next, c.removed, wrap(errors.Join(err, it.Close()), "collect garbage in space %d", b.space.id)
}

// collector is one run of CollectGarbage. Its iterator may hide blocks without a
// version at or below below, and may then show versions above it that are
// deleted; so only versions at or below it may influence what is removed, where
// the run stops, and what next is.
type collector struct {
	b       *pebble.Batch
	it      *pebble.Iterator
	below   Timestamp
	left    int // versions still to look at
	removed int
	next    Key

	key    []byte // physical, without timestamp
	keeper []byte // physical key of the newest version at or below below
	seek   []byte
}

// run goes over the keys of the range.
func (c *collector) run() error {
	for ok := c.it.First(); ok; {
		k := c.it.Key()
		c.key = append(c.key[:0], k[:splitKey(k)]...)
		if !c.findKeeper() {
			ok = c.it.Valid()
			continue
		}
		done, err := c.collectKey()
		if err != nil {
			return err
		}
		if !done {
			c.next = append(Key{}, bodyOf(c.key)...)
			return nil
		}
		if c.left <= 0 {
			c.next = append(append(Key{}, bodyOf(c.key)...), 0)
			return nil
		}
		ok = c.it.Valid()
	}
	return c.it.Error()
}

// findKeeper moves to the current key's newest version at or below below. If
// there is none, the iterator is on the next key.
func (c *collector) findKeeper() bool {
	for range maxSteps {
		k := c.it.Key()
		if commitOf(k, len(c.key)) <= c.below {
			return true
		}
		if !c.it.Next() || !c.onKey() {
			return false
		}
	}
	c.seek = appendSuffix(append(c.seek[:0], c.key...), c.below)
	return c.it.SeekGE(c.seek) && c.onKey()
}

// collectKey removes what the version under the iterator hides, and the version
// itself if it is a tombstone and hides nothing any more: as long as an older
// version is left, the tombstone must stay, or the older one would come back.
// done is false if the limit was reached in between.
func (c *collector) collectKey() (done bool, err error) {
	stored, err := c.it.ValueAndErr()
	if err != nil {
		return false, err
	}
	_, _, tombstone, err := decodeVersion(stored)
	if err != nil {
		return false, err
	}
	c.keeper = append(c.keeper[:0], c.it.Key()...)
	c.left--
	for c.it.Next() && c.onKey() {
		if c.left <= 0 {
			return false, nil
		}
		if err := c.remove(c.it.Key()); err != nil {
			return false, err
		}
		c.left--
	}
	if err := c.it.Error(); err != nil {
		return false, err
	}
	if tombstone {
		return true, c.remove(c.keeper)
	}
	return true, nil
}

// remove adds the removal of one version to the batch.
func (c *collector) remove(k []byte) error {
	c.removed++
	return c.b.Delete(k, nil)
}

// onKey reports whether the iterator is on an entry of the current key.
func (c *collector) onKey() bool {
	k := c.it.Key()
	n := splitKey(k)
	return n == len(c.key) && bytes.Equal(k[:n], c.key)
}
