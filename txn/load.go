package txn

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Interval is a range of keys: Lo inclusive, Hi exclusive.
type Interval struct{ Lo, Hi storage.Key }

// loadBytes bounds what a transaction that writes ahead has filled and not sent,
// of all shards together. As much again may be on its way.
const loadBytes = 32 << 20

// load is how a transaction of one statement writes more rows than memory holds:
// a shard's rows go there in chunks as soon as a chunk is full, beside the
// statement, and not at COMMIT. They are staged like those of any large
// transaction (stage.go): nobody sees them before the votes, and an end without
// votes makes the shards forget them. What was sent cannot be read or taken back
// one by one; all that is kept of it is the set of its keys.
type load struct {
	t      *Txn
	shards map[shard.ID]*ahead
	limit  int // bytes of a chunk
	filled int // bytes that are not sent, of all shards
	n      int
	bytes  int64 // of memory, of keys: here those in the sets, at the owners, for the votes, all
	total  int64 // written, as a buffer counts it
	err    *Error

	life context.Context // of what is sent
	stop context.CancelFunc
	sent sync.WaitGroup
}

// ahead is one shard's part of a load.
type ahead struct {
	shard  shard.ID
	part   *participant
	known  keySet
	writes []shard.Write // not sent, in arena
	arena  []byte
	size   int
	chunks uint32
	hash   uint64
	way    *chunk // the one that is on its way
}

// chunk is on its way; done is closed when hash and err are set.
type chunk struct {
	done chan struct{}
	hash uint64
	err  error
}

// LockEmpty locks intervals exclusively on every data shard, if they hold no row
// and nobody holds a lock in the way. If true, no key in them has a row but those
// that the transaction has written or will write, until it ends, and none needs a
// lock of its own. It waits for nobody: where two ask at once, the one that the
// first shard grants goes on. What was locked before the answer became false
// is given back.
func (t *Txn) LockEmpty(ctx context.Context, spans []Interval) (bool, error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	if t.o.ReadOnly || len(spans) == 0 {
		return false, nil
	}
	// Locks that are taken to find out that there are rows would be in the way
	// of others: look first.
	if empty, err := t.looksEmpty(ctx, spans[0]); !empty || err != nil {
		return false, err
	}
	if err := t.start(ctx); err != nil {
		return false, err
	}
	had := make(map[*participant]int, len(t.parts))
	for _, p := range t.parts {
		had[p] = len(p.ranges)
	}
	shards := t.c.router.DataShards()
	for _, some := range [][]shard.ID{shards[:1], shards[1:]} {
		if empty, err := t.lockEmpty(ctx, some, spans); !empty || err != nil {
			t.giveBackSpans(had)
			return false, cmp.Or(err, t.Aborted())
		}
	}
	return true, nil
}

// looksEmpty reads without locks, and passes by own writes.
func (t *Txn) looksEmpty(ctx context.Context, span Interval) (bool, error) {
	at, err := t.LookAt(ctx)
	if err != nil {
		return false, err
	}
	shards := t.c.router.DataShards()
	reads := make([]shard.ShardRead, len(shards))
	for i, s := range shards {
		reads[i] = shard.ShardRead{Shard: s, Request: &shard.ReadRequest{At: at, Span: &shard.Span{Lo: span.Lo, Hi: span.Hi}, Limit: 1, ByteLimit: pageBytes}}
	}
	sent := requests{t: t}
	sent.read(ctx, reads)
	if err := sent.fail(ctx); err != nil {
		return false, err
	}
	for i := range reads {
		if r := reads[i].Response; r == nil || len(r.Rows) > 0 || r.More {
			return false, nil
		}
	}
	return true, nil
}

// lockEmpty locks the spans of some shards, and tells whether it has all and they
// are empty.
func (t *Txn) lockEmpty(ctx context.Context, shards []shard.ID, spans []Interval) (bool, error) {
	o := ReadOptions{Lock: LockExclusive, Wait: NoWait, AnyVersion: true}
	parts := make([]*participant, len(shards))
	for i, s := range shards {
		parts[i] = t.touch(s)
	}
	empty := true
	for _, span := range spans {
		responses, errs := make([]*shard.LockResponse, len(parts)), make([]error, len(parts))
		t.c.crew.inParallel(len(parts), func(i int) {
			r := t.lockRequest(parts[i], o)
			r.Span, r.Limit = &shard.Span{Lo: span.Lo, Hi: span.Hi}, 1
			responses[i], errs[i] = t.c.lock(ctx, parts[i].shard, r)
		})
		sent := requests{t: t}
		for i, p := range parts {
			if errs[i] != nil {
				if convert(ctx, errs[i], t.id, p.shard).Code == WouldBlock {
					empty = mutated("0074.locked-by-others")
				} else {
					sent.note(p.shard, errs[i])
				}
				continue
			}
			if !t.lockedEmpty(p, span, responses[i], &sent) {
				empty = false
			}
		}
		if err := sent.fail(ctx); err != nil || !empty {
			return false, err
		}
	}
	return true, nil
}

