package shard

import (
	"fmt"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// Kind is the sort of a command. The numbers are part of the log's format.
type Kind uint8

// The commands of a shard's log.
const (
	// KindBeginEpoch moves the owner epoch from Epoch to Epoch+1 (a compare and
	// swap) and names the process that owns it.
	KindBeginEpoch Kind = 1
	// KindOnePC writes versions and a COMMITTED marker.
	KindOnePC Kind = 2
	// KindPrepare writes intents and a PREPARED vote.
	KindPrepare Kind = 3
	// KindResolve ends PREPARED votes; several transactions at once.
	KindResolve Kind = 4
	// KindCloseVote writes ABORTED where no vote is.
	KindCloseVote Kind = 5
	// KindRaiseFence raises the timestamp below which nothing new may vote and
	// nothing may be read.
	KindRaiseFence Kind = 6
	// KindCollectGarbage removes dead versions of Keys, or of at most Limit keys
	// in [Lo, Hi).
	KindCollectGarbage Kind = 7
	// KindCollectVotes looks at no more than Limit vote markers, from Txn on, and
	// removes those of resolved votes.
	KindCollectVotes Kind = 8
	// KindRaiseSchema raises the least acceptable schema version of a table.
	KindRaiseSchema Kind = 9
	// KindTimestampWindow raises the top of the oracle's window.
	KindTimestampWindow Kind = 10
	// KindPutRecord stores a named record.
	KindPutRecord Kind = 11
	// KindAdvisory changes advisory locks (system shard).
	KindAdvisory Kind = 15
	// KindStage keeps a chunk of a large transaction's writes until its vote.
	KindStage Kind = 14
	// KindPutLocks writes locks of a transaction down that outlive the owner (H3).
	KindPutLocks Kind = 12
	// KindFlushLocks writes a part of the owner's lock table down for the owner
	// of the next epoch (H3).
	KindFlushLocks Kind = 13
	// KindClose raises the shard's closed timestamp: no version at or below it is
	// still to come but those of votes that are PREPARED by now (H12).
	KindClose Kind = 16
)

// Resolution is the outcome of one transaction: committed at Commit, or
// aborted if that is 0.
type Resolution struct {
	Txn    storage.TxnID
	Commit storage.Timestamp
}

// Command is one entry of a shard's log. Everything in it was decided by the
// owner before it was proposed; a replica only compares and writes. Which
// fields count depends on Kind, as noted.
type Command struct {
	Kind Kind
	// Epoch is the proposer's epoch; for BeginEpoch the one to be replaced.
	Epoch uint64

	// Node, Process and Sole: BeginEpoch. Process is drawn at random when a
	// process opens the replica, so that an epoch belongs to one life of one
	// process (H1). Sole says that reads need no barrier in this epoch (H14).
	Node, Process uint64
	Sole          bool
	// Lease: BeginEpoch; how long the owner after this one has to wait because of
	// its leases, 0 if it takes none. Clear says that no owner before this one can
	// have a lease: the proposer was the owner of the epoch that ends, and had
	// waited for those before (H1).
	Lease time.Duration
	Clear bool
	// Flush names a flush of the lock table: the one that a BeginEpoch inherits
	// (0: none), the one that a FlushLocks belongs to.
	Flush uint64

	// Txn: OnePC, Prepare, Stage, CloseVote, CollectVotes, PutLocks. The others:
	// OnePC, Prepare; Schemas and Writes Stage too.
	Txn storage.TxnID
	// At is the commit timestamp of a OnePC, the prepare timestamp of a vote.
	At           storage.Timestamp
	Hash         uint64
	Participants []ID   // Prepare
	Locks        []byte // Prepare, PutLocks: the encoded lock set
	Schemas      []SchemaRef
	Writes       []Write
	Chunk        uint32 // Stage: its number
	// Chunks and Staged say what must have been staged before: how many chunks,
	// and the sum of their hashes. Prepare.
	Chunks uint32
	Staged uint64

	Resolutions []Resolution // Resolve

	Below  storage.Timestamp // RaiseFence, CollectGarbage, CollectVotes, TimestampWindow (the top), Close
	Keys   []storage.Key     // CollectGarbage
	Lo, Hi storage.Key       // CollectGarbage
	Limit  int               // CollectGarbage, CollectVotes

	Table, Version uint64 // RaiseSchema

	Name     string // PutRecord
	Value    []byte // PutRecord
	IfAbsent bool   // PutRecord: keep what is there

	Advisory AdvisoryChange // Advisory
	Token    LockToken      // PutLocks: of the transaction's grants

	Handed     []handedLocks   // FlushLocks
	Last       bool            // FlushLocks: the flush is complete with this part
	TokenEpoch uint64          // FlushLocks
	Gateways   []handedGateway // FlushLocks, in the last part
}

// AppendBinary appends the command's encoding: version, kind, epoch, and the
// fields of the kind.
func (c *Command) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion, byte(c.Kind)), c.Epoch)
	switch c.Kind {
	case KindBeginEpoch:
		b = c.appendBeginEpoch(b)
	case KindOnePC:
		b = c.appendVote(b)
	case KindPrepare:
		b = appendBytes(appendIDs(c.appendVote(b), c.Participants), c.Locks)
		b = appendUint(appendUint(b, uint64(c.Chunks)), c.Staged)
	case KindStage:
		b = appendUint(appendTxn(b, c.Txn), uint64(c.Chunk))
		b = appendWrites(appendSchemas(b, c.Schemas), c.Writes)
	case KindResolve:
		b = appendUint(b, uint64(len(c.Resolutions)))
		for _, r := range c.Resolutions {
			b = appendUint(appendTxn(b, r.Txn), uint64(r.Commit))
		}
	case KindCloseVote:
		b = appendTxn(b, c.Txn)
	case KindRaiseFence, KindTimestampWindow, KindClose:
		b = appendUint(b, uint64(c.Below))
	case KindCollectGarbage:
		b = appendKeys(appendUint(b, uint64(c.Below)), c.Keys)
		b = appendUint(appendOptional(appendOptional(b, c.Lo), c.Hi), uint64(c.Limit))
	case KindCollectVotes:
		b = appendUint(appendUint(appendTxn(b, c.Txn), uint64(c.Below)), uint64(c.Limit))
	case KindRaiseSchema:
		b = appendUint(appendUint(b, c.Table), c.Version)
	case KindPutRecord:
		b = appendBool(appendBytes(appendString(b, c.Name), c.Value), c.IfAbsent)
	case KindAdvisory:
		b = c.Advisory.appendBinary(b)
	case KindPutLocks:
		b = appendBytes(appendToken(appendTxn(b, c.Txn), c.Token), c.Locks)
	case KindFlushLocks:
		b = appendBool(appendHanded(appendUint(b, c.Flush), c.Handed), c.Last)
		b = appendUint(b, c.TokenEpoch)
		b = appendGateways(b, c.Gateways)
	default:
		panic(fmt.Sprintf("shard: command of kind %d", c.Kind))
	}
	return b
}

