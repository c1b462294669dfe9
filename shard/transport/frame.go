package transport

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxMessage bounds requests and responses. The largest honest one is a command
// of 64 MiB with its locks and participants, and the envelope around it.
const MaxMessage = 64<<20 + 4<<20

// frameKind says what a frame means.
type frameKind byte

const (
	frameRequest frameKind = 1 + iota
	frameResponse
	frameCancel    // the caller has gone; no payload
	frameHeartbeat // the side is alive; no payload, number 0
	frameRefusal   // instead of a response; the payload says why
)

// headerSize is the length of what precedes a payload.
const headerSize = 4 + 1 + 8 + 4

// header describes a frame. The checksum covers the header and the payload.
type header struct {
	length uint32
	kind   frameKind
	id     uint64 // of the request, chosen by the side that dials
	sum    uint32
}

// appendHeader writes the header of a payload.
func appendHeader(b []byte, kind frameKind, id uint64, payload []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint64(b, id)
	sum := crc32.Checksum(b[start:], castagnoli)
	return binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, payload))
}

// decode reads a header; b has headerSize bytes.
func (h *header) decode(b []byte) error {
	*h = header{
		length: binary.BigEndian.Uint32(b),
		kind:   frameKind(b[4]),
		id:     binary.BigEndian.Uint64(b[5:]),
		sum:    binary.BigEndian.Uint32(b[13:]),
	}
	switch {
	case h.kind < frameRequest || h.kind > frameRefusal:
		return fmt.Errorf("%w: frame of kind %d", ErrProtocol, h.kind)
	case h.length > MaxMessage:
		return fmt.Errorf("%w: frame of %d bytes", ErrProtocol, h.length)
	case h.length != 0 && (h.kind == frameCancel || h.kind == frameHeartbeat):
		return fmt.Errorf("%w: frame of kind %d with %d bytes", ErrProtocol, h.kind, h.length)
	}
	return nil
}

// readFrame reads one frame. The payload is the reader's to keep.
func readFrame(r *bufio.Reader) (h header, payload []byte, err error) {
	b, err := r.Peek(headerSize)
	if err != nil {
		return h, nil, err
	}
	if err := h.decode(b); err != nil {
		return h, nil, err
	}
	sum := crc32.Checksum(b[:headerSize-4], castagnoli)
	if _, err := r.Discard(headerSize); err != nil {
		return h, nil, err
	}
	if payload, err = readPayload(r, int(h.length)); err != nil {
		return h, nil, err
	}
	if crc32.Update(sum, castagnoli, payload) != h.sum && !mutated("T2.damage") {
		return h, nil, fmt.Errorf("%w: frame damaged on the way", ErrProtocol)
	}
	return h, payload, nil
}

// believed is how much is allocated on a header's word. More comes only with
// the bytes themselves.
const believed = 1 << 20

func readPayload(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, min(n, believed))
	for have := 0; ; {
		if _, err := io.ReadFull(r, b[have:]); err != nil {
			return nil, err
		}
		if have = len(b); have == n {
			return b, nil
		}
		grown := make([]byte, min(n, 4*have))
		copy(grown, b)
		b = grown
	}
}
