package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/snappy"
)

// A snapshot stream is a header, data blocks and an end block:
//
//	header  "RWLKSNAP", version (1 byte); of several spaces: the first and the last (8 bytes each)
//	block   raw size, stored size (4 bytes each), checksum (8 bytes), stored bytes
//
// Numbers are big endian. The stored bytes are the raw ones compressed with
// Snappy's block format; the checksum is the xxh64 of the two sizes and the
// stored bytes. A raw block is a sequence of pairs: key and value, each with its
// length in front (uvarint), in ascending order of keys. Keys come without their space
// in a stream of one, and with it in a stream of several.
// The end block has raw size 0; its stored bytes are the number of pairs and the
// xxh64 of all raw blocks (8 bytes each). A stream without it is incomplete.
const (
	streamMagic       = "RWLKSNAP"
	streamVersion     = 2 // of one space
	rangeVersion      = 3 // of several spaces
	frameHeaderSize   = 4 + 4 + 8
	frameTrailerSize  = 8 + 8
	frameTarget       = 128 << 10 // a block is closed once it has this many raw bytes
	frameMaxRaw       = 1 << 30   // larger blocks are refused
	snappyMaxGrowth   = 64        // more than Snappy's best ratio, so larger claims are lies
	readChunk         = 1 << 20   // how much is allocated ahead of what was received
	snappyMaxOverhead = 1 << 10
)

// frameWriter writes a snapshot stream.
type frameWriter struct {
	w       io.Writer
	raw     []byte
	packed  []byte
	pairs   uint64
	content *xxhash.Digest
}

// newFrameWriter writes the stream's header.
func newFrameWriter(w io.Writer, header []byte) (*frameWriter, error) {
	_, err := w.Write(header)
	return &frameWriter{w: w, content: xxhash.New()}, err
}

// add appends a pair and reports whether a block was written.
func (f *frameWriter) add(k, v []byte) (wrote bool, err error) {
	if len(f.raw) > 0 && len(f.raw)+len(k)+len(v) > frameMaxRaw/2 {
		if err := f.flush(); err != nil {
			return false, err
		}
	}
	if len(k)+len(v) > frameMaxRaw/2 {
		return false, fmt.Errorf("record of %d bytes is too large for a snapshot stream", len(k)+len(v))
	}
	f.raw = binary.AppendUvarint(f.raw, uint64(len(k)))
	f.raw = append(f.raw, k...)
	f.raw = binary.AppendUvarint(f.raw, uint64(len(v)))
	f.raw = append(f.raw, v...)
	f.pairs++
	if len(f.raw) < frameTarget {
		return false, nil
	}
	return true, f.flush()
}

// flush writes the block that is being filled.
func (f *frameWriter) flush() error {
	f.content.Write(f.raw)
	if n := snappy.MaxEncodedLen(len(f.raw)); cap(f.packed) < n {
		f.packed = make([]byte, n)
	}
	err := f.block(len(f.raw), snappy.Encode(f.packed[:cap(f.packed)], f.raw))
	f.raw = f.raw[:0]
	return err
}

// block writes one block.
func (f *frameWriter) block(raw int, stored []byte) error {
	var header [frameHeaderSize]byte
	binary.BigEndian.PutUint32(header[0:], uint32(raw))
	binary.BigEndian.PutUint32(header[4:], uint32(len(stored)))
	binary.BigEndian.PutUint64(header[8:], frameChecksum(header[:8], stored))
	if _, err := f.w.Write(header[:]); err != nil {
		return err
	}
	_, err := f.w.Write(stored)
	return err
}

// end writes what is left and the end block.
func (f *frameWriter) end() error {
	if len(f.raw) > 0 {
		if err := f.flush(); err != nil {
			return err
		}
	}
	trailer := binary.BigEndian.AppendUint64(nil, f.pairs)
	return f.block(0, binary.BigEndian.AppendUint64(trailer, f.content.Sum64()))
}

// frameChecksum covers a block's sizes and its stored bytes.
func frameChecksum(sizes, stored []byte) uint64 {
	h := xxhash.New()
	h.Write(sizes)
	h.Write(stored)
	return h.Sum64()
}