// The flags of a BeginEpoch.
const (
	beginSole  = 1 << 0
	beginFlush = 1 << 1 // the name of a flush follows
	beginLease = 1 << 2 // the wait of the next owner follows
	beginClear = 1 << 3
)

func (c *Command) appendBeginEpoch(b []byte) []byte {
	flags := byte(0)
	if c.Sole {
		flags |= beginSole
	}
	if c.Flush != 0 {
		flags |= beginFlush
	}
	if c.Lease != 0 {
		flags |= beginLease
	}
	if c.Clear {
		flags |= beginClear
	}
	b = append(appendUint(appendUint(b, c.Node), c.Process), flags)
	if c.Flush != 0 {
		b = appendUint(b, c.Flush)
	}
	if c.Lease != 0 {
		b = appendUint(b, uint64(c.Lease))
	}
	return b
}

func (c *Command) decodeBeginEpoch(d *decoder) {
	c.Node, c.Process = d.uint(), d.uint()
	flags := d.byte()
	if flags&^(beginSole|beginFlush|beginLease|beginClear) != 0 {
		d.unknown()
	}
	c.Sole, c.Clear = flags&beginSole != 0, flags&beginClear != 0
	if flags&beginFlush != 0 {
		if c.Flush = d.uint(); c.Flush == 0 {
			d.fail()
		}
	}
	if flags&beginLease != 0 {
		if c.Lease = d.duration(); c.Lease == 0 {
			d.fail()
		}
	}
}

func (c *Command) appendVote(b []byte) []byte {
	b = appendUint(appendTxn(b, c.Txn), uint64(c.At))
	b = appendUint(b, c.Hash)
	return appendWrites(appendSchemas(b, c.Schemas), c.Writes)
}

