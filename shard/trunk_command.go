package shard

import (
	"github.com/rowlockdb/rowlock/paxos"
)

// A command of the trunk (see Trunk) is the version byte, its kind, and
//
//	part:   a shard's id and, to the end, one command of that shard
//	joint:  a count, and for each part the shard's id and a command with its length
//	leave:  nothing
//
// The result of a part is the shard's Result, that of a joint command is one Result with
// its length for each part, and that of leave the verdict "done".
type trunkKind uint8

// The kinds of a trunk's commands. The numbers are part of the log's format.
const (
	trunkPart  trunkKind = 1
	trunkJoint trunkKind = 2
	trunkLeave trunkKind = 3
)

// partOverhead is how much longer than a command the trunk's command is that carries it
// alone.
const partOverhead = 2 + maxUint

// maxUint is the length of the longest number.
const maxUint = 10

// maxShardCommand is the longest command of a shard: it fits the log of a trunk.
const maxShardCommand = paxos.MaxCommand - partOverhead

// shardCommand is one shard's part of a trunk's command.
type shardCommand struct {
	shard   ID
	command []byte
}

// appendPart appends the trunk's command that carries one command of one shard.
func appendPart(b []byte, s ID, command []byte) []byte {
	return append(appendUint(append(b, formatVersion, byte(trunkPart)), uint64(s)), command...)
}

// appendJoint appends the trunk's command that carries the Prepares of one transaction.
func appendJoint(b []byte, parts []shardCommand) []byte {
	b = appendUint(append(b, formatVersion, byte(trunkJoint)), uint64(len(parts)))
	for _, p := range parts {
		b = appendBytes(appendUint(b, uint64(p.shard)), p.command)
	}
	return b
}

// jointSize is the length of appendJoint's output, at most.
func jointSize(parts []shardCommand) int {
	size := 2 + maxUint
	for _, p := range parts {
		size += 2*maxUint + len(p.command)
	}
	return size
}

// encodeLeave is the command after which the trunk takes no other.
func encodeLeave() []byte { return []byte{formatVersion, byte(trunkLeave)} }

// decodeTrunk reads a trunk's command; commands alias b. A kind that a later release has
// added is ErrNewer.
func decodeTrunk(b []byte, parts []shardCommand) (trunkKind, []shardCommand, error) {
	d := newDecoder(b)
	kind := trunkKind(d.byte())
	switch kind {
	case trunkPart:
		s := ID(d.uint())
		parts = append(parts, shardCommand{s, d.b})
		if d.b = nil; len(parts[len(parts)-1].command) == 0 {
			d.fail()
		}
	case trunkJoint:
		n := d.uint()
		if n > uint64(len(d.b)) {
			d.fail()
		}
		for range n {
			parts = append(parts, shardCommand{ID(d.uint()), d.bytes()})
			if d.bad {
				break
			}
		}
	case trunkLeave:
	case 0:
		d.fail()
	default:
		d.unknown()
	}
	return kind, parts, d.done()
}

// splitResults takes the result of a joint command of n parts apart; the results alias b.
func splitResults(b []byte, n int) ([][]byte, error) {
	d := decoder{b: b}
	results := make([][]byte, n)
	for i := range results {
		results[i] = d.bytes()
	}
	return results, d.done()
}

// hasLeft reports that a part was not applied, and never will be: the shard has left the
// trunk before.
func hasLeft(result []byte) bool {
	return len(result) > 1 && Verdict(result[1]) == VerdictLeft
}
