package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Moment is a point in time of several spaces of an engine, through one iterator
// of the store: who reads a little in many spaces pays for opening it once. It
// belongs to one goroutine.
type Moment struct {
	iter   *pebble.Iterator
	snap   Snapshot
	spaces []*Space
	lives  []uint64 // of the spaces
	fills  bool     // what is read goes into the cache of rows
	last   int      // the space that was read last
}

// MomentOf fixes a point in time for reads in the spaces, which must be of one
// engine: everything committed to any of them before the call, nothing after it.
// From now on the commits to them tell the cache of rows.
func MomentOf(spaces []*Space) (*Moment, error) {
	e := spaces[0].e
	fills := true
	for _, s := range spaces {
		s.swap.rows.follow()
		fills = s.swap.rows.ready() && fills
	}
	ticket := e.rows.ticket()
	counts := make([]uint64, len(spaces))
	for {
		for i, s := range spaces {
			if s.e != e {
				return nil, errors.New("a moment of spaces of several engines")
			}
			counts[i] = s.swap.wait()
		}
		it, err := e.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return nil, wrap(err, "open a moment of %d spaces", len(spaces))
		}
		if unswapped(spaces, counts) {
			return &Moment{iter: it, snap: Snapshot{ticket: ticket}, spaces: spaces, lives: counts, fills: fills}, nil
		}
		if err := it.Close(); err != nil {
			return nil, wrap(err, "open a moment of %d spaces", len(spaces))
		}
	}
}

// unswapped tells whether nothing was restored since the counts were taken.
func unswapped(spaces []*Space, counts []uint64) bool {
	for i, s := range spaces {
		if s.swap.count.Load() != counts[i] && !mutated("0077.moment-in-a-swap") {
			return false
		}
	}
	return true
}

// Snapshot is the moment's snapshot of one of its spaces, valid until the next
// call. Closing it does nothing. It is quick in the order of the spaces.
func (m *Moment) Snapshot(s *Space) *Snapshot {
	snap := &m.snap
	if snap.key == nil {
		snap.key = snap.keyArray[:0]
	}
	snap.space, snap.iter, snap.lent = s, m.iter, true
	snap.narrow = true // to whatever was read last
	snap.life = noLife
	for range m.spaces {
		if m.fills && m.spaces[m.last].swap == s.swap {
			snap.life = m.lives[m.last]
			break
		}
		m.last = (m.last + 1) % len(m.spaces)
	}
	return snap
}

// Close ends the moment and its snapshots.
func (m *Moment) Close() {
	// An error of the iterator was returned by the read that met it.
	_ = m.iter.Close()
}
