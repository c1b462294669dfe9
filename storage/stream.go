package storage

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// Stream is a point in time of a space, for sending all of it elsewhere. Unlike
// a [Snapshot] it may stay open for long: once what it needs is on the disk, it
// holds files only. It must not be open across a Restore or Destroy of its
// space; it then fails, and never yields the new content.
type Stream struct {
	space *Space
	snap  *pebble.EventuallyFileOnlySnapshot
	err   error // why snap could not be had
}

// StreamSnapshot fixes a point in time for sending. Close it.
func (s *Space) StreamSnapshot() *Stream {
	snap, _, err := outside(s.swap, func() (*pebble.EventuallyFileOnlySnapshot, error) {
		return s.e.db.NewEventuallyFileOnlySnapshot([]pebble.KeyRange{s.keyRange()}), nil
	})
	return &Stream{space: s, snap: snap, err: err}
}

// WriteTo writes the whole space in the format that Space.Restore reads. Equal
// contents give equal bytes, from the same build of the program. It returns
// ErrStopped soon after stop is closed (nil: never). It may be called more than
// once.
func (st *Stream) WriteTo(w io.Writer, stop <-chan struct{}) error {
	if st.err != nil {
		return wrap(st.err, "open snapshot of space %d", st.space.id)
	}
	it, err := st.snap.NewIter(&pebble.IterOptions{LowerBound: st.space.start, UpperBound: st.space.end})
	if err != nil {
		return wrap(err, "read snapshot of space %d", st.space.id)
	}
	err = errors.Join(writeStream(w, it, stop), it.Close())
	return wrap(err, "write snapshot of space %d", st.space.id)
}

// Close frees the stream.
func (st *Stream) Close() error {
	if st.err != nil {
		return nil
	}
	return wrap(st.snap.Close(), "close snapshot of space %d", st.space.id)
}

// writeStream writes all pairs of an iterator over one space, and looks at stop
// after every block.
func writeStream(w io.Writer, it *pebble.Iterator, stop <-chan struct{}) error {
	f, err := newFrameWriter(w)
	if err != nil {
		return err
	}
	if stopped(stop) {
		return ErrStopped
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		k := it.Key()[spaceSize:]
		if kind(k[0]) == kindIntent && blank(v) {
			continue
		}
		wrote, err := f.add(k, v)
		if err != nil {
			return err
		}
		if wrote && stopped(stop) {
			return ErrStopped
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return f.end()
}

// stopped reports whether the channel is closed.
func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}
