package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rowlockdb/rowlock/shard"
)

// magic opens every connection, in both directions. It and the versions behind it
// stay where they are in all versions; what follows has the form of the oldest
// version that the sender speaks. The sides talk in the highest version that both
// speak.
const magic = "RWLK"

// kind says what a connection carries.
type kind byte

const (
	kindRequests kind = 1 + iota
	kindRaft
	kindSnapshot
)

// Identity is who a node is. Zero fields are not known yet: a node that joins
// has neither.
type Identity struct {
	Cluster [16]byte
	Node    uint64
}

// member tells whether the identity is complete.
func (i Identity) member() bool { return i.Cluster != [16]byte{} && i.Node != 0 }

// hello is what the side that dials says first.
type hello struct {
	versions shard.Versions
	kind     kind
	from     Identity
	to       uint64 // node that should answer, 0 = whoever is there
}

// helloSize and welcomeSize are the lengths in this version.
const (
	prefixSize  = len(magic) + 2
	helloSize   = prefixSize + 1 + 16 + 8 + 8 + 4
	welcomeSize = prefixSize + 1 + 16 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h hello) append(b []byte) []byte {
	start := len(b)
	b = append(appendPrefix(b, h.versions), byte(h.kind))
	b = append(b, h.from.Cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, h.from.Node)
	b = binary.BigEndian.AppendUint64(b, h.to)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decode reads what append wrote. A hello of a side that shares no version with this
// one, which speaks own, fills in only the versions and is ErrVersion.
func (h *hello) decode(b []byte, own shard.Versions) error {
	body, err := opened(b, helloSize, own, &h.versions)
	if err != nil {
		return err
	}
	h.kind = kind(body[0])
	if h.kind < kindRequests || h.kind > kindSnapshot {
		return fmt.Errorf("%w: connection of kind %d", ErrProtocol, h.kind)
	}
	copy(h.from.Cluster[:], body[1:])
	h.from.Node = binary.BigEndian.Uint64(body[17:])
	h.to = binary.BigEndian.Uint64(body[25:])
	return nil
}

// verdict is the answer to a hello.
type verdict byte

// The numbers are part of the wire format; unknown ones are refusals.
const (
	accepted verdict = iota
	otherVersion
	otherCluster
	notMember
	wrongNode
	unidentified
	plaintext // one side encrypts, the other does not
)

var refusals = map[verdict]error{
	otherVersion: ErrVersion,
	otherCluster: ErrCluster,
	notMember:    ErrNotMember,
	wrongNode:    ErrWrongNode,
	unidentified: ErrUnidentified,
	plaintext:    ErrCertificate,
}

// judge decides about a connection. It takes a hello that names no cluster:
// that is how a node asks to join.
func (i Identity) judge(h hello, own shard.Versions) verdict {
	switch {
	case own.Common(h.versions) == 0:
		return otherVersion
	case !i.member():
		return notMember
	case h.from == Identity{}:
		if h.kind != kindRequests && !mutated("T1.strangers-in-consensus") {
			return unidentified
		}
	case h.from.Cluster != i.Cluster && !mutated("T1.cluster-unchecked"):
		return otherCluster
	case h.from.Node == 0:
		return unidentified
	}
	if h.to != 0 && h.to != i.Node && !mutated("T1.node-unchecked") {
		return wrongNode
	}
	return accepted
}

// welcome is the answer: a verdict, and who gives it.
type welcome struct {
	versions shard.Versions
	verdict  verdict
	from     Identity
}

func (w welcome) append(b []byte) []byte {
	start := len(b)
	b = append(appendPrefix(b, w.versions), byte(w.verdict))
	b = append(b, w.from.Cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, w.from.Node)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (w *welcome) decode(b []byte, own shard.Versions) error {
	body, err := opened(b, welcomeSize, own, &w.versions)
	if err != nil {
		return err
	}
	w.verdict = verdict(body[0])
	copy(w.from.Cluster[:], body[1:])
	w.from.Node = binary.BigEndian.Uint64(body[17:])
	return nil
}

// refusal is nil for a connection that was accepted.
func (w welcome) refusal() error {
	if w.verdict == accepted {
		return nil
	}
	err := refusals[w.verdict]
	if err == nil {
		err = fmt.Errorf("%w: refusal %d", ErrProtocol, w.verdict)
	}
	if w.verdict == plaintext {
		return fmt.Errorf("%w: the other side encrypts, this one has no certificate", err)
	}
	return fmt.Errorf("%w (the answer came from node %d of cluster %x)", err, w.from.Node, w.from.Cluster)
}

func appendPrefix(b []byte, v shard.Versions) []byte {
	return append(append(b, magic...), byte(v.Newest), byte(v.Oldest))
}

// prefix reads what appendPrefix wrote.
func prefix(b []byte) (v shard.Versions, ok bool) {
	if len(b) < prefixSize || string(b[:len(magic)]) != magic {
		return v, false
	}
	v = shard.Versions{Newest: shard.Version(b[len(magic)]), Oldest: shard.Version(b[len(magic)+1])}
	return v, v.Valid()
}

// opened checks what both formats have in common and returns what lies between
// the versions and the checksum.
func opened(b []byte, size int, own shard.Versions, theirs *shard.Versions) ([]byte, error) {
	v, ok := prefix(b)
	if !ok {
		return nil, fmt.Errorf("%w: it begins with % x", ErrProtocol, b[:min(len(b), prefixSize)])
	}
	*theirs = v
	if own.Common(v) == 0 {
		return nil, fmt.Errorf("%w: the other side speaks %s, this one %s", ErrVersion, v, own)
	}
	if len(b) != size {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrProtocol, len(b), size)
	}
	end := size - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, fmt.Errorf("%w: damaged on the way", ErrProtocol)
	}
	return b[prefixSize:end], nil
}

// readOpening reads a hello or a welcome, or its prefix if the sides share no version:
// nobody knows how long that one is.
func readOpening(r io.Reader, size int, own shard.Versions) ([]byte, error) {
	b := make([]byte, size)
	n, err := io.ReadFull(r, b[:prefixSize])
	if err != nil {
		return nil, unfinished(b[:n], err)
	}
	if v, ok := prefix(b); !ok || own.Common(v) == 0 {
		return b[:prefixSize], nil
	}
	if n, err := io.ReadFull(r, b[prefixSize:]); err != nil {
		return nil, unfinished(b[:prefixSize+n], err)
	}
	return b, nil
}

// unfinished describes an opening that broke off.
func unfinished(b []byte, err error) error {
	if len(b) == 0 || errors.Is(err, ErrCertificate) {
		return err
	}
	return fmt.Errorf("opening broke off after % x: %w", b, err)
}