// lockedEmpty records a lock and tells whether the whole span was found empty,
// and unchanged since the snapshot if that matters to the transaction.
func (t *Txn) lockedEmpty(p *participant, span Interval, r *shard.LockResponse, sent *requests) bool {
	if err := t.granted(p, r); err != nil {
		sent.note(p.shard, err)
		return false
	}
	ref := shard.LockRef{Mode: shard.LockExclusive, Lo: span.Lo, Hi: span.Hi}
	if r.More {
		ref.Hi = r.Resume
	}
	p.ranges = append(p.ranges, ref)
	t.addLocks(1)
	changed := t.o.Isolation == RepeatableRead && t.o.SnapshotIsolation && t.snapshot != 0 && r.MaxCommit > t.snapshot && !mutated("0074.changes-unseen")
	return (!r.More && len(r.Rows) == 0 || mutated("0074.rows-unseen")) && !changed
}

// WriteAhead makes PutNew send rows to their shards while the statement goes on.
// It is refused where anybody could ask for them before the COMMIT, or take them
// back: in a transaction of more than one statement.
func (t *Txn) WriteAhead() bool {
	if t.ended || (!t.o.Autocommit || t.statements > 1) && !mutated("0074.any-statement-ahead") || t.o.ReadOnly {
		return false
	}
	if t.load == nil {
		l := &load{t: t, shards: make(map[shard.ID]*ahead)}
		l.limit = cmp.Or(t.c.cfg.ChunkBytes, max(64<<10, min(DefaultChunkBytes, loadBytes/len(t.c.router.DataShards()))))
		l.life, l.stop = context.WithCancel(context.Background())
		t.load = l
	}
	return true
}

// Written tells whether the transaction has written k: for keys of intervals that
// LockEmpty has locked, whether k is there.
func (t *Txn) Written(k Key) bool {
	s := t.shardOf(k)
	if _, tombstone, ok := t.buffer.Get(s, k.key); ok {
		return !tombstone
	}
	return t.load != nil && t.load.has(s, k.key)
}

// PutNew is Put for a key that the transaction has not written. If remember is
// set Written knows it afterwards; if not, it may not.
func (t *Txn) PutNew(ctx context.Context, k Key, value []byte, remember bool) error {
	if t.load == nil {
		return t.Put(k, value)
	}
	if err := t.usable(); err != nil {
		return err
	}
	s := t.shardOf(k)
	p := t.find(s)
	if p == nil || !p.exclusive(k.key) {
		return t.bug(k, "write without an exclusive lock")
	}
	if err := t.load.put(ctx, p, k.key, value, remember); err != nil {
		return err
	}
	t.publishWrites()
	return nil
}

func (l *load) has(s shard.ID, k storage.Key) bool {
	a := l.shards[s]
	return a != nil && a.known.has(k) && !mutated("0074.duplicates-unseen")
}

// put adds a write and sends what is full.
func (l *load) put(ctx context.Context, p *participant, k storage.Key, value []byte, remember bool) error {
	if l.err != nil {
		return l.err
	}
	t := l.t
	a := l.shards[p.shard]
	if a == nil {
		a = &ahead{shard: p.shard, part: p}
		l.shards[p.shard] = a
	}
	need := len(k) + len(value)
	if writeBytes(shard.Write{Key: k, Value: value}) > maxShardBytes {
		return &Error{Code: TooLarge, Txn: t.id, Shard: p.shard, Key: k,
			Detail: fmt.Sprintf("a row of %d bytes, at most %d fit into one log entry", need, maxShardBytes)}
	}
	if err := l.count(p, len(k), len(value)); err != nil {
		return err
	}
	if remember && !a.known.add(k) {
		return &Error{Code: TooLarge, Txn: t.id, Shard: p.shard, Detail: "too many keys on one shard in one transaction"}
	}
	if len(a.arena)+need > cap(a.arena) {
		if err := l.send(ctx, a); err != nil {
			return err
		}
		a.arena = make([]byte, 0, max(l.limit, need))
	}
	from := len(a.arena)
	a.arena = append(append(a.arena, k...), value...)
	a.writes = append(a.writes, shard.Write{Key: a.arena[from : from+len(k) : from+len(k)], Value: a.arena[from+len(k):]})
	a.size += need
	l.filled += need
	l.n++
	if l.filled < loadBytes {
		return nil
	}
	return l.send(ctx, l.fullest()) // many shards, each with little
}

