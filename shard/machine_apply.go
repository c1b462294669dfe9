package shard

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// Apply applies entries in order and fills in their results. Data and applied
// index go into one batch; usually one batch takes all the entries. An error is
// a failure of the disk or a log that this version cannot read: either way the
// replica must stop. To leave such an entry out would make its state another than that
// of the others, so nothing is applied after it.
func (m *Machine) Apply(entries []paxos.Entry) error {
	if m.failed == nil {
		m.failed = m.applyAll(entries)
	}
	return m.failed
}

func (m *Machine) applyAll(entries []paxos.Entry) error {
	m.result = make([]byte, 0, 24*len(entries))
	for i := range entries {
		e := &entries[i]
		var c Command
		if err := c.Decode(e.Command); err != nil {
			if mutated("V4.unknown-is-skipped") {
				e.Result, m.last = (&Result{Verdict: VerdictRefused}).AppendBinary(nil), e.Index
				continue
			}
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		r, err := m.apply(&c, e.Index)
		if err != nil {
			return fmt.Errorf("apply entry %d, kind %d: %w", e.Index, c.Kind, err)
		}
		r.Epoch = m.owner.Load().Epoch
		start := len(m.result)
		m.result = r.AppendBinary(m.result)
		e.Result = m.result[start:len(m.result):len(m.result)]
		m.last = e.Index
		m.begin() // even a refused command moves the applied index
	}
	return m.flush()
}

// begin returns the open batch, opening one if need be.
func (m *Machine) begin() *storage.Batch {
	switch {
	case m.batch != nil:
	case m.trunk != nil:
		m.batch = m.trunk.part(m)
	default:
		m.batch = m.space.NewBatch()
	}
	return m.batch
}

// flush commits the open batch with the applied index of its last entry.
func (m *Machine) flush() error {
	if m.trunk != nil {
		return m.trunk.flush()
	}
	if m.batch == nil {
		return nil
	}
	m.batch.SetApplied(storage.Applied{Replica: m.replica, Index: uint64(m.last)})
	err := m.batch.Commit()
	m.batch.Close()
	m.forgetBatch()
	if err != nil {
		return fmt.Errorf("commit batch at index %d: %w", m.last, err)
	}
	m.closed.Store(m.closing)
	return nil
}

// forgetBatch ends the batch.
func (m *Machine) forgetBatch() {
	m.batch = nil
	clear(m.pending)
}

// apply carries out one command. The order of checks is fixed by H8: epoch,
// vote register, fence, and then what the command itself asks for.
func (m *Machine) apply(c *Command, index paxos.Index) (Result, error) {
	if c.Kind == KindBeginEpoch {
		return m.beginEpoch(c), nil
	}
	if !m.inEpoch(c) {
		return Result{Verdict: VerdictNotOwner}, nil
	}
	switch c.Kind {
	case KindOnePC, KindPrepare, KindCloseVote:
		return m.vote(c)
	case KindStage:
		return m.stage(c)
	case KindResolve:
		return m.resolveAll(c)
	case KindRaiseFence:
		return m.raiseFence(c), nil
	case KindCollectGarbage:
		return m.collectGarbage(c)
	case KindCollectVotes:
		return m.collectVotes(c)
	case KindRaiseSchema:
		return m.raiseSchema(c), nil
	case KindTimestampWindow:
		return m.raiseWindow(c), nil
	case KindPutRecord:
		return m.putRecord(c)
	case KindAdvisory:
		return m.advisory(&c.Advisory, uint64(index)), nil
	case KindPutLocks:
		return m.putLocks(c)
	case KindFlushLocks:
		return m.flushLocks(c)
	case KindClose:
		return m.closeTimestamp(c), nil
	}
	panic(fmt.Sprintf("shard: command of kind %d passed its decoder", c.Kind))
}

// inEpoch reports whether a command is one of the current owner's.
func (m *Machine) inEpoch(c *Command) bool {
	return c.Epoch == m.owner.Load().Epoch && c.Epoch != 0 || mutated("1.4.epoch-unchecked")
}

// beginEpoch is a compare and swap. A copy of a BeginEpoch that was applied
// already finds its own process in the register and is answered alike.
func (m *Machine) beginEpoch(c *Command) Result {
	now := m.owner.Load()
	same := now.Process == c.Process || mutated("H1.any-process")
	if now.Epoch == c.Epoch+1 && same && now.Node == c.Node {
		return Result{Verdict: VerdictDone}
	}
	if now.Epoch != c.Epoch {
		return Result{Verdict: VerdictNotOwner}
	}
	next := &ownership{Epoch: c.Epoch + 1, Node: c.Node, Process: c.Process, Sole: c.Sole, Lease: c.Lease}
	// An owner that wrote its locks down for this epoch had served and had stopped.
	released := m.inherit(next.Epoch, c.Flush)
	if !released && !c.Clear {
		next.Owed = max(now.Owed, now.Lease)
	}
	m.begin().PutMeta(metaOwner, next.AppendBinary(nil))
	m.owner.Store(next)
	return Result{Verdict: VerdictDone}
}

// vote applies OnePC, Prepare and CloseVote: whatever the register holds is the
// answer; only an empty register is written.
func (m *Machine) vote(c *Command) (Result, error) {
	r, err := m.admit(c)
	if err != nil || r.Verdict != VerdictDone {
		if r.Verdict == VerdictFenced {
			m.dropLocks(c.Txn)
		}
		return r, err
	}
	var v storage.Vote
	switch c.Kind {
	case KindOnePC:
		v = m.commitAt(c, c.At)
	case KindPrepare:
		v = m.prepare(c)
	case KindCloseVote:
		v = storage.Vote{State: storage.VoteAborted}
		if !mutated("H9.close-keeps-chunks") {
			m.dropStaged(c.Txn)
		}
		if mutated("1.4.close-does-not-write") {
			return voteResult(v), nil
		}
	}
	if c.Kind == KindOnePC && mutated("1.4.onepc-leaves-no-marker") {
		return voteResult(v), nil
	}
	m.putVote(c.Txn, v)
	return voteResult(v), nil
}

// admit is the verdict on a vote before it is written: VerdictDone if it may be. It
// changes nothing.
func (m *Machine) admit(c *Command) (Result, error) {
	v, ok, err := m.lookup(c.Txn)
	if err != nil {
		return Result{}, err
	}
	fenced := uint64(c.Txn.Start) < m.fence.Load()
	if fenced && mutated("H8.fence-before-register") {
		return Result{Verdict: VerdictFenced}, nil
	}
	if ok && !mutated("1.4.register-written-twice") {
		return voteResult(v), nil
	}
	closing := mutated("H8.fenced-close-writes") && c.Kind == KindCloseVote
	if fenced && !closing && !mutated("1.4.fence-ignored") {
		return Result{Verdict: VerdictFenced}, nil
	}
	if !m.schemasCurrent(c.Schemas) {
		return Result{Verdict: VerdictSchema}, nil
	}
	if c.Kind != KindCloseVote && !m.complete(c) {
		return Result{Verdict: VerdictRefused}, nil
	}
	return Result{Verdict: VerdictDone}, nil
}

// wouldPrepare reports whether a Prepare would now write PREPARED, without chunks that
// were staged before: those take several batches to commit.
func (m *Machine) wouldPrepare(c *Command) (bool, error) {
	if !m.inEpoch(c) || c.Chunks != 0 {
		return false, nil
	}
	r, err := m.admit(c)
	return r.Verdict == VerdictDone, err
}

// commitVote applies a Prepare and the commit that follows from it. What is left is what
// Prepare and Resolve leave.
func (m *Machine) commitVote(c *Command, commit storage.Timestamp) Result {
	v := m.commitAt(c, commit)
	m.putVote(c.Txn, v)
	return voteResult(v)
}

func voteResult(v storage.Vote) Result {
	return Result{Verdict: VerdictVote,
		Vote: storage.Vote{State: v.State, Prepare: v.Prepare, Commit: v.Commit, Hash: v.Hash}}
}

func (m *Machine) schemasCurrent(refs []SchemaRef) bool {
	for _, s := range refs {
		if s.Version < m.schemas[s.Table] && !mutated("H11.old-votes") {
			return false
		}
	}
	return true
}

// commitAt writes the versions of a vote that commits at once.
func (m *Machine) commitAt(c *Command, commit storage.Timestamp) storage.Vote {
	b := m.begin()
	for i := range c.Writes {
		putWrite(b, &c.Writes[i], commit, c.Txn.Start)
	}
	m.committed(commit)
	return storage.Vote{State: storage.VoteCommitted, Prepare: c.At, Commit: commit, Hash: c.Hash}
}

func putWrite(b *storage.Batch, w *Write, commit, start storage.Timestamp) {
	if w.Tombstone {
		b.PutTombstone(w.Key, commit, start)
	} else {
		b.PutVersion(w.Key, commit, start, w.Value)
	}
}

// committed raises lastCommit; only the applying goroutine writes it.
func (m *Machine) committed(at storage.Timestamp) {
	if uint64(at) > m.lastCommit.Load() {
		m.lastCommit.Store(uint64(at))
	}
}

func (m *Machine) prepare(c *Command) storage.Vote {
	b := m.begin()
	v := storage.Vote{State: storage.VotePrepared, Prepare: c.At, Hash: c.Hash, Locks: slices.Clone(c.Locks)}
	for _, p := range c.Participants {
		v.Participants = append(v.Participants, uint64(p))
	}
	size := 0
	for i := range c.Writes {
		w := &c.Writes[i]
		b.PutIntent(w.Key, storage.Intent{Txn: c.Txn, Prepare: c.At, Value: w.Value, Tombstone: w.Tombstone})
		size += len(w.Key) + len(w.Value)
	}
	p := &preparedVote{}
	if size <= cachedWrites {
		p.writes = cloneWrites(c.Writes, size)
	}
	for i := range c.Writes {
		if p.writes != nil {
			v.Keys = append(v.Keys, p.writes[i].Key)
		} else {
			v.Keys = append(v.Keys, slices.Clone(c.Writes[i].Key))
		}
	}
	p.vote = v
	m.mu.Lock()
	m.mu.prepared[c.Txn] = p
	m.mu.Unlock()
	return v
}

// cloneWrites copies writes out of the log's buffer, into one allocation. The
// result is not nil.
func cloneWrites(writes []Write, size int) []Write {
	buf := make([]byte, 0, size)
	out := make([]Write, len(writes))
	for i, w := range writes {
		k := len(buf)
		buf = append(buf, w.Key...)
		v := len(buf)
		buf = append(buf, w.Value...)
		out[i] = Write{Key: buf[k:v:v], Value: buf[v:len(buf):len(buf)], Tombstone: w.Tombstone}
	}
	return out
}

// resolveAll ends votes. A resolution is a no-op unless its vote is PREPARED:
// duplicates and late messages change nothing.
func (m *Machine) resolveAll(c *Command) (Result, error) {
	if m.mustReadIntents(c.Resolutions) {
		// The intents may lie in the open batch: commit it, before this entry
		// has written anything.
		if err := m.flush(); err != nil {
			return Result{}, err
		}
	}
	size := 0
	for _, r := range c.Resolutions {
		// A batch that fills up is committed in the middle of the entry, with the
		// applied index of the entry before: applied again after a crash, the
		// entry ends the votes that are left and does nothing to the others.
		if size > resolveFlush {
			if err := m.flush(); err != nil {
				return Result{}, err
			}
			size = 0
		}
		n, err := m.resolve(r)
		if err != nil {
			return Result{}, fmt.Errorf("resolve %s: %w", r.Txn, err)
		}
		size += n
	}
	return Result{Verdict: VerdictDone}, nil
}

// resolveFlush is the size of the writes from which on a batch of resolutions is
// committed before the next one: a batch lies in memory as a whole.
const resolveFlush = 8 << 20

func (m *Machine) mustReadIntents(rs []Resolution) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(rs, func(r Resolution) bool {
		p := m.mu.prepared[r.Txn]
		return p != nil && (p.writes == nil || m.mu.staged[r.Txn] != nil)
	})
}

