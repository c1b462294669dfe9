package txn

import (
	"context"
	"fmt"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// effective is the lock that a read really takes: under SERIALIZABLE a plain
// read is FOR SHARE, unless the whole transaction only reads, whose snapshot is
// a serial point already.
func (t *Txn) effective(o ReadOptions) ReadOptions {
	if o.Lock == LockNone && t.o.Isolation == Serializable && !t.o.ReadOnly {
		o.Lock = LockShared
	}
	return o
}

// ready makes sure that what a read with o needs is there: a snapshot for plain
// reads, an id for locks.
func (t *Txn) ready(ctx context.Context, o ReadOptions) error {
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
		r.request.At, r.request.Keys = t.snapshot, r.keys[:]
		resp, err := t.c.read(ctx, s, &r.request)
		if err == nil && len(resp.Rows) != 1 {
			err = shortAnswer(1, len(resp.Rows))
		}
		if err != nil {
			return Row{}, t.fail(ctx, err, s)
		}
		return Row{Key: k.key, Value: resp.Rows[0].Value, Found: resp.Rows[0].Found}, nil
	}
	rows := [1]Row{}
	g := &group{shard: s, keys: []storage.Key{k.key}, at: []int{0}}
	if err := t.getLocked(ctx, []*group{g}, o, rows[:]); err != nil {
		return Row{}, err
	}
	return rows[0], nil
}

// GetMany reads many rows with one request per shard, in parallel, and answers
// in the order asked.
func (t *Txn) GetMany(ctx context.Context, keys []Key, o ReadOptions) ([]Row, error) {
	if err := t.usable(); err != nil || len(keys) == 0 {
		return nil, err
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
		err = t.getSnapshot(ctx, groups, rows)
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
}

// group sorts keys by shard; those that the transaction has written are
// answered at once.
func (t *Txn) group(keys []Key, rows []Row) []*group {
	var groups []*group
	byShard := make(map[shard.ID]*group)
	for i, k := range keys {
		s := t.shardOf(k)
		if row, ok := t.own(s, k.key); ok {
			rows[i] = row
			continue
		}
		g := byShard[s]
		if g == nil {
			g = &group{shard: s}
			byShard[s] = g
			groups = append(groups, g)
		}
		g.keys, g.at = append(g.keys, k.key), append(g.at, i)
	}
	return groups
}

func (t *Txn) getSnapshot(ctx context.Context, groups []*group, rows []Row) error {
	sent := requests{t: t}
	sent.send(ctx, len(groups), func(ctx context.Context, i int) (shard.ID, error) {
		g := groups[i]
		resp, err := t.c.read(ctx, g.shard, &shard.ReadRequest{At: t.snapshot, Keys: g.keys})
		if err == nil && len(resp.Rows) != len(g.keys) {
			err = shortAnswer(len(g.keys), len(resp.Rows))
		}
		if err != nil {
			return g.shard, err
		}
		for j, r := range resp.Rows { // places that no other group has
			rows[g.at[j]] = Row{Key: g.keys[j], Value: r.Value, Found: r.Found}
		}
		return g.shard, nil
	})
	return sent.fail(ctx)
}

// getLocked locks and reads the groups. Grants are recorded even when another
// group failed: those locks are held until the end of the transaction.
func (t *Txn) getLocked(ctx context.Context, groups []*group, o ReadOptions, rows []Row) error {
	for _, g := range groups {
		g.part = t.touch(g.shard)
		g.lock = t.lockRequest(g.part, o)
		g.lock.Keys = g.keys
	}
	responses := make([]*shard.LockResponse, len(groups))
	sent := requests{t: t}
	t.setState(StateReading)
	sent.send(ctx, len(groups), func(ctx context.Context, i int) (shard.ID, error) {
		var err error
		responses[i], err = t.c.lock(ctx, groups[i].shard, groups[i].lock)
		return groups[i].shard, err
	})
	t.setState(StateIdle)
	for i, g := range groups {
		if responses[i] != nil {
			sent.note(g.shard, t.takeLocked(g, o.Lock, responses[i], rows))
		}
	}
	return sent.fail(ctx)
}

// takeLocked records a group's locks and copies its rows to their places.
func (t *Txn) takeLocked(g *group, mode Lock, resp *shard.LockResponse, rows []Row) error {
	if len(resp.Rows) != len(g.keys) {
		return shortAnswer(len(g.keys), len(resp.Rows))
	}
	if err := t.granted(g.part, resp); err != nil {
		return err
	}
	for j, r := range resp.Rows {
		rows[g.at[j]] = Row{Key: g.keys[j], Value: r.Value, Found: r.Found}
	}
	for _, j := range resp.Skipped {
		rows[g.at[j]] = Row{Key: g.keys[j], Skipped: true}
	}
	fresh := 0
	for j, k := range g.keys {
		if !rows[g.at[j]].Skipped && g.part.holds(k, mode, t.statements) {
			fresh++
		}
	}
	t.addLocks(fresh)
	return nil
}

// Held tells whether the transaction holds k exclusively or has written it. The
// row is what it has written; else it is there without a value: who knows k to be
// locked has read it.
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
	return Row{Key: k, Value: value, Found: !tombstone}, true
}

func shortAnswer(want, got int) error {
	return &Error{Code: Bug, Detail: fmt.Sprintf("asked for %d rows and got %d", want, got)}
}
