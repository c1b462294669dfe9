package reduce

import "encoding/binary"

// format is the first byte of programs and results.
const format = 1

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendBytes(b, v []byte) []byte { return append(appendUint(b, uint64(len(v))), v...) }

// decoder reads programs and results. After the first thing that is wrong there is
// nothing left to read, and it returns zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) small(most uint64) int {
	v := d.uint()
	if v > most {
		d.fail()
		return 0
	}
	return int(v)
}

// count is a number of things of which each takes a byte at least.
func (d *decoder) count() int { return d.small(uint64(len(d.b))) }

// each calls f for as many things as a count says, until one is wrong.
func (d *decoder) each(most int, f func()) {
	for n := d.small(uint64(min(most, len(d.b)))); n > 0 && !d.bad; n-- {
		f()
	}
}

func (d *decoder) bytes() []byte {
	n := d.count()
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) done() error {
	if d.bad || len(d.b) > 0 {
		return ErrFormat
	}
	return nil
}
