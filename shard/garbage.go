package shard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rowlockdb/rowlock/storage"
)

const (
	// garbageKeys bounds the keys remembered for the next collection; beyond it
	// the whole shard is walked instead.
	garbageKeys = 1 << 16
	// garbageChunk bounds the versions or markers that one command looks at, so
	// that collection never holds up the commands behind it for long.
	garbageChunk = 1000
)

// garbage remembers which keys were written and not yet collected. It is a
// hint of the owner's; what is removed is decided by the state machine. When
// keys are forgotten, because there are too many or because an earlier owner
// knew them, the whole shard is walked instead, once everything forgotten lies
// below the collection's timestamp.
type garbage struct {
	mu    sync.Mutex
	dirty map[string]writes
	last  storage.Timestamp // latest commit noted
	// walk is the latest commit among forgotten keys, 0 if none; next the same
	// for keys forgotten while that walk is due.
	walk, next storage.Timestamp
}

// writes are the commits to a key that no collection has seen.
type writes struct {
	due  storage.Timestamp // the key is looked at once this one lies below a collection's timestamp
	last storage.Timestamp // the latest
}

// note records committed keys.
func (g *garbage) note(keys []storage.Key, commit storage.Timestamp) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = max(g.last, commit)
	if len(g.dirty)+len(keys) > garbageKeys {
		g.dirty = nil
		g.forgetLocked(g.last)
		return
	}
	if g.dirty == nil {
		g.dirty = make(map[string]writes)
	}
	for _, k := range keys {
		w, known := g.dirty[string(k)]
		if !known || mutated("0093.latest-write-is-due") {
			w.due = commit
		}
		w.last = max(w.last, commit)
		g.dirty[string(k)] = w
	}
}

// forget says that keys written up to a timestamp are not known.
func (g *garbage) forget(upTo storage.Timestamp) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(upTo)
}

func (g *garbage) forgetLocked(upTo storage.Timestamp) {
	if g.walk == 0 {
		g.walk = upTo
	} else {
		g.next = max(g.next, upTo)
	}
}

// take returns what a collection below a timestamp has to look at: perhaps
// everything, and the keys that are due. A key that was written later as well stays, and
// is due when the latest of those writes lies below: what is written all the time is
// looked at once in a retention, neither never nor in every round.
func (g *garbage) take(below storage.Timestamp) (walk bool, keys []storage.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.walk != 0 && g.walk <= below {
		walk = true
		g.walk, g.next = g.next, 0
	}
	for k, w := range g.dirty {
		if w.due > below {
			continue
		}
		keys = append(keys, storage.Key(k))
		if w.last <= below || mutated("0093.later-writes-forgotten") {
			delete(g.dirty, k)
		} else {
			g.dirty[k] = writes{due: w.last, last: w.last}
		}
	}
	slices.SortFunc(keys, func(a, b storage.Key) int { return strings.Compare(string(a), string(b)) })
	return walk, keys
}

// RaiseFence raises the shard's fence.
func (r *Replica) RaiseFence(ctx context.Context, below storage.Timestamp) error {
	return r.command(ctx, &Command{Kind: KindRaiseFence, Below: below})
}

// RaiseSchema raises a table's least acceptable schema version.
func (r *Replica) RaiseSchema(ctx context.Context, table, version uint64) error {
	return r.command(ctx, &Command{Kind: KindRaiseSchema, Table: table, Version: version})
}

// command proposes an idempotent command of the current epoch.
func (r *Replica) command(ctx context.Context, c *Command) error {
	_, err := r.run(ctx, c)
	return err
}

