package dragon

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/lni/dragonboat/v4/raftpb"
)

// frameKind says what a frame of a wire holds.
type frameKind byte

const (
	frameBatch frameKind = 1 + iota // a raftpb.MessageBatch
	frameChunk                      // a raftpb.Chunk
	frameEnd                        // nothing; what follows is the receipt
)

const (
	// frameHeader is length (4), kind (1), CRC-32C of both and the payload (4).
	frameHeader = 9
	// maxFrame is above what Dragonboat puts into a batch: 64 MiB, or one
	// message with the largest command.
	maxFrame = 256 << 20
	// keptBytes is how much of a buffer is kept for the next frame.
	keptBytes = 1 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errFrame   = errors.New("dragon: what came is no consensus traffic")
)

// appendFrame writes a message of at most size bytes.
func appendFrame(b []byte, kind frameKind, size int, m raftpb.Marshaler) ([]byte, error) {
	if size > maxFrame {
		return b, fmt.Errorf("dragon: message of %d bytes", size)
	}
	start := len(b)
	if need := start + frameHeader + size; cap(b) < need {
		b = append(make([]byte, 0, need), b...)
	}
	b = b[:start+frameHeader+size]
	n, err := m.MarshalTo(b[start+frameHeader:])
	if err != nil {
		return b[:start], fmt.Errorf("dragon: encode message: %w", err)
	}
	b = b[:start+frameHeader+n]
	seal(b[start:], kind)
	return b, nil
}

func appendEnd(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	seal(b[start:], frameEnd)
	return b
}

// seal writes the header in front of a payload.
func seal(frame []byte, kind frameKind) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameHeader))
	frame[4] = byte(kind)
	binary.BigEndian.PutUint32(frame[5:], checksum(frame[:5], frame[frameHeader:]))
}

func checksum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
}

// frameReader reads frames one after the other into the same buffer.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next frame; the payload is good until the next call.
func (f *frameReader) next() (frameKind, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, n := frameKind(head[4]), int(binary.BigEndian.Uint32(head[:]))
	if kind < frameBatch || kind > frameEnd || n > maxFrame || kind == frameEnd && n != 0 {
		return 0, nil, errFrame
	}
	payload, err := f.payload(n)
	if err != nil {
		return 0, nil, err
	}
	if checksum(head[:5], payload) != binary.BigEndian.Uint32(head[5:]) {
		return 0, nil, errFrame
	}
	return kind, payload, nil
}

// payload reads n bytes. A length is believed up to keptBytes; more is allocated
// as the bytes come.
func (f *frameReader) payload(n int) ([]byte, error) {
	if cap(f.buf) > keptBytes {
		f.buf = nil
	}
	b := f.buf[:0]
	for len(b) < n {
		have := len(b)
		want := min(n, max(keptBytes, 4*have))
		if cap(b) < want {
			b = append(make([]byte, 0, want), b...)
		}
		b = b[:min(n, cap(b))]
		if _, err := io.ReadFull(f.r, b[have:]); err != nil {
			return nil, err
		}
	}
	f.buf = b
	return b, nil
}
