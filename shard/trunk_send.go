package shard

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// A trunk with members sends its state to a member that lags or joins: all spaces of its
// shards and its own, as of one entry. They are neighbours, its own is the last, and who
// receives them replaces all of them in one step.
//
// Once the shards have left, their spaces belong to groups of their own and do not stand
// still at the entry of the trunk's log any more at which these groups began. So from then
// on only the trunk's own records are sent. A member that receives them before it has
// applied that entry itself has nothing for its shards afterwards, and no group is founded
// from it (Founds): the others have founded the groups, and it joins them like any node
// without data. A member that has applied the entry takes the records and nothing else.

// What a snapshot of a trunk carries, its second byte. The first is the version.
const (
	sentAll     byte = 1
	sentRecords byte = 2
)

// WithMembers says, before the trunk is opened, that it may have other members.
func (t *Trunk) WithMembers() { t.shared = true }

// neighbours finds the spaces that are sent.
func (t *Trunk) neighbours() error {
	if !t.shared {
		return nil
	}
	own := t.space.ID()
	ids := []uint64{own}
	for _, m := range t.machines {
		ids = append(ids, m.space.ID())
	}
	slices.Sort(ids)
	if last := len(ids) - 1; ids[last] != own || own-ids[0] != uint64(last) || len(slices.Compact(ids)) != last+1 {
		return fmt.Errorf("shard: the spaces of a trunk are no neighbours, or its own %d is not the last", own)
	}
	e := t.space.Engine()
	t.all, t.records = e.Range(ids[0], own), e.Range(own, own)
	return nil
}

// Founds reports that a group of a shard's own may begin with what this node has of it:
// the shard has left, and what it had then is here, not only the word that it has.
func (t *Trunk) Founds(s ID) (bool, error) {
	m, err := t.machine(s)
	if err != nil || !t.Left() {
		return false, err
	}
	return hasLeftWith(m.space)
}

// hasLeftWith reports whether the space of a shard that has left holds what it left with.
func hasLeftWith(space *storage.Space) (bool, error) {
	// Who applies the entry writes an applied record to each space.
	_, ok, err := space.Applied()
	if err != nil {
		return false, fmt.Errorf("look what shard %d has left with: %w", space.ID(), err)
	}
	return ok, nil
}

// errTrunkAlone: a trunk without members has one replica for as long as it is there.
var errTrunkAlone = errors.New("shard: the trunk's state is never sent to another replica")

// Snapshot fixes the state as of the last entry. Between two calls of Apply there is no
// half of an entry but what a crash has left, which the log finishes here and there alike.
func (t *Trunk) Snapshot() (paxos.Snapshot, error) {
	switch {
	case !t.shared:
		return nil, errTrunkAlone
	case t.failed != nil:
		return nil, t.failed
	case t.Left() && !mutated("0097.all-is-sent-after-leave"):
		return &trunkSnapshot{t, sentRecords, t.records.StreamSnapshot()}, nil
	}
	return &trunkSnapshot{t, sentAll, t.all.StreamSnapshot()}, nil
}

type trunkSnapshot struct {
	trunk  *Trunk
	kind   byte
	stream *storage.Stream
}

func (s *trunkSnapshot) Write(w io.Writer, stop <-chan struct{}) error {
	if _, err := w.Write([]byte{formatVersion, s.kind}); err != nil {
		return err
	}
	err := s.stream.WriteTo(w, stop)
	if err != nil && s.kind == sentAll && s.trunk.Left() && !errors.Is(err, storage.ErrStopped) {
		return fmt.Errorf("%w: the shards have left: %w", paxos.ErrSnapshotGone, err)
	}
	return err
}

func (s *trunkSnapshot) Close() error { return s.stream.Close() }

// Restore replaces the state of all shards, in one step.
func (t *Trunk) Restore(r io.Reader, stop <-chan struct{}) error {
	switch {
	case !t.shared:
		return errTrunkAlone
	case t.failed != nil:
		return t.failed
	}
	r = stoppable{r, stop}
	kind, err := readSent(r)
	switch {
	case err != nil:
		return fmt.Errorf("restore the trunk: %w", err)
	case kind == sentAll && t.Left():
		return errors.New("restore the trunk: the state of shards that have left it")
	case kind == sentAll:
		return t.replace(func() error { return t.all.Restore(r) })
	case t.Left() && !mutated("0097.shards-go-again"):
		if err := t.records.Restore(r); err != nil {
			return err
		}
		_, err := t.loadRecords()
		return err
	}
	return t.replace(func() error { return t.all.RestorePart(r, t.records) })
}

// readSent reads what a snapshot carries.
func readSent(r io.Reader) (kind byte, err error) {
	var b [2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read what a snapshot carries: %w", err)
	}
	d := newDecoder(b[:])
	kind = d.byte()
	if kind != sentAll && kind != sentRecords {
		d.unknown()
	}
	return kind, d.done()
}

// replace replaces the spaces, and loads what is there then. Meanwhile the published
// fences refuse every read, as in Machine.Restore.
func (t *Trunk) replace(restore func() error) error {
	before := make(map[*Machine]uint64, len(t.machines))
	for _, m := range t.machines {
		if len(before) == 0 || !mutated("0097.one-fence") {
			before[m] = m.fence.Swap(uint64(storage.MaxTimestamp))
		}
	}
	if err := restore(); err != nil {
		for m, fence := range before {
			m.fence.Store(fence)
		}
		return err
	}
	if err := t.load(); err != nil {
		return err
	}
	if t.Left() && t.onLeft != nil {
		t.onLeft()
	}
	return nil
}

// stoppable is a reader that gives up when a channel closes.
type stoppable struct {
	r    io.Reader
	stop <-chan struct{}
}

func (s stoppable) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		return 0, storage.ErrStopped
	default:
		return s.r.Read(p)
	}
}