func (r *Replica) run(ctx context.Context, c *Command) (Result, error) {
	t, err := r.current()
	if err != nil {
		return Result{}, err
	}
	if c.Epoch != 0 && c.Epoch != t.epoch {
		return Result{}, r.notOwner() // it was computed from what another owner may have changed since
	}
	c.Epoch = t.epoch
	result, err := r.proposeUntilKnown(ctx, c)
	switch {
	case err != nil:
		return result, &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()}
	case result.Verdict == VerdictNotOwner:
		r.stepDown(t)
		return result, r.notOwner()
	case result.Verdict == VerdictRefused && c.Kind != KindPutRecord && c.Kind != KindAdvisory:
		return result, r.bad(fmt.Sprintf("command of kind %d is refused", c.Kind))
	}
	return result, nil
}

// PutRecord stores a named record; with ifAbsent it returns what is there
// already, if anything, instead.
func (r *Replica) PutRecord(ctx context.Context, name string, value []byte, ifAbsent bool) ([]byte, error) {
	result, err := r.run(ctx, &Command{Kind: KindPutRecord, Name: name, Value: value, IfAbsent: ifAbsent})
	if err != nil {
		return nil, err
	}
	if result.Verdict == VerdictRefused {
		return slices.Clone(result.Value), nil
	}
	return value, nil
}

// replaceRecord stores a record that was computed from what was stored in an epoch,
// if nobody else has owned the shard since.
func (r *Replica) replaceRecord(ctx context.Context, epoch uint64, name string, value []byte) error {
	_, err := r.run(ctx, &Command{Kind: KindPutRecord, Epoch: epoch, Name: name, Value: value})
	return err
}

// Collect removes dead versions and vote markers below a timestamp that is at
// most the fence of every shard, and below which no vote is PREPARED anywhere.
func (r *Replica) Collect(ctx context.Context, below storage.Timestamp) error {
	walk, keys := r.garbage.take(below)
	err := r.collectKeys(ctx, below, keys)
	if err == nil && walk {
		err = r.collectAll(ctx, below)
	}
	if err != nil {
		r.garbage.forget(below)
		return err
	}
	return r.collectVotes(ctx, below)
}

func (r *Replica) collectVotes(ctx context.Context, below storage.Timestamp) error {
	var from storage.TxnID
	for {
		result, err := r.run(ctx, &Command{Kind: KindCollectVotes, Txn: from, Below: below, Limit: garbageChunk})
		if err != nil || result.Value == nil {
			return err
		}
		if from, _, err = storage.DecodeTxnID(result.Value); err != nil {
			panic(fmt.Sprintf("shard %d: result of an applied command: %v", r.c.Shard, err))
		}
	}
}

func (r *Replica) collectKeys(ctx context.Context, below storage.Timestamp, keys []storage.Key) error {
	for len(keys) > 0 {
		n := min(len(keys), garbageChunk/4)
		result, err := r.run(ctx, &Command{Kind: KindCollectGarbage, Below: below, Keys: keys[:n], Limit: garbageChunk})
		if err != nil {
			return err
		}
		if result.Value != nil { // the limit was reached at this key
			i, _ := slices.BinarySearchFunc(keys, result.Value, func(k storage.Key, v []byte) int { return strings.Compare(string(k), string(v)) })
			keys = keys[i:]
		} else {
			keys = keys[n:]
		}
	}
	return nil
}

func (r *Replica) collectAll(ctx context.Context, below storage.Timestamp) error {
	var lo storage.Key
	for {
		result, err := r.run(ctx, &Command{Kind: KindCollectGarbage, Below: below, Lo: lo, Limit: garbageChunk})
		if err != nil || result.Value == nil {
			return err
		}
		lo = slices.Clone(result.Value)
	}
}

// Oldest returns the oldest timestamp in use that gateways have reported to
// this owner, and the start of its oldest PREPARED vote.
func (r *Replica) Oldest() (*OldestResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	response := &OldestResponse{Oldest: t.mu.oldest(), Undecided: storage.MaxTimestamp}
	for id := range t.mu.voted {
		response.Undecided = min(response.Undecided, id.Start)
	}
	for id := range t.mu.proposals {
		response.Undecided = min(response.Undecided, id.Start)
	}
	return response, nil
}