// count takes a write into account. Keys are bounded by what the process lets any
// transaction have in memory, keys and values by what the session lets it write.
func (l *load) count(p *participant, key, value int) error {
	t := l.t
	kept, written := int64(key+keySetOverhead), int64(key+value)+keyOverhead
	if limit := t.c.cfg.MaxBytes; t.buffer.Bytes()+l.bytes+kept > limit && !mutated("0074.keys-uncounted") {
		return &Error{Code: TooLarge, Txn: t.id, Shard: p.shard,
			Detail: fmt.Sprintf("more than %d bytes of keys in one transaction", limit)}
	}
	if limit := t.o.MaxBytes; limit > 0 && t.buffer.Bytes()+l.total+written > limit && !mutated("0074.size-unlimited") {
		return &Error{Code: TooLarge, Txn: t.id, Shard: p.shard,
			Detail: fmt.Sprintf("more than %d bytes of writes in one transaction", limit)}
	}
	l.bytes += kept
	l.total += written
	return nil
}

func (l *load) fullest() (most *ahead) {
	for _, a := range l.shards {
		if most == nil || a.size > most.size {
			most = a
		}
	}
	return most
}

// send brings what a shard's part has collected on its way, after the chunk
// before it has arrived.
func (l *load) send(ctx context.Context, a *ahead) error {
	if len(a.writes) == 0 {
		return nil
	}
	if err := l.arrived(ctx, a); err != nil {
		return err
	}
	t := l.t
	if a.chunks == 0 { // before the first message: whatever becomes of it, the end closes the vote there
		t.staged = append(t.staged, a.shard)
	}
	r := &shard.StageRequest{Txn: t.id, Token: a.part.token, Chunk: a.chunks, Schemas: t.schemas, Writes: a.writes}
	c := &chunk{done: make(chan struct{})}
	l.filled -= a.size
	a.way, a.writes, a.arena, a.size = c, make([]shard.Write, 0, len(a.writes)+len(a.writes)/8), nil, 0
	a.chunks++
	l.sent.Go(func() {
		c.hash, c.err = t.c.sendChunk(l.life, a.shard, r)
		close(c.done)
		t.c.reached(StepChunk, r.Txn)
	})
	return nil
}

// arrived waits for the chunk that is on its way. After an error nothing of the
// transaction can commit any more.
func (l *load) arrived(ctx context.Context, a *ahead) error {
	if a.way == nil {
		return nil
	}
	select {
	case <-a.way.done:
	case <-ctx.Done():
		return &Error{Code: Interrupted, Txn: l.t.id, Shard: a.shard, Err: ctx.Err()}
	}
	if err := a.way.err; err != nil && !mutated("0074.lost-chunk-forgotten") {
		l.err = convert(ctx, err, l.t.id, a.shard)
		return l.t.fail(ctx, l.err, a.shard)
	}
	a.hash += a.way.hash
	a.way = nil
	return nil
}

// finish sends what is left, or leaves it to the votes of shards that were sent
// nothing, and waits for all of it.
func (l *load) finish(ctx context.Context) error {
	for _, a := range l.shards {
		if a.chunks == 0 {
			for _, w := range a.writes {
				l.t.buffer.Put(a.shard, w.Key, w.Value, false)
			}
			a.writes = nil
			continue
		}
		if err := l.send(ctx, a); err != nil {
			return err
		}
	}
	for _, a := range l.shards {
		if err := l.arrived(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// staged tells a vote's request what was sent ahead.
func (l *load) staged(p *participant, r *shard.PrepareRequest) {
	if l == nil {
		return
	}
	if a := l.shards[p.shard]; a != nil {
		r.Chunks, r.Staged = a.chunks, a.hash
	}
}

// end stops what is on its way.
func (l *load) end() {
	if l != nil {
		l.stop()
		l.sent.Wait()
	}
}
