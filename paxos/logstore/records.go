package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// recordVersion is the first byte of every value.
const recordVersion = 1

var errTruncated = errors.New("record ends early")

// appendState encodes a term, a vote and a commit index as uvarints.
func appendState(dst []byte, s pb.State) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, s.Term)
	dst = binary.AppendUvarint(dst, s.Vote)
	return binary.AppendUvarint(dst, s.Commit)
}

func decodeState(v []byte) (pb.State, error) {
	d := newDecoder("state", v)
	s := pb.State{Term: d.uvarint(), Vote: d.uvarint(), Commit: d.uvarint()}
	d.end()
	return s, d.err
}

// appendEntry encodes an entry without its index, which is in the key: type,
// term, series and responded-to as uvarints, key and client id as eight bytes
// each (they are random), and the command to the end of the value.
func appendEntry(dst []byte, e *pb.Entry) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, uint64(e.Type))
	dst = binary.AppendUvarint(dst, e.Term)
	dst = binary.AppendUvarint(dst, e.SeriesID)
	dst = binary.AppendUvarint(dst, e.RespondedTo)
	dst = binary.BigEndian.AppendUint64(dst, e.Key)
	dst = binary.BigEndian.AppendUint64(dst, e.ClientID)
	return append(dst, e.Cmd...)
}

// entryLen returns a bound on the length of an encoded entry.
func entryLen(e *pb.Entry) int { return 1 + 4*binary.MaxVarintLen64 + 16 + len(e.Cmd) }

// decodeEntry decodes the value of the entry at index; the command is copied.
func decodeEntry(index uint64, v []byte) (pb.Entry, error) {
	d := newDecoder("entry", v)
	e := pb.Entry{Index: index}
	typ := d.uvarint()
	e.Term, e.SeriesID, e.RespondedTo = d.uvarint(), d.uvarint(), d.uvarint()
	e.Key, e.ClientID = d.fixed64(), d.fixed64()
	if typ > uint64(pb.MetadataEntry) {
		d.fail(fmt.Errorf("type %d", typ))
	}
	e.Type = pb.EntryType(typ)
	if d.err != nil {
		return pb.Entry{}, d.err
	}
	if len(d.rest) > 0 {
		e.Cmd = append([]byte(nil), d.rest...)
	}
	return e, nil
}

// message is what raftpb's records can do.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// appendMessage encodes a bootstrap or snapshot record in raftpb's own coding.
func appendMessage(dst []byte, m message) ([]byte, error) {
	b, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("logstore: encode %T: %w", m, err)
	}
	return append(append(dst, recordVersion), b...), nil
}

func decodeMessage(v []byte, m message) error {
	d := newDecoder(fmt.Sprintf("%T", m), v)
	if d.err != nil {
		return d.err
	}
	if err := m.Unmarshal(d.rest); err != nil {
		d.fail(err)
	}
	return d.err
}

// decoder reads a value from the front and remembers the first error.
type decoder struct {
	what string
	rest []byte
	err  error
}

func newDecoder(what string, v []byte) *decoder {
	d := &decoder{what: what}
	if len(v) == 0 {
		d.fail(errTruncated)
		return d
	}
	if v[0] != recordVersion {
		d.fail(fmt.Errorf("unknown version %d", v[0]))
		return d
	}
	d.rest = v[1:]
	return d
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = fmt.Errorf("logstore: decode %s: %w", d.what, err)
		d.rest = nil
	}
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	x, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.rest = d.rest[n:]
	return x
}

func (d *decoder) fixed64() uint64 {
	if d.err != nil {
		return 0
	}
	if len(d.rest) < 8 {
		d.fail(errTruncated)
		return 0
	}
	x := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return x
}

func (d *decoder) end() {
	if d.err == nil && len(d.rest) > 0 {
		d.fail(fmt.Errorf("%d bytes too many", len(d.rest)))
	}
}
