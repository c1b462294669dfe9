package shard

import "github.com/rowlockdb/rowlock/paxos"

// trunkCommand is one entry of a trunk's log: the command of one shard, or the Prepares
// of one transaction on several, or, without parts, the end of the trunk.
type trunkCommand struct {
	parts []shardCommand
	end   trunkEnd
}

// trunkEnd says what the shards have after the trunk that they leave.
type trunkEnd struct {
	kind byte // trunkLeave, trunkCompany or trunkPart; 0: it is not the end

	// Of trunkPart only. The end counts if the shard is in this epoch: whoever asks for it
	// owns the shard. The members found the shards' own groups.
	shard   ID
	epoch   uint64
	members map[paxos.ReplicaID]string
}

// shardCommand is one shard's part of a trunk's command, encoded.
type shardCommand struct {
	shard   ID
	command []byte
}

// The kinds of a trunk's commands. The numbers are part of the log's format.
const (
	trunkParts   byte = 1
	trunkLeave   byte = 2 // each shard goes to a group of its own, founded by this node alone
	trunkCompany byte = 3 // all go to a trunk with members, founded by this node alone
	trunkPart    byte = 4 // each shard goes to a group of its own, founded by all members
)

const (
	// maxUint is the length of the longest number.
	maxUint = 10
	// partOverhead is how much longer than a shard's command the trunk's command is
	// that carries it alone, at most.
	partOverhead = 2 + 3*maxUint
	// maxShardCommand is the longest command of a shard: it fits a trunk's log.
	maxShardCommand = paxos.MaxCommand - partOverhead
)

// AppendBinary appends the command's encoding: the version, the kind, and the parts.
func (c *trunkCommand) AppendBinary(b []byte) []byte {
	if len(c.parts) == 0 {
		return c.end.AppendBinary(b)
	}
	return appendJoint(b, c.parts)
}

// AppendBinary appends the encoding of the command that ends the trunk.
func (e *trunkEnd) AppendBinary(b []byte) []byte {
	b = append(b, formatVersion, e.kind)
	if e.kind != trunkPart {
		return b
	}
	b = appendUint(appendUint(b, uint64(e.shard)), e.epoch)
	return appendSeats(b, seats(e.members))
}

// encodeEnd is the command after which the trunk takes no other.
func encodeEnd(e trunkEnd) []byte { return e.AppendBinary(nil) }

// stored is what the trunk's space says of an end. Of leave it says no more than releases
// did that knew no other.
func (e *trunkEnd) stored() []byte {
	if e.kind == trunkLeave {
		return []byte{formatVersion}
	}
	return e.AppendBinary(nil)
}

// load reads what stored wrote.
func (e *trunkEnd) load(b []byte) error {
	if len(b) == 1 {
		b = append(b[:1:1], trunkLeave)
	}
	d := newDecoder(b)
	e.decode(&d, d.byte())
	return d.done()
}

func (e *trunkEnd) decode(d *decoder, kind byte) {
	*e = trunkEnd{kind: kind}
	switch kind {
	case trunkLeave, trunkCompany:
	case trunkPart:
		e.shard, e.epoch = ID(d.uint()), d.uint()
		e.members = make(map[paxos.ReplicaID]string)
		for _, s := range list(d, (*decoder).seat) {
			e.members[s.Replica] = s.Host
		}
		if len(e.members) == 0 {
			d.fail()
		}
	case 0:
		d.fail()
	default:
		d.unknown()
	}
}

// appendJoint appends the trunk's command that carries commands of several shards.
func appendJoint(b []byte, parts []shardCommand) []byte {
	b = appendUint(append(b, formatVersion, trunkParts), uint64(len(parts)))
	for _, p := range parts {
		b = appendBytes(appendUint(b, uint64(p.shard)), p.command)
	}
	return b
}

// appendPart appends the trunk's command that carries one command of one shard.
func appendPart(b []byte, s ID, command []byte) []byte {
	b = appendUint(append(b, formatVersion, trunkParts), 1)
	return appendBytes(appendUint(b, uint64(s)), command)
}

// jointSize is the length of appendJoint's output, at most.
func jointSize(parts []shardCommand) int {
	size := partOverhead
	for _, p := range parts {
		size += 2*maxUint + len(p.command)
	}
	return size
}

// Decode reads what AppendBinary wrote; commands alias b. A kind that a later release
// has added is ErrNewer. The list is made in the memory of the one before.
func (c *trunkCommand) Decode(b []byte) error {
	d := newDecoder(b)
	c.parts = c.parts[:0]
	c.end = trunkEnd{}
	switch kind := d.byte(); kind {
	case trunkParts:
		n := d.uint()
		if n == 0 || n > uint64(len(d.b)) {
			d.fail()
		}
		for ; n > 0 && !d.bad; n-- {
			c.parts = append(c.parts, shardCommand{ID(d.uint()), d.bytes()})
		}
	default:
		c.end.decode(&d, kind)
	}
	return d.done()
}

// The result of a command with one part is the shard's Result, that of an end is the
// verdict "done", or "not owner" of a part that does not count, and that of several parts a list of their Results, each with its
// length.

// splitResults takes the result of a command of n parts apart; the results alias b.
func splitResults(b []byte, n int) ([][]byte, error) {
	if n == 1 {
		return [][]byte{b}, nil
	}
	d := decoder{b: b}
	results := make([][]byte, n)
	for i := range results {
		results[i] = d.bytes()
	}
	return results, d.done()
}

// hasLeft reports that a part was not applied and never will be: the shard had left the
// trunk before.
func hasLeft(result []byte) bool {
	return len(result) > 1 && Verdict(result[1]) == VerdictLeft
}