// frameReader reads a snapshot stream. It allocates no more than a fixed
// multiple of what it has received.
type frameReader struct {
	r       io.Reader
	stored  []byte
	raw     []byte
	rest    []byte // of raw: the pairs not yet returned
	pairs   uint64
	content *xxhash.Digest
}

// newFrameReader reads the stream's header, which must be the one that is wanted.
func newFrameReader(r io.Reader, wanted []byte) (*frameReader, error) {
	const fixed = len(streamMagic) + 1
	header := make([]byte, len(wanted))
	if _, err := io.ReadFull(r, header[:fixed]); err != nil {
		return nil, truncated(err)
	}
	if string(header[:len(streamMagic)]) != streamMagic {
		return nil, fmt.Errorf("%w: not a snapshot stream", ErrFormat)
	}
	if v, known := header[fixed-1], wanted[fixed-1]; v != known {
		return nil, fmt.Errorf("%w: snapshot stream version %d, what is read here is version %d", ErrFormat, v, known)
	}
	if _, err := io.ReadFull(r, header[fixed:]); err != nil {
		return nil, truncated(err)
	}
	if !bytes.Equal(header, wanted) {
		return nil, fmt.Errorf("%w: snapshot stream of the spaces %x, not %x", ErrFormat, header[fixed:], wanted[fixed:])
	}
	return &frameReader{r: r, content: xxhash.New()}, nil
}

// truncated turns the end of input into a sign of corruption.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corruptf("snapshot stream ends early")
	}
	return err
}

// next returns the next pair, valid until the following call; io.EOF after the
// last one of a complete stream.
func (f *frameReader) next() (k, v []byte, err error) {
	if len(f.rest) == 0 {
		if err := f.readBlock(); err != nil {
			return nil, nil, err
		}
	}
	d := decoder{b: f.rest}
	k, v = d.bytes(), d.bytes()
	f.rest = d.b
	if d.err != nil {
		return nil, nil, d.err
	}
	f.pairs++
	return k, v, nil
}

// readBlock fills rest with the next block's pairs.
func (f *frameReader) readBlock() error {
	var header [frameHeaderSize]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return truncated(err)
	}
	raw, size := binary.BigEndian.Uint32(header[0:]), binary.BigEndian.Uint32(header[4:])
	if raw > frameMaxRaw || size > frameMaxRaw+frameMaxRaw/4+snappyMaxOverhead {
		return corruptf("snapshot block of %d bytes, %d stored", raw, size)
	}
	if err := f.readStored(int(size)); err != nil {
		return err
	}
	if frameChecksum(header[:8], f.stored) != binary.BigEndian.Uint64(header[8:]) {
		return corruptf("snapshot block fails its checksum")
	}
	if raw == 0 {
		return f.readTrailer()
	}
	return f.unpack(int(raw))
}

// readStored reads size bytes, growing with what arrives.
func (f *frameReader) readStored(size int) error {
	f.stored = f.stored[:0]
	for len(f.stored) < size {
		n := min(size-len(f.stored), readChunk)
		at := len(f.stored)
		f.stored = append(f.stored, make([]byte, n)...)
		if _, err := io.ReadFull(f.r, f.stored[at:]); err != nil {
			return truncated(err)
		}
	}
	return nil
}

// unpack decompresses the stored bytes into rest.
func (f *frameReader) unpack(raw int) error {
	n, err := snappy.DecodedLen(f.stored)
	if err != nil || n != raw || n > snappyMaxGrowth*len(f.stored) {
		return corruptf("snapshot block does not decompress to %d bytes", raw)
	}
	if cap(f.raw) < n {
		f.raw = make([]byte, n)
	}
	if f.raw, err = snappy.Decode(f.raw[:cap(f.raw)], f.stored); err != nil {
		return corruptf("snapshot block: %v", err)
	}
	f.content.Write(f.raw)
	f.rest = f.raw
	return nil
}

// readTrailer compares the end block with what was read; io.EOF if it agrees.
func (f *frameReader) readTrailer() error {
	if len(f.stored) != frameTrailerSize {
		return corruptf("snapshot end block of %d bytes", len(f.stored))
	}
	pairs, sum := binary.BigEndian.Uint64(f.stored), binary.BigEndian.Uint64(f.stored[8:])
	if pairs != f.pairs || sum != f.content.Sum64() {
		return corruptf("snapshot stream does not match its end block")
	}
	return io.EOF
}
