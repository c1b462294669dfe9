package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// SharedBatch is a set of changes to several spaces of one engine that takes effect as a
// whole or not at all: no snapshot and no crash shows the changes of one space without
// those of another. It belongs to one goroutine, and so do the spaces' other commits.
type SharedBatch struct {
	e     *Engine
	b     *pebble.Batch
	parts []*Batch
}

// NewSharedBatch starts an empty batch. Close it, committed or not.
func (e *Engine) NewSharedBatch() *SharedBatch { return &SharedBatch{e: e, b: e.db.NewBatch()} }

// Of returns the part of the batch that changes a space, for as long as the batch is
// open. The part cannot be committed or closed alone. It is asked for once for each
// space.
func (b *SharedBatch) Of(s *Space) *Batch {
	if s.e != b.e {
		panic("storage: a batch over two engines")
	}
	for _, p := range b.parts {
		if p.space.id == s.id {
			panic(fmt.Sprintf("storage: space %d has a part of the batch", s.id))
		}
	}
	p := &Batch{space: s, b: b.b, shared: true}
	b.parts = append(b.parts, p)
	return p
}

// Commit is that of a Batch, for all spaces.
func (b *SharedBatch) Commit() error { return b.commit(noSync) }

// CommitDurably is Commit that has the disk asked at once: it does not wait for that
// either, but AwaitDisk does. It is one pass through the store, where Commit and
// Engine.Sync are two.
func (b *SharedBatch) CommitDurably() error { return b.commit(b.e.syncLater) }

// AwaitDisk returns once the batch and everything that was committed to the engine
// before it survive a power cut. It follows a CommitDurably, on any goroutine, beside
// later commits; the batch is closed after it.
func (b *SharedBatch) AwaitDisk() error {
	return wrap(b.b.SyncWait(), "sync a batch to %d spaces", len(b.parts))
}

func (b *SharedBatch) commit(take func(*pebble.Batch) error) error {
	in := make([]changed, len(b.parts))
	for i, p := range b.parts {
		in[i].space = p.space
	}
	return wrap(b.e.commit(b.b, in, nil, take), "commit batch to %d spaces", len(b.parts))
}

// Size returns the bytes that the batch occupies.
func (b *SharedBatch) Size() int { return b.b.Len() }

// Close frees the batch. What was not committed is forgotten.
func (b *SharedBatch) Close() { closeBatch(b.b) }

// changed is a space that a commit changes: see rows and following.
type changed struct {
	space *Space
	tells bool   // somebody has asked the cache of rows for keys of the space
	life  uint64 // of the space, once one of its keys is marked
}

// changedBy returns the space that a physical key belongs to.
func changedBy(in []changed, key []byte) *changed {
	if len(in) == 1 {
		return &in[0]
	}
	id := binary.BigEndian.Uint64(key)
	for i := range in {
		if in[i].space.id == id {
			return &in[i]
		}
	}
	panic(fmt.Sprintf("storage: a key of space %d in a batch without it", id))
}

// noSync has the store take a batch, syncLater have it synced too; neither waits for the
// disk.
func noSync(b *pebble.Batch) error { return b.Commit(pebble.NoSync) }

func (e *Engine) syncLater(b *pebble.Batch) error { return e.db.ApplyNoSyncWait(b, pebble.Sync) }

// commit has the store take a batch that changes the spaces of in and no others. If one
// of them is followed all keys are marked: a mark that nobody asked for does no harm.
func (e *Engine) commit(b *pebble.Batch, in []changed, hashes []uint64, take func(*pebble.Batch) error) error {
	c := e.rows
	if c == nil {
		return take(b)
	}
	tell := false
	for i := range in {
		in[i].tells = in[i].space.swap.rows.begin()
		tell = tell || in[i].tells && (i == 0 || !mutated("0089.first-space-tells"))
	}
	if !tell {
		err := take(b)
		if err == nil {
			endUntold(in)
		}
		return err
	}
	// The store may let go of the batch's memory when it has taken it, not of the bytes.
	repr := b.Repr()
	late := mutated("0084.marked-after-the-store") && take(b) == nil
	hashes, known := c.begin(repr, in, hashes)
	if !late {
		if err := take(b); err != nil {
			return err // the keys stay busy: who knows what the store has of them
		}
	}
	c.end(repr, in, hashes, known)
	endUntold(in)
	return nil
}

// endUntold ends, in the spaces that are not followed, a commit that is visible. After
// one that failed nothing is filled in ever: who knows what the store has.
func endUntold(in []changed) {
	for i := range in {
		if !in[i].tells {
			in[i].space.swap.rows.end()
		}
	}
}
