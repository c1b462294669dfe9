package storage

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// Range is several neighbouring spaces of an engine, for who sends or replaces all that
// they hold, as of one point in time. What a [Space] promises of its streams and of
// Restore holds for all of the spaces together.
type Range struct{ x extent }

// Range returns the spaces from first to last.
func (e *Engine) Range(first, last uint64) *Range {
	if first > last {
		panic(fmt.Sprintf("storage: a range of spaces from %d to %d", first, last))
	}
	r := &Range{extent{e: e, first: first, last: last, several: true}}
	for id := first; ; id++ {
		r.x.swaps = append(r.x.swaps, e.swapOf(id))
		if id == last {
			return r
		}
	}
}

// StreamSnapshot fixes a point in time of all spaces for sending. Close it.
func (r *Range) StreamSnapshot() *Stream { return r.x.stream() }

// Restore replaces all spaces by what a stream of the same Range holds, in one edit of
// the store: see Space.Restore. It must not run beside commits to any of the spaces.
func (r *Range) Restore(in io.Reader) error { return r.x.restore(in, &r.x) }

// RestorePart is Restore of a stream that carries a part of the spaces only. The others
// are empty afterwards.
func (r *Range) RestorePart(in io.Reader, part *Range) error {
	if part.x.e != r.x.e || part.x.first < r.x.first || part.x.last > r.x.last {
		panic(fmt.Sprintf("storage: %s are no part of %s", &part.x, &r.x))
	}
	return r.x.restore(in, &part.x)
}

// extent is what a stream carries or a restore replaces: a space, or a Range.
type extent struct {
	e           *Engine
	first, last uint64
	several     bool    // a Range: the stream's keys name their spaces
	swaps       []*swap // of all spaces
}

func (s *Space) extent() extent {
	return extent{e: s.e, first: s.id, last: s.id, swaps: []*swap{s.swap}}
}

// String names the extent in messages.
func (x *extent) String() string {
	if x.several {
		return fmt.Sprintf("spaces %d to %d", x.first, x.last)
	}
	return fmt.Sprintf("space %d", x.first)
}

// keyRange spans the extent. Both ends are keys without a timestamp, as excise
// demands.
func (x *extent) keyRange() pebble.KeyRange {
	return pebble.KeyRange{Start: spaceStart(x.first), End: spaceEnd(x.last)}
}

// header is that of a stream of the extent.
func (x *extent) header() []byte {
	if !x.several {
		return append([]byte(streamMagic), streamVersion)
	}
	b := append([]byte(streamMagic), rangeVersion)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, x.first), x.last)
}

// logical is the key in a stream of one in the store.
func (x *extent) logical(physical []byte) []byte {
	if x.several {
		return physical
	}
	return physical[spaceSize:]
}

// physical appends the key in the store of one in a stream, if it may stand there.
func (x *extent) physical(dst, k []byte) ([]byte, error) {
	if !x.several {
		dst = binary.BigEndian.AppendUint64(dst, x.first)
	} else if len(k) < spaceSize || !x.has(binary.BigEndian.Uint64(k)) {
		return dst, corruptf("snapshot stream of %s has the key %x", x, k)
	}
	dst = append(dst, k...)
	return dst, validateKey(dst[spaceSize:])
}

func (x *extent) has(space uint64) bool {
	return x.first <= space && space <= x.last || mutated("0097.any-space")
}
