package shard

import (
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// This file has the encodings of message.go, in the same order. Each begins
// with the version byte; fields follow in declaration order.

func appendSpan(b []byte, s *Span) []byte {
	if s == nil {
		return append(b, 0)
	}
	return appendOptional(appendOptional(append(b, 1), s.Lo), s.Hi)
}

func (d *decoder) span() *Span {
	if !d.bool() {
		return nil
	}
	return &Span{Lo: d.optional(), Hi: d.optional()}
}

func (m *ReadRequest) appendFields(b []byte) []byte {
	b = appendSpan(appendKeys(appendUint(b, uint64(m.At)), m.Keys), m.Span)
	b = appendBool(b, m.Reverse)
	return appendUint(appendUint(b, uint64(m.Limit)), uint64(m.ByteLimit))
}

func (m *ReadRequest) decodeFields(d *decoder) {
	*m = ReadRequest{At: d.time(), Keys: d.keys(), Span: d.span(), Reverse: d.bool(), Limit: d.small(), ByteLimit: d.small()}
}

// AppendBinary appends the encoding.
func (m *ReadRequest) AppendBinary(b []byte) []byte {
	return m.appendFields(append(b, formatVersion))
}

// Decode reads what AppendBinary wrote.
func (m *ReadRequest) Decode(b []byte) error {
	d := newDecoder(b)
	m.decodeFields(&d)
	return d.done()
}

func appendRows(b []byte, rows []Row) []byte {
	b = appendUint(b, uint64(len(rows)))
	for i := range rows {
		r := &rows[i]
		b = appendBool(appendBytes(b, r.Key), r.Found)
		if r.Found {
			b = appendUint(appendBytes(b, r.Value), uint64(r.Commit))
		}
	}
	return b
}

func (d *decoder) row() Row {
	r := Row{Key: d.bytes(), Found: d.bool()}
	if r.Found {
		r.Value, r.Commit = d.bytes(), d.time()
	}
	return r
}

func (m *ReadResponse) appendFields(b []byte) []byte {
	return appendOptional(appendBool(appendRows(b, m.Rows), m.More), m.Resume)
}

func (m *ReadResponse) decodeFields(d *decoder) {
	*m = ReadResponse{Rows: list(d, (*decoder).row), More: d.bool(), Resume: d.optional()}
}

// AppendBinary appends the encoding.
func (m *ReadResponse) AppendBinary(b []byte) []byte {
	return m.appendFields(append(b, formatVersion))
}

// Decode reads what AppendBinary wrote.
func (m *ReadResponse) Decode(b []byte) error {
	d := newDecoder(b)
	m.decodeFields(&d)
	return d.done()
}

func appendToken(b []byte, t LockToken) []byte {
	return appendUint(appendUint(b, t.Epoch), t.Generation)
}

func (d *decoder) token() LockToken { return LockToken{Epoch: d.uint(), Generation: d.uint()} }

func (d *decoder) duration() time.Duration { return time.Duration(d.uint()) }

// AppendBinary appends the encoding.
func (m *LockRequest) AppendBinary(b []byte) []byte {
	b = appendToken(appendTxn(append(b, formatVersion), m.Txn), m.Token)
	b = append(b, byte(m.Mode), byte(m.Wait))
	b = appendSpan(appendKeys(b, m.Keys), m.Span)
	b = appendUint(appendBool(b, m.Reverse), uint64(m.Limit))
	b = appendBool(appendBool(appendBool(b, m.RowsOnly), m.Durable), m.Read)
	b = appendString(appendUint(b, uint64(m.Snapshot)), m.Statement)
	b = appendUint(appendUint(b, uint64(m.Weight)), uint64(m.Timeout))
	return appendUint(b, m.Connection)
}

// Decode reads what AppendBinary wrote.
func (m *LockRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = LockRequest{Txn: d.txn(), Token: d.token(), Mode: LockMode(d.byte()), Wait: LockWait(d.byte()),
		Keys: d.keys(), Span: d.span(), Reverse: d.bool(), Limit: d.small(), RowsOnly: d.bool(), Durable: d.bool(), Read: d.bool(),
		Snapshot: d.time(), Statement: d.string(), Weight: d.small(), Timeout: d.duration(), Connection: d.uint()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *LockResponse) AppendBinary(b []byte) []byte {
	b = appendRows(appendToken(append(b, formatVersion), m.Token), m.Rows)
	b = appendBool(appendInts(b, m.Skipped), m.More)
	return appendUint(appendOptional(b, m.Resume), uint64(m.MaxCommit))
}

// Decode reads what AppendBinary wrote.
func (m *LockResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = LockResponse{Token: d.token(), Rows: list(&d, (*decoder).row), Skipped: d.ints(), More: d.bool(),
		Resume: d.optional(), MaxCommit: d.time()}
	return d.done()
}

func appendWrites(b []byte, writes []Write) []byte {
	if len(writes) > 16 { // large ones grow once
		b = slices.Grow(b, 16+writesSize(writes))
	}
	b = appendUint(b, uint64(len(writes)))
	for i := range writes {
		w := &writes[i]
		b = appendBool(appendBytes(b, w.Key), w.Tombstone)
		if !w.Tombstone {
			b = appendBytes(b, w.Value)
		}
	}
	return b
}

func (d *decoder) write() Write {
	w := Write{Key: d.bytes(), Tombstone: d.bool()}
	if !w.Tombstone {
		w.Value = d.bytes()
	}
	return w
}

func (d *decoder) writes() []Write { return list(d, (*decoder).write) }

func appendLockRefs(b []byte, refs []LockRef) []byte {
	b = appendUint(b, uint64(len(refs)))
	for _, r := range refs {
		b = appendOptional(appendBytes(append(b, byte(r.Mode)), r.Lo), r.Hi)
	}
	return b
}

func (d *decoder) lockRefs() []LockRef {
	return list(d, func(d *decoder) LockRef {
		return LockRef{Mode: LockMode(d.byte()), Lo: d.bytes(), Hi: d.optional()}
	})
}

func appendSchemas(b []byte, refs []SchemaRef) []byte {
	b = appendUint(b, uint64(len(refs)))
	for _, r := range refs {
		b = appendUint(appendUint(b, r.Table), r.Version)
	}
	return b
}

func (d *decoder) schemas() []SchemaRef {
	return list(d, func(d *decoder) SchemaRef { return SchemaRef{Table: d.uint(), Version: d.uint()} })
}

func (m *OnePCRequest) appendFields(b []byte) []byte {
	b = appendUint(appendTxn(b, m.Txn), uint64(m.Floor))
	b = appendWrites(appendToken(b, m.Token), m.Writes)
	return appendSchemas(appendLockRefs(b, m.Locked), m.Schemas)
}

func (m *OnePCRequest) decodeFields(d *decoder) {
	*m = OnePCRequest{Txn: d.txn(), Floor: d.time(), Token: d.token(), Writes: d.writes(),
		Locked: d.lockRefs(), Schemas: d.schemas()}
}

// AppendBinary appends the encoding.
func (m *OnePCRequest) AppendBinary(b []byte) []byte {
	return m.appendFields(append(b, formatVersion))
}

// Decode reads what AppendBinary wrote.
func (m *OnePCRequest) Decode(b []byte) error {
	d := newDecoder(b)
	m.decodeFields(&d)
	return d.done()
}

// AppendBinary appends the encoding.
func (m *PrepareRequest) AppendBinary(b []byte) []byte {
	b = appendIDs(m.appendFields(append(b, formatVersion)), m.Participants)
	return appendUint(appendUint(b, uint64(m.Chunks)), m.Staged)
}

// Decode reads what AppendBinary wrote.
func (m *PrepareRequest) Decode(b []byte) error {
	d := newDecoder(b)
	m.decodeFields(&d)
	m.Participants, m.Chunks, m.Staged = d.ids(), d.chunk(), d.uint()
	return d.done()
}

// AppendBinary appends the encoding.
func (m *StageRequest) AppendBinary(b []byte) []byte {
	b = appendToken(appendTxn(append(b, formatVersion), m.Txn), m.Token)
	return appendWrites(appendSchemas(appendUint(b, uint64(m.Chunk)), m.Schemas), m.Writes)
}

// Decode reads what AppendBinary wrote.
func (m *StageRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = StageRequest{Txn: d.txn(), Token: d.token(), Chunk: d.chunk(), Schemas: d.schemas(), Writes: d.writes()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *VoteResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion, byte(m.State)), uint64(m.Prepare))
	return appendBool(appendUint(b, uint64(m.Commit)), m.Fenced)
}

// Decode reads what AppendBinary wrote.
func (m *VoteResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = VoteResponse{State: d.voteState(), Prepare: d.time(), Commit: d.time(), Fenced: d.bool()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *ResolveRequest) AppendBinary(b []byte) []byte {
	return appendBool(appendUint(appendTxn(append(b, formatVersion), m.Txn), uint64(m.Commit)), m.Wait)
}

// Decode reads what AppendBinary wrote.
func (m *ResolveRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = ResolveRequest{Txn: d.txn(), Commit: d.time(), Wait: d.bool()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *TakeOverRequest) AppendBinary(b []byte) []byte {
	return appendUint(appendUint(append(b, formatVersion), m.Epoch), m.Flush)
}

// Decode reads what AppendBinary wrote.
func (m *TakeOverRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = TakeOverRequest{Epoch: d.uint(), Flush: d.uint()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *CloseVoteRequest) AppendBinary(b []byte) []byte {
	return appendTxn(append(b, formatVersion), m.Txn)
}

// Decode reads what AppendBinary wrote.
func (m *CloseVoteRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = CloseVoteRequest{Txn: d.txn()}
	return d.done()
}

// releaseOfSpans is the first byte of a release that names spans.
const releaseOfSpans = 2

// AppendBinary appends the encoding.
func (m *ReleaseRequest) AppendBinary(b []byte) []byte {
	if len(m.Spans) == 0 {
		return appendKeys(appendTxn(append(b, formatVersion), m.Txn), m.Keys)
	}
	b = appendKeys(appendTxn(append(b, releaseOfSpans), m.Txn), m.Keys)
	b = appendUint(b, uint64(len(m.Spans)))
	for i := range m.Spans {
		b = appendOptional(appendBytes(b, m.Spans[i].Lo), m.Spans[i].Hi)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *ReleaseRequest) Decode(b []byte) error {
	if len(b) == 0 || b[0] != releaseOfSpans {
		d := newDecoder(b)
		*m = ReleaseRequest{Txn: d.txn(), Keys: d.keys()}
		return d.done()
	}
	d := decoder{b: b[1:]}
	*m = ReleaseRequest{Txn: d.txn(), Keys: d.keys()}
	m.Spans = list(&d, func(d *decoder) Span { return Span{Lo: d.bytes(), Hi: d.optional()} })
	if m.Spans == nil {
		d.fail()
	}
	return d.done()
}

func appendTxns(b []byte, ids []storage.TxnID) []byte {
	b = appendUint(b, uint64(len(ids)))
	for _, id := range ids {
		b = appendTxn(b, id)
	}
	return b
}

// AppendBinary appends the encoding.
func (m *RenewRequest) AppendBinary(b []byte) []byte {
	b = appendTxns(appendUint(append(b, formatVersion), m.Gateway), m.Open)
	return appendUint(appendUint(b, m.Cut), uint64(m.Oldest))
}

// Decode reads what AppendBinary wrote.
func (m *RenewRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = RenewRequest{Gateway: d.uint(), Open: d.txns(), Cut: d.uint(), Oldest: d.time()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *UndecidedRequest) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.OlderThan))
}

// Decode reads what AppendBinary wrote.
func (m *UndecidedRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = UndecidedRequest{OlderThan: d.duration()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *UndecidedResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Votes)))
	for _, v := range m.Votes {
		b = appendIDs(appendTxn(b, v.Txn), v.Participants)
		b = appendUint(appendUint(b, uint64(v.Prepare)), uint64(v.Age))
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *UndecidedResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = UndecidedResponse{Votes: list(&d, func(d *decoder) UndecidedVote {
		return UndecidedVote{Txn: d.txn(), Participants: d.ids(), Prepare: d.time(), Age: d.duration()}
	})}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *LocksRequest) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *LocksRequest) Decode(b []byte) error { return decodeEmpty(b) }

// AppendBinary appends the encoding.
func (m *LocksResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Locks)))
	for i := range m.Locks {
		b = appendLockInfo(b, &m.Locks[i])
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *LocksResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = LocksResponse{Locks: list(&d, (*decoder).lockInfo)}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *TimestampRequest) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.Count))
}