// resolve ends one vote and returns the size of its writes.
func (m *Machine) resolve(r Resolution) (size int, err error) {
	m.mu.Lock()
	p := m.mu.prepared[r.Txn]
	m.mu.Unlock()
	if p == nil && mutated("1.4.resolve-without-prepared") {
		v := storage.Vote{State: storage.VoteAborted, Commit: r.Commit}
		if r.Commit != 0 {
			v.State = storage.VoteCommitted
		}
		m.putVote(r.Txn, v)
	}
	if p == nil {
		return 0, nil
	}
	if r.Commit != 0 && r.Commit < p.vote.Prepare {
		return 0, nil // no coordinator computes this: the commit is the largest prepare timestamp
	}
	writes := p.writes
	if writes == nil {
		if writes, err = m.intents(r.Txn, p.vote.Keys); err != nil {
			return 0, err
		}
	}
	// Chunks come first: they may take several batches, and applied again after
	// the first of these the entry must find the vote's intents still there.
	switch {
	case r.Commit != 0:
		if err := m.commitStaged(r.Txn, r.Commit); err != nil {
			return 0, err
		}
	case !mutated("H9.abort-keeps-chunks"):
		m.dropStaged(r.Txn)
	}
	b := m.begin()
	for i := range writes {
		b.DeleteIntent(writes[i].Key)
		size += len(writes[i].Key) + len(writes[i].Value)
		if r.Commit != 0 {
			putWrite(b, &writes[i], r.Commit, r.Txn.Start)
		}
	}
	v := storage.Vote{State: storage.VoteAborted, Prepare: p.vote.Prepare, Hash: p.vote.Hash}
	if r.Commit != 0 {
		v.State, v.Commit = storage.VoteCommitted, r.Commit
		m.committed(r.Commit)
	}
	m.mu.Lock()
	delete(m.mu.prepared, r.Txn)
	m.mu.Unlock()
	if mutated("1.4.marker-goes-at-once") {
		b.DeleteVote(r.Txn)
		m.pending[r.Txn] = storage.Vote{State: storage.VoteNone}
		return size, nil
	}
	m.putVote(r.Txn, v)
	return size, nil
}