// Decode reads what AppendBinary wrote; byte strings alias b. A kind or a flag that a
// later release has added is ErrNewer.
func (c *Command) Decode(b []byte) error {
	d := newDecoder(b)
	*c = Command{Kind: Kind(d.byte()), Epoch: d.uint()}
	switch c.Kind {
	case KindBeginEpoch:
		c.decodeBeginEpoch(&d)
	case KindOnePC:
		c.decodeVote(&d)
	case KindPrepare:
		c.decodeVote(&d)
		c.Participants, c.Locks = d.ids(), d.bytes()
		c.Chunks, c.Staged = d.chunk(), d.uint()
	case KindStage:
		c.Txn, c.Chunk = d.txn(), d.chunk()
		c.Schemas, c.Writes = d.schemas(), d.writes()
	case KindResolve:
		c.Resolutions = list(&d, func(d *decoder) Resolution {
			return Resolution{Txn: d.txn(), Commit: d.time()}
		})
	case KindCloseVote:
		c.Txn = d.txn()
	case KindRaiseFence, KindTimestampWindow, KindClose:
		c.Below = d.time()
	case KindCollectGarbage:
		c.Below, c.Keys, c.Lo, c.Hi, c.Limit = d.time(), d.keys(), d.optional(), d.optional(), d.small()
	case KindCollectVotes:
		c.Txn, c.Below, c.Limit = d.txn(), d.time(), d.small()
	case KindRaiseSchema:
		c.Table, c.Version = d.uint(), d.uint()
	case KindPutRecord:
		c.Name, c.Value, c.IfAbsent = d.string(), d.bytes(), d.bool()
	case KindAdvisory:
		c.Advisory = d.advisoryChange()
	case KindPutLocks:
		c.Txn, c.Token, c.Locks = d.txn(), d.token(), d.bytes()
	case KindFlushLocks:
		c.Flush, c.Handed, c.Last = d.uint(), d.handed(), d.bool()
		c.TokenEpoch, c.Gateways = d.uint(), d.gateways()
	case 0:
		d.fail()
	default:
		d.unknown()
	}
	if err := d.done(); err != nil {
		return fmt.Errorf("command of kind %d: %w", c.Kind, err)
	}
	return nil
}

func (c *Command) decodeVote(d *decoder) {
	c.Txn, c.At, c.Hash = d.txn(), d.time(), d.uint()
	c.Schemas, c.Writes = d.schemas(), d.writes()
}

// Verdict is what the state machine did with a command.
type Verdict uint8

// The verdicts.
const (
	// VerdictDone: applied.
	VerdictDone Verdict = 1
	// VerdictNotOwner: another epoch is current, nothing was written.
	VerdictNotOwner Verdict = 2
	// VerdictVote: the vote register holds Result.Vote, written now or before.
	VerdictVote Verdict = 3
	// VerdictFenced: no vote, and none may be written any more (H8).
	VerdictFenced Verdict = 4
	// VerdictSchema: a schema version is too old (H11), nothing was written.
	VerdictSchema Verdict = 5
	// VerdictRefused: a condition of the command does not hold.
	VerdictRefused Verdict = 6
	// VerdictLeft: the shard has left the trunk, and this command is not applied here.
	VerdictLeft Verdict = 7
)

// Result is the state machine's answer to one command.
type Result struct {
	Verdict Verdict
	// Epoch is the current epoch after the command.
	Epoch uint64
	// Vote (State, Prepare, Commit and Hash only): VerdictVote.
	Vote storage.Vote
	// Value is the stored record (PutRecord), the holder of the name (Advisory),
	// or where to go on from: a key
	// (CollectGarbage) or a transaction's id (CollectVotes); nil at the end.
	Value []byte
	// Count is how many versions, markers or advisory locks were removed.
	Count int
}

// AppendBinary appends the result's encoding.
func (r *Result) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion, byte(r.Verdict)), r.Epoch)
	b = appendUint(append(b, byte(r.Vote.State)), uint64(r.Vote.Prepare))
	b = appendUint(appendUint(b, uint64(r.Vote.Commit)), r.Vote.Hash)
	return appendUint(appendOptional(b, r.Value), uint64(r.Count))
}

// Decode reads what AppendBinary wrote; Value aliases b.
func (r *Result) Decode(b []byte) error {
	d := newDecoder(b)
	*r = Result{Verdict: Verdict(d.byte()), Epoch: d.uint()}
	r.Vote.State, r.Vote.Prepare, r.Vote.Commit, r.Vote.Hash = d.voteState(), d.time(), d.time(), d.uint()
	r.Value, r.Count = d.optional(), d.small()
	return d.done()
}
