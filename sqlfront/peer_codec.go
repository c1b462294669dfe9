package sqlfront

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// peerFormat is the first byte of every request and answer between servers. A
// decoder refuses any other value.
const peerFormat = 1

var errPeerFormat = errors.New("sqlfront: malformed message of another node")

// peerCoder goes over the fields of a message in their order, writing or reading,
// so that both ways are one piece of code. The first mistake of a reading one sets
// bad and empties the input; later fields are zero.
type peerCoder struct {
	b       []byte
	reading bool
	bad     bool
}

// finish reports whether everything was read and nothing was left.
func (c *peerCoder) finish() error {
	if c.bad || len(c.b) != 0 {
		return errPeerFormat
	}
	return nil
}

func (c *peerCoder) fail() { c.bad, c.b = true, nil }

func (c *peerCoder) byte(v *byte) {
	switch {
	case !c.reading:
		c.b = append(c.b, *v)
	case len(c.b) == 0:
		*v = 0
		c.fail()
	default:
		*v, c.b = c.b[0], c.b[1:]
	}
}

// format is the version byte.
func (c *peerCoder) format() {
	v := byte(peerFormat)
	c.byte(&v)
	if v != peerFormat {
		c.fail()
	}
}

func (c *peerCoder) uint(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, size := binary.Uvarint(c.b)
	if size <= 0 {
		*v = 0
		c.fail()
		return
	}
	*v, c.b = n, c.b[size:]
}

func (c *peerCoder) int(v *int) {
	n := uint64(*v)
	c.uint(&n)
	if n > math.MaxInt64 {
		n = 0
		c.fail()
	}
	*v = int(n)
}

func (c *peerCoder) int64(v *int64) {
	n := int(*v)
	c.int(&n)
	*v = int64(n)
}

func (c *peerCoder) float(v *float64) {
	n := math.Float64bits(*v)
	c.uint(&n)
	*v = math.Float64frombits(n)
}

func (c *peerCoder) bool(v *bool) {
	n := byte(boolInt(*v))
	c.byte(&n)
	if n > 1 {
		c.fail()
	}
	*v = n == 1
}

func (c *peerCoder) bytes(v *[]byte) {
	length := uint64(len(*v))
	c.uint(&length)
	if !c.reading {
		c.b = append(c.b, *v...)
		return
	}
	if length > uint64(len(c.b)) {
		c.fail()
		length = 0
	}
	*v = append([]byte{}, c.b[:length]...)
	c.b = c.b[length:]
}

// optional keeps nil and empty apart.
func (c *peerCoder) optional(v *[]byte) {
	there := *v != nil
	c.bool(&there)
	if !there {
		*v = nil
		return
	}
	c.bytes(v)
}

func (c *peerCoder) text(v *string) {
	b := []byte(*v)
	c.bytes(&b)
	*v = string(b)
}

// time has nanoseconds and no zone; the zero time stays zero.
func (c *peerCoder) time(v *time.Time) {
	var n uint64
	if !v.IsZero() {
		n = uint64(v.UnixNano())
	}
	c.uint(&n)
	if !c.reading {
		return
	}
	*v = time.Time{}
	if n != 0 {
		*v = time.Unix(0, int64(n)).UTC()
	}
}

func (c *peerCoder) txn(v *storage.TxnID) {
	start := uint64(v.Start)
	c.uint(&start)
	v.Start = storage.Timestamp(start)
	c.uint(&v.Gateway)
	c.uint(&v.Seq)
}

// elements goes over those of a slice. Each takes a byte at least, so that a
// length which the input cannot contain is refused before anything is allocated.
func elements[E any](c *peerCoder, v *[]E, element func(*peerCoder, *E)) {
	length := uint64(len(*v))
	c.uint(&length)
	if !c.reading {
		for i := range *v {
			element(c, &(*v)[i])
		}
		return
	}
	*v = nil
	if length > uint64(len(c.b)) {
		c.fail()
		return
	}
	for range length {
		var e E
		element(c, &e)
		if c.bad {
			return
		}
		*v = append(*v, e)
	}
}