// intents reads the writes of a PREPARED vote back.
func (m *Machine) intents(id storage.TxnID, keys []storage.Key) ([]Write, error) {
	snap := m.space.Snapshot()
	defer snap.Close()
	writes := make([]Write, 0, len(keys))
	for _, k := range keys {
		read, err := snap.Get(k, 0)
		if err != nil {
			return nil, err
		}
		if read.Intent == nil || read.Intent.Txn != id {
			return nil, fmt.Errorf("vote without its intent at key %x", []byte(k))
		}
		writes = append(writes, Write{Key: k, Value: slices.Clone(read.Intent.Value), Tombstone: read.Intent.Tombstone})
	}
	return writes, nil
}

func (m *Machine) raiseFence(c *Command) Result {
	if uint64(c.Below) > m.fence.Load() {
		m.fence.Store(uint64(c.Below))
		m.begin().PutMeta(metaFence, encodeTime(c.Below))
		if !mutated("H9.fence-keeps-chunks") {
			m.dropFenced(c.Below)
		}
	}
	return Result{Verdict: VerdictDone}
}

func (m *Machine) closeTimestamp(c *Command) Result {
	if uint64(c.Below) > m.closing {
		m.closing = uint64(c.Below)
		m.begin().PutMeta(metaClosed, encodeTime(c.Below))
	}
	return Result{Verdict: VerdictDone}
}

