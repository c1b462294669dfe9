package storage

import (
	"encoding/binary"
	"fmt"
)

// VoteState is what a vote register says.
type VoteState uint8

// The states of a vote register. It moves from none to any other, and from
// prepared to committed or aborted, never back.
const (
	VoteNone VoteState = iota
	VotePrepared
	VoteCommitted
	VoteAborted
)

// String names the state in lower case.
func (s VoteState) String() string {
	switch s {
	case VoteNone:
		return "none"
	case VotePrepared:
		return "prepared"
	case VoteCommitted:
		return "committed"
	case VoteAborted:
		return "aborted"
	}
	return fmt.Sprintf("VoteState(%d)", uint8(s))
}

// Vote is the register of one transaction on one shard (Gray and Lamport,
// "Consensus on Transaction Commit").
type Vote struct {
	State        VoteState
	Prepare      Timestamp
	Commit       Timestamp // 0 unless committed
	Participants []uint64  // the shards that vote
	Keys         []Key     // keys with an intent of the transaction here
	Locks        []byte    // the lock set, opaque to storage
	Hash         uint64    // of the request that was voted on
}

// Encoding of a vote: a version byte, the state, prepare and commit (uvarint),
// the hash (8 bytes, big endian), then participants, keys and locks, each with
// its count or length in front (uvarint).
const voteVersion = 1

// AppendBinary adds the stored form of the vote.
func (v *Vote) AppendBinary(dst []byte) []byte {
	dst = append(dst, voteVersion, byte(v.State))
	dst = binary.AppendUvarint(dst, uint64(v.Prepare))
	dst = binary.AppendUvarint(dst, uint64(v.Commit))
	dst = binary.BigEndian.AppendUint64(dst, v.Hash)
	dst = binary.AppendUvarint(dst, uint64(len(v.Participants)))
	for _, p := range v.Participants {
		dst = binary.AppendUvarint(dst, p)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.Keys)))
	for _, k := range v.Keys {
		dst = binary.AppendUvarint(dst, uint64(len(k)))
		dst = append(dst, k...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.Locks)))
	return append(dst, v.Locks...)
}

// DecodeVote reads the stored form. The result shares nothing with b. Empty
// lists come back as nil.
func DecodeVote(b []byte) (Vote, error) {
	d := decoder{b: b}
	if version := d.byte(); version != voteVersion && d.err == nil {
		return Vote{}, corruptf("vote version %d", version)
	}
	v := Vote{
		State:   VoteState(d.byte()),
		Prepare: Timestamp(d.uvarint()),
		Commit:  Timestamp(d.uvarint()),
		Hash:    d.uint64(),
	}
	if n := d.count(); n > 0 {
		v.Participants = make([]uint64, n)
		for i := range v.Participants {
			v.Participants[i] = d.uvarint()
		}
	}
	if n := d.count(); n > 0 {
		v.Keys = make([]Key, n)
		for i := range v.Keys {
			v.Keys[i] = append(Key{}, d.bytes()...)
		}
	}
	v.Locks = append(v.Locks, d.bytes()...)
	switch {
	case d.err != nil:
		return Vote{}, fmt.Errorf("decode vote: %w", d.err)
	case v.State > VoteAborted:
		return Vote{}, corruptf("vote state %d", v.State)
	case len(d.b) != 0:
		return Vote{}, corruptf("%d bytes after a vote", len(d.b))
	}
	return v, nil
}
