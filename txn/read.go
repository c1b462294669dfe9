package txn

import (
	"cmp"
	"context"
	"fmt"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// effective is the lock that a read really takes: under SERIALIZABLE a plain
// read is FOR SHARE, unless the whole transaction only reads, whose snapshot is
// a serial point already.
func (t *Txn) effective(o ReadOptions) ReadOptions {
	if o.Lock == LockNone && o.At == 0 && t.o.Isolation == Serializable && !t.o.ReadOnly {
		o.Lock = LockShared
	}
	return o
}

// ready makes sure that what a read with o needs is there: a snapshot for plain
// reads, an id for locks.
func (t *Txn) ready(ctx context.Context, o ReadOptions) error {
	if o.At != 0 {
		return nil // LookAt has seen to it
	}
	if o.Lock == LockNone {
		_, err := t.Snapshot(ctx)
		return err
	}
	if t.o.ReadOnly {
		return &Error{Code: ReadOnly, Txn: t.id, Detail: "locking read"}
	}
	if t.o.Isolation == ReadCommitted && t.id.IsZero() {
		// The statement will want a snapshot if it scans: one timestamp for both.
		_, err := t.Snapshot(ctx)
		return err
	}
	return t.start(ctx)
}

// Get reads one row: from the snapshot, or the latest committed version under a
// lock. A row that the transaction has written is answered from its buffer.
func (t *Txn) Get(ctx context.Context, k Key, o ReadOptions) (Row, error) {
	if err := t.usable(); err != nil {
		return Row{}, err
	}
	o = t.effective(o)
	s := t.shardOf(k)
	if row, ok := t.own(s, k.key); ok {
		return row, nil
	}
	if err := t.ready(ctx, o); err != nil {
		return Row{}, err
	}
	// One allocation for the request and its only key.
	type one struct {
		request shard.ReadRequest
		keys    [1]storage.Key
	}
	if o.Lock == LockNone {
		r := &one{keys: [1]storage.Key{k.key}}
		r.request.At, r.request.Keys = t.at(o), r.keys[:]
		resp, err := t.read(ctx, s, &r.request)
		if err == nil && len(resp.Rows) != 1 {
			err = shortAnswer(1, len(resp.Rows))
		}
		if err != nil {
			return Row{}, t.fail(ctx, err, s)
		}
		return Row{Key: k.key, Value: resp.Rows[0].Value, Found: resp.Rows[0].Found, from: s}, nil
	}
	rows := [1]Row{}
	g := &group{shard: s, keys: []storage.Key{k.key}, at: []int{0}, read: !k.lockOnly}
	if err := t.getLocked(ctx, []*group{g}, o, rows[:]); err != nil {
		return Row{}, err
	}
	return rows[0], nil
}

// GetMany reads many rows with one request per shard, or one per node without locks,
// in parallel, and answers in the order asked.
func (t *Txn) GetMany(ctx context.Context, keys []Key, o ReadOptions) ([]Row, error) {
	if err := t.usable(); err != nil || len(keys) == 0 {
		return nil, err
	}
	if len(keys) == 1 {
		row, err := t.Get(ctx, keys[0], o)
		if err != nil {
			return nil, err
		}
		return []Row{row}, nil
	}
	o = t.effective(o)
	rows := make([]Row, len(keys))
	groups := t.group(keys, rows)
	if len(groups) == 0 {
		return rows, nil
	}
	if err := t.ready(ctx, o); err != nil {
		return nil, err
	}
	var err error
	if o.Lock == LockNone {
		err = t.getSnapshot(ctx, t.at(o), groups, rows)
	} else {
		err = t.getLocked(ctx, groups, o, rows)
	}
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// group is the part of a GetMany that goes to one shard.
type group struct {
	shard shard.ID
	keys  []storage.Key
	at    []int // place of each key in the answer
	part  *participant
	lock  *shard.LockRequest
	limit int  // rows that SKIP LOCKED wants of these; 0: all
	read  bool // any of the keys is not to be locked only
}

// group sorts keys by shard; those that the transaction has written are
// answered at once.
func (t *Txn) group(keys []Key, rows []Row) []*group {
	var groups groups
	for i, k := range keys {
		s := t.shardOf(k)
		if row, ok := t.own(s, k.key); ok {
			rows[i] = row
			continue
		}
		g := groups.of(s)
		g.keys, g.at, g.read = append(g.keys, k.key), append(g.at, i), g.read || !k.lockOnly
	}
	return groups.list
}

// groups are the parts of a request, one for each shard.
type groups struct {
	list    []*group
	byShard map[shard.ID]*group // all of them; nil while they are few
}

// fewGroups are found faster one by one than by a map.
const fewGroups = 8

// of returns the part of a shard, which may be new.
func (gs *groups) of(s shard.ID) *group {
	if gs.byShard == nil {
		for _, g := range gs.list {
			if g.shard == s {
				return g
			}
		}
	} else if g := gs.byShard[s]; g != nil {
		return g
	}
	g := &group{shard: s}
	gs.list = append(gs.list, g)
	if gs.byShard == nil && len(gs.list) > fewGroups {
		gs.byShard = make(map[shard.ID]*group, 4*fewGroups)
		for _, g := range gs.list {
			gs.byShard[g.shard] = g
		}
	} else if gs.byShard != nil {
		gs.byShard[s] = g
	}
	return g
}

// at is the timestamp of a read without a lock.
func (t *Txn) at(o ReadOptions) storage.Timestamp { return cmp.Or(o.At, t.snapshot) }

func (t *Txn) getSnapshot(ctx context.Context, at storage.Timestamp, groups []*group, rows []Row) error {
	reads := make([]shard.ShardRead, len(groups))
	for i, g := range groups {
		reads[i] = shard.ShardRead{Shard: g.shard, Request: &shard.ReadRequest{At: at, Keys: g.keys}}
	}
	sent := requests{t: t}
	sent.read(ctx, reads)
	for i, g := range groups {
		if reads[i].Err != nil {
			continue
		}
		answer := reads[i].Response.Rows
		if len(answer) != len(g.keys) {
			sent.note(g.shard, shortAnswer(len(g.keys), len(answer)))
			continue
		}
		for j, r := range answer {
			rows[g.at[j]] = Row{Key: g.keys[j], Value: r.Value, Found: r.Found, from: g.shard}
		}
	}
	return sent.fail(ctx)
}

// getLocked locks and reads the groups. Grants are recorded even when another
// group failed: those locks are held until the end of the transaction.
func (t *Txn) getLocked(ctx context.Context, groups []*group, o ReadOptions, rows []Row) error {
	for _, g := range groups {
		g.part = t.touch(g.shard)
		g.lock = t.lockRequest(g.part, o)
		g.lock.Keys, g.lock.Limit = g.keys, g.limit
		if !g.read {
			g.lock.Read, g.lock.Snapshot = false, 0
		}
	}
	responses := make([]*shard.LockResponse, len(groups))
	sent := requests{t: t}
	t.setState(StateReading)
	lock := func(ctx context.Context, i int) (shard.ID, error) {
		var err error
		responses[i], err = t.c.lock(ctx, groups[i].shard, groups[i].lock)
		return groups[i].shard, err
	}
	if t.c.near(groups) {
		sent.inTurn(ctx, len(groups), lock)
	} else {
		sent.send(ctx, len(groups), lock)
	}
	t.setState(StateIdle)
	for i, g := range groups {
		if responses[i] != nil {
			sent.note(g.shard, t.takeLocked(g, o, responses[i], rows))
		}
	}
	return sent.fail(ctx)
}

// nearKeys is how many keys are locked and read at most faster than goroutines for them
// are woken.
const nearKeys = 8

// near reports whether few keys are asked for, of owners on this node.
func (c *Coordinator) near(groups []*group) bool {
	router, ok := c.router.(*shard.Router)
	if !ok || len(groups) == 1 {
		return false
	}
	keys := 0
	for _, g := range groups {
		if keys += len(g.keys); keys > nearKeys || !router.Here(g.shard) {
			return false
		}
	}
	return true
}

// takeLocked records a group's locks and copies its rows to their places.
func (t *Txn) takeLocked(g *group, o ReadOptions, resp *shard.LockResponse, rows []Row) error {
	if !g.lock.Read {
		resp.Rows = make([]shard.Row, len(g.keys))
	}
	if tried := len(resp.Rows); tried != len(g.keys) {
		if g.limit == 0 || tried == 0 || tried > len(g.keys) {
			return shortAnswer(len(g.keys), tried)
		}
		for j := tried; j < len(g.keys); j++ {
			rows[g.at[j]] = Row{Key: g.keys[j], Untried: true, from: g.shard}
		}
		g.keys = g.keys[:tried]
	}
	if err := t.granted(g.part, resp); err != nil {
		return err
	}
	for j, r := range resp.Rows {
		rows[g.at[j]] = Row{Key: g.keys[j], Value: r.Value, Found: r.Found, from: g.shard}
	}
	for _, j := range resp.Skipped {
		rows[g.at[j]] = Row{Key: g.keys[j], Skipped: true, from: g.shard}
	}
	fresh := 0
	for j, k := range g.keys {
		if !rows[g.at[j]].Skipped && g.part.holds(k, o.Lock, t.statements, t.loose(o)) {
			fresh++
		}
	}
	t.addLocks(fresh)
	return nil
}

// Held tells whether the transaction holds k exclusively or has written it. The
// row is what it has written; else it counts as there, without a value. Ask only for keys
// that were read under their locks and found, as rows are whose change is asked for: what was
// locked with LockOnly may not be there.
func (t *Txn) Held(k Key) (Row, bool) {
	s := t.shardOf(k)
	if row, ok := t.own(s, k.key); ok {
		return row, true
	}
	p := t.find(s)
	return Row{Key: k.key, Found: true}, p != nil && p.exclusive(k.key)
}

// own answers from the write buffer.
func (t *Txn) own(s shard.ID, k storage.Key) (Row, bool) {
	value, tombstone, ok := t.buffer.Get(s, k)
	if !ok {
		return Row{}, false
	}
	return Row{Key: k, Value: value, Found: !tombstone, from: s}, true
}

func shortAnswer(want, got int) error {
	return &Error{Code: Bug, Detail: fmt.Sprintf("asked for %d rows and got %d", want, got)}
}

// LockRows locks rows that a read without locks has found, each where it was
// found, and reads them again; what SKIP LOCKED leaves out says so. A row that
// the transaction has written is answered from its buffer. With SKIP LOCKED a
// shard stops once it has locked limit rows, if that is not 0: what lies beyond
// says so.
func (t *Txn) LockRows(ctx context.Context, found []Row, o ReadOptions, limit int) ([]Row, error) {
	if err := t.usable(); err != nil || len(found) == 0 {
		return nil, err
	}
	rows := make([]Row, len(found))
	var groups groups
	for i, f := range found {
		if row, ok := t.own(f.from, f.Key); ok {
			rows[i] = row
			continue
		}
		g := groups.of(f.from)
		if o.Wait == SkipLocked {
			g.limit = limit
		}
		g.keys, g.at, g.read = append(g.keys, f.Key), append(g.at, i), true
	}
	if len(groups.list) == 0 {
		return rows, nil
	}
	if err := t.ready(ctx, o); err != nil {
		return nil, err
	}
	if err := t.getLocked(ctx, groups.list, o, rows); err != nil {
		return nil, err
	}
	return rows, nil
}