func (m *Machine) raiseWindow(c *Command) Result {
	if uint64(c.Below) > m.window.Load() {
		m.window.Store(uint64(c.Below))
		m.begin().PutMeta(metaWindow, encodeTime(c.Below))
	}
	return Result{Verdict: VerdictDone}
}

func (m *Machine) raiseSchema(c *Command) Result {
	if c.Version > m.schemas[c.Table] {
		m.schemas[c.Table] = c.Version
		m.begin().PutMeta(numberRecord(metaSchema, c.Table), encodeNumber(c.Version))
	}
	return Result{Verdict: VerdictDone}
}

func (m *Machine) putRecord(c *Command) (Result, error) {
	if c.IfAbsent {
		if err := m.flush(); err != nil { // an earlier entry may have written it
			return Result{}, err
		}
		if old, ok, err := m.Record(c.Name); err != nil || ok {
			return Result{Verdict: VerdictRefused, Value: old}, err
		}
	}
	m.begin().PutMeta(metaRecord+c.Name, c.Value)
	return Result{Verdict: VerdictDone}, nil
}

// collectGarbage removes dead versions. It reads what is stored, so the open
// batch is committed first: where batches end depends on timing, what this
// command sees must not.
func (m *Machine) collectGarbage(c *Command) (Result, error) {
	if uint64(c.Below) > m.fence.Load() {
		return Result{Verdict: VerdictRefused}, nil
	}
	if err := m.flush(); err != nil {
		return Result{}, err
	}
	b := m.begin()
	result := Result{Verdict: VerdictDone}
	left := c.Limit
	for _, k := range c.Keys {
		next, n, err := b.CollectGarbage(k, successor(k), c.Below, left)
		if err != nil {
			return Result{}, err
		}
		result.Count += n
		if left -= n + 1; next != nil || left <= 0 {
			result.Value = slices.Clone(k) // perhaps not done: go on with this key
			break
		}
	}
	if c.Keys == nil {
		next, n, err := b.CollectGarbage(c.Lo, c.Hi, c.Below, c.Limit)
		if err != nil {
			return Result{}, err
		}
		result.Count, result.Value = n, slices.Clone(next)
	}
	return result, nil
}

