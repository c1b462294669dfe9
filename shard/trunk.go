package shard

import (
	"fmt"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// The names of the meta records in the trunk's space.
const (
	metaLeft       = "left"       // the shards have left: what they have after it, a trunkEnd
	metaAlone      = "alone"      // there is a trunk, and it has no log
	metaUnfinished = "unfinished" // the command of which a part is stored
)

// TrunkSpace is the space of a trunk's own records. No shard has its number.
const TrunkSpace = 1 << 62

// Trunk is the state machine of a log that several shards of a node share while the node
// is alone: their machines are carried by it. A command of the trunk is a command of one
// shard, or the Prepares of one transaction on several, or it ends the trunk. It
// satisfies paxos.StateMachine.
//
// All that the carried machines change goes into one batch over their spaces and the
// trunk's own, and there the applied index stands, for all of them: what is durable is a
// prefix of the trunk's log, in all spaces the same. The applied record of a carried
// shard's own space says nothing, until leave sets it to 0: the shard's own log begins
// then.
//
// A trunk without a log (WithoutLog) has nobody who would apply the rest of an entry after
// a power cut in the middle of it. So it keeps that command itself until the entry is
// whole, and Open finishes it.
//
// A trunk with members (WithMembers) sends its state to those that lag or join.
type Trunk struct {
	space    *storage.Space
	sync     func() error
	replica  uint64
	machines map[ID]*Machine
	logless  bool
	shared   bool           // there may be other members
	all      *storage.Range // the spaces of all shards and its own, if it is shared
	records  *storage.Range // its own space, if it is shared
	left     atomic.Bool
	end      trunkEnd // written before left is set
	// onLeft, if set, is called when the shards have left, by the goroutine that applies;
	// not at Open.
	onLeft func()

	// The rest belongs to the goroutine that applies.
	batch   *storage.SharedBatch
	own     *storage.Batch // the trunk's part of batch
	touched []*Machine     // that have a part of batch
	last    paxos.Index    // last entry that is wholly in batch, or before it
	divided []byte         // command of the entry that is applied, if it may take several batches
	kept    bool           // it is stored
	result  []byte         // arena of the results of one Apply
	failed  error          // of an Apply: there is no further one

	command  trunkCommand // memory of the entry that is applied
	commands []Command    // its parts'
	listed   []byte       // the result of one of them
}

// NewTrunk returns the trunk over a space of its own. sync makes everything committed to
// the engine durable; replica is stored with the applied index.
func NewTrunk(space *storage.Space, sync func() error, replica uint64) *Trunk {
	return &Trunk{space: space, sync: sync, replica: replica, machines: make(map[ID]*Machine)}
}

// WithoutLog says, before the trunk is opened, that what it has not applied is nowhere.
func (t *Trunk) WithoutLog() { t.logless = true }

// Carry makes a machine part of the trunk, before it is opened. Whoever carries a shard
// carries all that ever had an entry here.
func (t *Trunk) Carry(s ID, m *Machine) {
	m.trunk = t
	t.machines[s] = m
}

// Left reports that the shards have left: nothing is applied to them here any more. It
// is true when the result of the end is given, and after Open of such a trunk.
func (t *Trunk) Left() bool { return t.left.Load() }

// leftFor says what the shards have after the trunk that they have left.
func (t *Trunk) leftFor() trunkEnd { return t.end }

// Open loads the registers of all shards and returns the applied index of all. If the
// shards have left it lets them go, as leave does. An entry of which only a part is stored
// is finished.
func (t *Trunk) Open() (paxos.Index, error) {
	if err := t.neighbours(); err != nil {
		return 0, err
	}
	if err := t.load(); err != nil {
		return 0, err
	}
	if err := t.finish(); err != nil {
		return 0, err
	}
	return t.last, nil
}

// load loads the registers of all shards, and lets them go if they have left.
func (t *Trunk) load() error {
	for _, m := range t.machines {
		if _, err := m.load(); err != nil {
			return err
		}
	}
	left, err := t.loadRecords()
	if left {
		t.release()
	}
	return err
}

// loadRecords loads the trunk's own records.
func (t *Trunk) loadRecords() (left bool, err error) {
	snap := t.space.Snapshot()
	defer snap.Close()
	applied, _, err := snap.Applied()
	if err != nil {
		return false, fmt.Errorf("load applied record of the trunk: %w", err)
	}
	if left, err = t.loadEnd(snap); err != nil {
		return false, err
	}
	t.last = paxos.Index(applied.Index)
	return left, nil
}

// loadEnd reads whether the shards have left, and for what.
func (t *Trunk) loadEnd(snap *storage.Snapshot) (left bool, err error) {
	b, left, err := snap.Meta(metaLeft)
	if err == nil && left && !t.Left() {
		err = t.end.load(b)
	}
	if err != nil {
		return false, fmt.Errorf("load the end of the trunk: %w", err)
	}
	return left, nil
}

// finish applies what is kept of an entry whose batches a crash has cut. The entry finds
// what is left to do, as it would if a log brought it again.
func (t *Trunk) finish() error {
	snap := t.space.Snapshot()
	defer snap.Close()
	command, ok, err := snap.Meta(metaUnfinished)
	if err != nil || !ok || mutated("0092.half-an-entry") {
		return err
	}
	t.kept = true
	if err := t.Apply([]paxos.Entry{{Index: t.last + 1, Command: command}}); err != nil {
		return fmt.Errorf("finish an entry: %w", err)
	}
	return t.sync()
}

// release lets the machines go: they have spaces, and from now on logs, of their own.
func (t *Trunk) release() {
	for _, m := range t.machines {
		m.trunk = nil
	}
	t.left.Store(true)
}

// Apply applies entries in order and fills in their results, as Machine.Apply does.
func (t *Trunk) Apply(entries []paxos.Entry) error {
	if t.failed == nil {
		t.failed = t.applyAll(entries)
	}
	if t.failed == nil {
		t.failed = t.flush()
	}
	return t.failed
}

// ApplyDurably implements alone.Machine.
func (t *Trunk) ApplyDurably(entries []paxos.Entry) (durable func() error, err error) {
	if t.failed == nil {
		t.failed = t.applyAll(entries)
	}
	if t.failed == nil {
		durable, t.failed = t.flushDurably()
	}
	return durable, t.failed
}

func (t *Trunk) applyAll(entries []paxos.Entry) error {
	t.result = make([]byte, 0, 24*len(entries))
	for i := range entries {
		e := &entries[i]
		start := len(t.result)
		if err := t.applyEntry(e); err != nil {
			return fmt.Errorf("entry %d of the trunk: %w", e.Index, err)
		}
		e.Result = t.result[start:len(t.result):len(t.result)]
		t.last = e.Index
		t.begin() // even a refused command moves the applied index
		t.whole()
	}
	return nil
}

// applyEntry applies one entry and appends its result.
func (t *Trunk) applyEntry(e *paxos.Entry) error {
	c := &t.command
	if err := c.Decode(e.Command); err != nil {
		return err
	}
	defer clear(c.parts) // they are not ours to keep
	switch {
	case len(c.parts) == 0:
		return t.leave(c.end, e.Index)
	case t.left.Load() && !mutated("0089.applied-after-leave"):
		for range c.parts {
			t.answer(Result{Verdict: VerdictLeft}, len(c.parts) > 1)
		}
		return nil
	case len(c.parts) > 1:
		return t.applyJoint(c.parts)
	}
	return t.applyPart(c.parts[0], e)
}

// answer appends the result of a part, with its length if it is one of several.
func (t *Trunk) answer(r Result, listed bool) {
	if listed {
		t.listed = r.AppendBinary(t.listed[:0])
		t.result = appendBytes(t.result, t.listed)
	} else {
		t.result = r.AppendBinary(t.result)
	}
}

// applyPart applies the command of one shard.
func (t *Trunk) applyPart(p shardCommand, e *paxos.Entry) error {
	m, err := t.machine(p.shard)
	if err != nil {
		return err
	}
	var c Command
	if err := c.Decode(p.command); err != nil {
		return fmt.Errorf("shard %d: %w", p.shard, err)
	}
	if c.Kind == KindResolve {
		t.divided = e.Command
	}
	r, err := m.apply(&c, e.Index)
	if err != nil {
		return fmt.Errorf("shard %d, kind %d: %w", p.shard, c.Kind, err)
	}
	r.Epoch = m.owner.Load().Epoch
	t.answer(r, false)
	return nil
}

// machine is that of a shard. To pass over a shard that is not carried would lose what
// was acknowledged.
func (t *Trunk) machine(s ID) (*Machine, error) {
	m := t.machines[s]
	if m == nil {
		return nil, fmt.Errorf("shard %d is not carried", s)
	}
	return m, nil
}

// leave ends the trunk: what the spaces hold is where the logs after it begin. That is
// durable before anybody can know of it.
func (t *Trunk) leave(end trunkEnd, index paxos.Index) error {
	if end.kind == trunkPart && !t.left.Load() {
		m, err := t.machine(end.shard)
		if err != nil {
			return err
		}
		if now := m.owner.Load().Epoch; now != end.epoch {
			t.answer(Result{Verdict: VerdictNotOwner, Epoch: now}, false)
			return nil
		}
	}
	if !t.left.Load() {
		t.begin()
		for _, m := range t.machines {
			m.begin().SetApplied(storage.Applied{Replica: m.replica, Index: 0})
			m.last = 0
		}
		t.own.PutMeta(metaLeft, end.stored())
		t.last = index
		if err := t.flush(); err != nil {
			return err
		}
		if !mutated("0089.leave-unsynced") {
			if err := t.sync(); err != nil {
				return fmt.Errorf("leave the trunk: %w", err)
			}
		}
		t.end = end
		t.release()
		if t.onLeft != nil {
			t.onLeft()
		}
	}
	t.answer(Result{Verdict: VerdictDone}, false)
	return nil
}

// begin opens the batch if need be.
func (t *Trunk) begin() {
	if t.batch == nil {
		t.batch = t.space.Engine().NewSharedBatch()
		t.own = t.batch.Of(t.space)
	}
}

// part returns a machine's part of the batch, which it has none of yet.
func (t *Trunk) part(m *Machine) *storage.Batch {
	if len(t.touched) > 0 && mutated("0089.parts-apart") {
		_ = t.flush()
	}
	t.begin()
	t.touched = append(t.touched, m)
	return t.batch.Of(m.space)
}

// flush commits the open batch with the applied index of the last entry that is wholly
// in it.
func (t *Trunk) flush() error {
	if t.batch == nil {
		return nil
	}
	b := t.complete()
	err := b.Commit()
	b.Close()
	return t.flushed(err)
}

// flushDurably is flush of a batch that there is. The function that it returns waits until
// that is durable.
func (t *Trunk) flushDurably() (durable func() error, err error) {
	if mutated("0092.not-awaited") {
		return func() error { return nil }, t.flush()
	}
	b := t.complete()
	if err := t.flushed(b.CommitDurably()); err != nil {
		return nil, err
	}
	return func() error {
		defer b.Close()
		return b.AwaitDisk()
	}, nil
}

// complete takes the open batch, with what belongs in every one.
func (t *Trunk) complete() *storage.SharedBatch {
	if t.divided != nil && t.logless {
		t.own.PutMeta(metaUnfinished, t.divided)
		t.kept = true
	}
	t.own.SetApplied(storage.Applied{Replica: t.replica, Index: uint64(t.last)})
	b := t.batch
	t.batch, t.own = nil, nil
	return b
}

// flushed ends the batch that was taken, for all whose part was in it.
func (t *Trunk) flushed(err error) error {
	if err != nil {
		return fmt.Errorf("commit the trunk's batch at index %d: %w", t.last, err)
	}
	for _, m := range t.touched {
		m.forgetBatch()
		m.closed.Store(m.closing)
	}
	t.touched = t.touched[:0]
	return nil
}

// whole says that all of an entry is in the open batch, or before it.
func (t *Trunk) whole() {
	t.divided = nil
	if t.kept {
		t.own.DeleteMeta(metaUnfinished)
		t.kept = false
	}
}

// boundBatch is that of a Machine.
func (t *Trunk) boundBatch() error {
	if t.batch == nil || t.batch.Size() <= resolveFlush {
		return nil
	}
	return t.flush()
}

// Sync makes everything applied durable.
func (t *Trunk) Sync() error { return t.sync() }

// Close does nothing: the spaces belong to the engine.
func (t *Trunk) Close() error { return nil }
