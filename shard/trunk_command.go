package shard

import "github.com/rowlockdb/rowlock/paxos"

// trunkCommand is one entry of a trunk's log: the command of one shard, or the Prepares
// of one transaction on several, or, without parts, the end of the trunk.
type trunkCommand struct{ parts []shardCommand }

// shardCommand is one shard's part of a trunk's command, encoded.
type shardCommand struct {
	shard   ID
	command []byte
}

// The kinds of a trunk's commands. The numbers are part of the log's format.
const (
	trunkParts byte = 1
	trunkLeave byte = 2
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
		return append(b, formatVersion, trunkLeave)
	}
	return appendJoint(b, c.parts)
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

// encodeLeave is the command after which the trunk takes no other.
func encodeLeave() []byte { return (&trunkCommand{}).AppendBinary(nil) }

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
	switch d.byte() {
	case trunkParts:
		n := d.uint()
		if n == 0 || n > uint64(len(d.b)) {
			d.fail()
		}
		for ; n > 0 && !d.bad; n-- {
			c.parts = append(c.parts, shardCommand{ID(d.uint()), d.bytes()})
		}
	case trunkLeave:
	case 0:
		d.fail()
	default:
		d.unknown()
	}
	return d.done()
}

// The result of a command with one part is the shard's Result, that of leave is the
// verdict "done", and that of several parts a list of their Results, each with its
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