// collectVotes removes resolved markers of transactions that began below
// Below, oldest first. PREPARED votes stay, whoever asked. The answer says where
// the next command goes on: beginning at the front again would pass everything
// that the commands before it have removed.
func (m *Machine) collectVotes(c *Command) (Result, error) {
	if uint64(c.Below) > m.fence.Load() && !mutated("1.4.markers-go-unfenced") {
		return Result{Verdict: VerdictRefused}, nil
	}
	if err := m.flush(); err != nil {
		return Result{}, err
	}
	snap := m.space.Snapshot()
	defer snap.Close()
	b, seen := m.begin(), 0
	result := Result{Verdict: VerdictDone}
	err := snap.VotesFrom(c.Txn, func(id storage.TxnID, v storage.Vote) error {
		if id.Start >= c.Below { // votes come in the order of their start
			return errStop
		}
		if seen++; seen > c.Limit {
			result.Value = id.Append(nil)
			return errStop
		}
		if v.State != storage.VotePrepared || mutated("1.4.open-votes-go") {
			b.DeleteVote(id)
			m.pending[id] = storage.Vote{State: storage.VoteNone}
			result.Count++
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return Result{}, err
	}
	return result, nil
}

// successor returns the smallest key above k.
func successor(k storage.Key) storage.Key {
	return append(append(make(storage.Key, 0, len(k)+1), k...), 0)
}
