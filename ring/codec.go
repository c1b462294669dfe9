package ring

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// Stored form of a ring, all numbers most significant byte first:
//
//	version      1 byte   formatVersion
//	algorithm    1 byte
//	epoch        8 bytes
//	vnodes       4 bytes
//	count        4 bytes  number of points
//	points       count times: token 8 bytes, shard 4 bytes; ascending by token, then shard
//	checksum     8 bytes  XXH3 of everything before
const (
	formatVersion = 1
	headerSize    = 1 + 1 + 8 + 4 + 4
	pointSize     = 8 + 4
	checksumSize  = 8
)

// ErrFormat marks bytes that are a ring of a version or algorithm this program does not know.
var ErrFormat = errors.New("ring: unknown format")

// ErrCorrupt marks bytes that are not a ring: a wrong length, checksum or order of points.
var ErrCorrupt = errors.New("ring: corrupt")

// AppendBinary appends the stored form of the ring to dst.
func (r *Ring) AppendBinary(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, formatVersion, byte(r.algorithm))
	dst = binary.BigEndian.AppendUint64(dst, r.epoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.vnodes))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.tokens)))
	for i, t := range r.tokens {
		dst = binary.BigEndian.AppendUint64(dst, uint64(t))
		dst = binary.BigEndian.AppendUint32(dst, r.owners[i])
	}
	return binary.BigEndian.AppendUint64(dst, xxh3.Hash(dst[start:]))
}

// Decode reads a stored ring; b must hold exactly one. The error is ErrFormat or ErrCorrupt.
// Nothing is allocated before the length was found to match the bytes at hand.
func Decode(b []byte) (*Ring, error) {
	if len(b) < headerSize+checksumSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	if b[0] != formatVersion || Algorithm(b[1]) != AlgorithmXXH3 {
		return nil, fmt.Errorf("%w: version %d, algorithm %d", ErrFormat, b[0], b[1])
	}
	body := b[:len(b)-checksumSize]
	if sum := binary.BigEndian.Uint64(b[len(body):]); sum != xxh3.Hash(body) {
		return nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	epoch, vnodes := binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint32(b[10:])
	count := binary.BigEndian.Uint32(b[14:])
	if epoch == 0 || vnodes == 0 || vnodes > MaxPoints || count == 0 || count > MaxPoints {
		return nil, fmt.Errorf("%w: epoch %d, %d virtual nodes, %d points", ErrCorrupt, epoch, vnodes, count)
	}
	if uint64(len(body)) != headerSize+uint64(count)*pointSize {
		return nil, fmt.Errorf("%w: %d points in %d bytes", ErrCorrupt, count, len(b))
	}
	r := &Ring{
		epoch: epoch, algorithm: Algorithm(b[1]), vnodes: int(vnodes),
		tokens: make([]Token, count), owners: make([]uint32, count),
	}
	if err := r.decodePoints(body[headerSize:]); err != nil {
		return nil, err
	}
	r.fillBuckets()
	return r, nil
}

// decodePoints fills the ring and checks that the points are strictly ascending and name no
// system shard.
func (r *Ring) decodePoints(b []byte) error {
	var previous Point
	for i := range r.tokens {
		p := Point{
			Token: Token(binary.BigEndian.Uint64(b[i*pointSize:])),
			Shard: ShardID(binary.BigEndian.Uint32(b[i*pointSize+8:])),
		}
		if p.Shard == 0 || i > 0 && comparePoints(previous, p) >= 0 {
			return fmt.Errorf("%w: point %d", ErrCorrupt, i)
		}
		r.tokens[i], r.owners[i], previous = p.Token, uint32(p.Shard), p
	}
	return nil
}