// Decode reads what AppendBinary wrote.
func (m *TimestampRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = TimestampRequest{Count: d.small()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *SequenceRequest) AppendBinary(b []byte) []byte {
	b = appendUint(appendUint(append(b, formatVersion), m.ID), m.Start)
	return appendBool(appendUint(appendUint(b, m.Least), m.Count), m.Exact)
}

// Decode reads what AppendBinary wrote.
func (m *SequenceRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = SequenceRequest{ID: d.uint(), Start: d.uint(), Least: d.uint(), Count: d.uint(), Exact: d.bool()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *SequenceResponse) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), m.First)
}

// Decode reads what AppendBinary wrote.
func (m *SequenceResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = SequenceResponse{First: d.uint()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *TimestampResponse) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.First))
}

// Decode reads what AppendBinary wrote.
func (m *TimestampResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = TimestampResponse{First: d.time()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *FenceRequest) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.Below))
}

// Decode reads what AppendBinary wrote.
func (m *FenceRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = FenceRequest{Below: d.time()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *SchemaRequest) AppendBinary(b []byte) []byte {
	return appendUint(appendUint(append(b, formatVersion), m.Table), m.Version)
}

// Decode reads what AppendBinary wrote.
func (m *SchemaRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = SchemaRequest{Table: d.uint(), Version: d.uint()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *CollectRequest) AppendBinary(b []byte) []byte {
	return appendUint(append(b, formatVersion), uint64(m.Below))
}

// Decode reads what AppendBinary wrote.
func (m *CollectRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = CollectRequest{Below: d.time()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *OldestRequest) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *OldestRequest) Decode(b []byte) error { return decodeEmpty(b) }

// AppendBinary appends the encoding.
func (m *OldestResponse) AppendBinary(b []byte) []byte {
	return appendUint(appendUint(append(b, formatVersion), uint64(m.Oldest)), uint64(m.Undecided))
}

// Decode reads what AppendBinary wrote.
func (m *OldestResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = OldestResponse{Oldest: d.time(), Undecided: d.time()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *Done) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *Done) Decode(b []byte) error { return decodeEmpty(b) }

func decodeEmpty(b []byte) error {
	d := newDecoder(b)
	return d.done()
}
