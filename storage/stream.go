package storage

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// Stream is a point in time of a space, or of a Range, for sending all of it elsewhere.
// Unlike a [Snapshot] it may stay open for long: once what it needs is on the disk, it
// holds files only. It must not be open across a Restore or Destroy of any of
// its spaces; it then fails or yields the old content, never the new.
type Stream struct {
	of   extent
	snap *pebble.EventuallyFileOnlySnapshot
	err  error // why snap could not be had
}

// StreamSnapshot fixes a point in time for sending. Close it.
func (s *Space) StreamSnapshot() *Stream {
	x := s.extent()
	return x.stream()
}

func (x *extent) stream() *Stream {
	snap, err := outsideAll(x.swaps, func() (*pebble.EventuallyFileOnlySnapshot, error) {
		return x.e.db.NewEventuallyFileOnlySnapshot([]pebble.KeyRange{x.keyRange()}), nil
	})
	return &Stream{of: *x, snap: snap, err: err}
}

// WriteTo writes everything in the format that Restore reads. Equal
// contents give equal bytes, from the same build of the program. It returns
// ErrStopped soon after stop is closed (nil: never). It may be called more than
// once.
func (st *Stream) WriteTo(w io.Writer, stop <-chan struct{}) error {
	if st.err != nil {
		return wrap(st.err, "open snapshot of %s", &st.of)
	}
	all := st.of.keyRange()
	it, err := st.snap.NewIter(&pebble.IterOptions{LowerBound: all.Start, UpperBound: all.End})
	if err != nil {
		return wrap(err, "read snapshot of %s", &st.of)
	}
	err = errors.Join(st.of.writeStream(w, it, stop), it.Close())
	return wrap(err, "write snapshot of %s", &st.of)
}

// Close frees the stream.
func (st *Stream) Close() error {
	if st.err != nil {
		return nil
	}
	return wrap(st.snap.Close(), "close snapshot of %s", &st.of)
}

// writeStream writes all pairs of an iterator over the extent, and looks at stop
// after every block.
func (x *extent) writeStream(w io.Writer, it *pebble.Iterator, stop <-chan struct{}) error {
	f, err := newFrameWriter(w, x.header())
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
		k := it.Key()
		if kind(k[spaceSize]) == kindIntent && blank(v) {
			continue
		}
		wrote, err := f.add(x.logical(k), v)
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
