package txn

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Sizes of staged writes. A shard's part of a transaction that is larger than
// DefaultStageBytes goes there in chunks before the vote; what is smaller goes
// with the vote, in one round.
const (
	DefaultStageBytes = 4 << 20
	DefaultChunkBytes = 1 << 20
)

// stageBackoff is the pause before a chunk is sent again.
const stageBackoff = 50 * time.Millisecond

// stager sends one shard's writes in chunks.
type stager struct {
	t       *Txn
	part    *participant
	request *shard.PrepareRequest
}

// stage sends the writes that are too many for a vote, all shards at once, and
// names them in the votes' requests. It is not a commit message: nothing is
// decided, nobody can see the chunks, and until the votes are asked for the
// transaction may still be given up by its gateway alone (H9).
func (t *Txn) stage(ctx context.Context, large []*stager) error {
	if len(large) == 0 {
		return nil
	}
	t.setState(StateStaging)
	for _, s := range large { // before the first message: whatever becomes of it, abort closes the vote there
		t.staged = append(t.staged, s.part.shard)
	}
	sent := requests{t: t}
	sent.send(ctx, len(large), func(ctx context.Context, i int) (shard.ID, error) {
		return large[i].part.shard, large[i].run(ctx)
	})
	if sent.err == nil {
		return nil
	}
	return convert(ctx, sent.err, t.id, sent.shard)
}

// run sends the chunks of one shard, one after the other.
func (s *stager) run(ctx context.Context) error {
	limit := cmp.Or(s.t.c.cfg.ChunkBytes, DefaultChunkBytes)
	var writes []shard.Write
	var err error
	size := 0
	s.t.buffer.each(s.part.shard, func(w shard.Write) bool {
		n := writeBytes(w)
		if len(writes) > 0 && size+n > limit {
			if err = s.send(ctx, writes); err != nil {
				return false
			}
			writes, size = writes[:0], 0
		}
		writes, size = append(writes, w), size+n
		return true
	})
	if err != nil || len(writes) == 0 {
		return err
	}
	return s.send(ctx, writes)
}

// send brings one chunk, again and again while the shard does not answer: a
// chunk may arrive any number of times.
func (s *stager) send(ctx context.Context, writes []shard.Write) error {
	hash, err := s.t.c.sendChunk(ctx, s.part.shard,
		&shard.StageRequest{Txn: s.t.id, Token: s.part.token, Chunk: s.request.Chunks, Schemas: s.request.Schemas, Writes: writes})
	if err != nil {
		return err
	}
	s.request.Staged += hash
	s.request.Chunks++
	return nil
}

// sendChunk returns the hash of a chunk that has arrived.
func (c *Coordinator) sendChunk(ctx context.Context, s shard.ID, r *shard.StageRequest) (uint64, error) {
	deadline := time.Now().Add(commitPatience)
	for {
		err := c.router.Stage(ctx, s, r)
		if err == nil {
			return shard.ChunkHash(r.Txn, r.Chunk, r.Writes), nil
		}
		code := shard.CodeOf(err)
		if code != shard.Unavailable && code != shard.NotOwner || time.Now().After(deadline) {
			return 0, err
		}
		if sleep(ctx, stageBackoff) != nil {
			return 0, ctx.Err()
		}
	}
}

// unstage makes the shards forget what was staged: ABORTED, written there,
// takes all chunks along and keeps late copies out.
func (t *Txn) unstage() {
	if len(t.staged) == 0 {
		return
	}
	t.c.resolver.outcome(t.id, t.staged, make([]ballot, len(t.staged)), 0)
	t.staged = nil
}

// writeBytes estimates what a write takes in a log entry and in the store,
// from above.
func writeBytes(w shard.Write) int {
	const perItem = 32
	return 2*len(w.Key) + len(w.Value) + perItem
}

// plan chooses how the writes of a shard travel: with the vote, or staged.
func (t *Txn) plan(p *participant, r *shard.PrepareRequest) (*stager, error) {
	size, largest := 256, 0
	t.buffer.each(p.shard, func(w shard.Write) bool {
		n := writeBytes(w)
		size, largest = size+n, max(largest, n)
		return true
	})
	locked := 256
	for _, l := range r.Locked {
		locked += len(l.Lo) + len(l.Hi) + 32
	}
	if most := max(largest, locked); most > maxShardBytes {
		return nil, &Error{Code: TooLarge, Txn: t.id, Shard: p.shard,
			Detail: fmt.Sprintf("%d bytes in one piece, at most %d fit into one log entry", most, maxShardBytes)}
	}
	t.load.staged(p, r)
	if size > cmp.Or(t.c.cfg.StageBytes, DefaultStageBytes) {
		return &stager{t: t, part: p, request: r}, nil
	}
	r.Writes = t.buffer.Writes(p.shard)
	if locked+size > maxShardBytes {
		return nil, &Error{Code: TooLarge, Txn: t.id, Shard: p.shard,
			Detail: fmt.Sprintf("%d bytes of locks and writes on one shard, at most %d fit into one log entry", locked+size, maxShardBytes)}
	}
	return nil, nil
}

// each calls f with the newest own write of every key on shard s, in key order,
// until it returns false.
func (b *WriteBuffer) each(s shard.ID, f func(shard.Write) bool) {
	at := b.of(s)
	if at == nil {
		return
	}
	at.ascend(nil, func(e *bufferedKey) bool {
		v := e.versions[len(e.versions)-1]
		return f(shard.Write{Key: storage.Key(e.key), Value: v.value, Tombstone: v.tombstone})
	})
}
