package shard

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/rowlockdb/rowlock/storage"
)

// stagedTxn is what a shard has of a large transaction that has not been
// resolved: its chunks by number, and the sum of their hashes.
type stagedTxn struct {
	chunks map[uint32]uint64
	sum    uint64
}

func (s *stagedTxn) add(chunk uint32, hash uint64) {
	if s.chunks == nil {
		s.chunks = make(map[uint32]uint64)
	}
	s.chunks[chunk] = hash
	s.sum += hash
}

// is reports whether these chunks and no others are there.
func (s *stagedTxn) is(chunks uint32, sum uint64) bool {
	if s == nil {
		return chunks == 0
	}
	return len(s.chunks) == int(chunks) && s.sum == sum
}

// ChunkHash identifies one staged chunk. The hash that a vote names is the sum of
// those of its chunks: they may arrive in any order.
func ChunkHash(id storage.TxnID, chunk uint32, writes []Write) uint64 {
	return chunkHash(id, chunk, appendWrites(nil, writes))
}

func chunkHash(id storage.TxnID, chunk uint32, encoded []byte) uint64 {
	seed := xxh3.Hash(appendUint(appendTxn(make([]byte, 0, 40), id), uint64(chunk)))
	return xxh3.HashSeed(encoded, seed)
}

// A stored chunk is the version byte and the encoded writes.
func encodeChunk(writes []Write) []byte {
	return appendWrites(append(make([]byte, 0, 32+writesSize(writes)), formatVersion), writes)
}

// writesSize is an upper bound of what writes take when they are encoded.
func writesSize(writes []Write) (size int) {
	for i := range writes {
		size += len(writes[i].Key) + len(writes[i].Value) + 12
	}
	return size
}

// decodeChunk reads a stored chunk; byte strings alias b.
func decodeChunk(b []byte) ([]Write, error) {
	d := newDecoder(b)
	writes := d.writes()
	return writes, d.done()
}

// stage keeps one chunk of a large transaction (H9). Who has a vote, or can have
// none any more, stages nothing: what is written now would stay for ever. A chunk
// that is there already is there once.
func (m *Machine) stage(c *Command) (Result, error) {
	v, ok, err := m.lookup(c.Txn)
	if err != nil {
		return Result{}, err
	}
	if ok && !mutated("H9.stage-after-vote") {
		return voteResult(v), nil
	}
	if uint64(c.Txn.Start) < m.fence.Load() && !mutated("H9.stage-below-fence") {
		return Result{Verdict: VerdictFenced}, nil
	}
	if !m.schemasCurrent(c.Schemas) {
		return Result{Verdict: VerdictSchema}, nil
	}
	stored := encodeChunk(c.Writes)
	hash := chunkHash(c.Txn, c.Chunk, stored[1:])
	if s := m.stagedTxn(c.Txn); s != nil {
		if old, ok := s.chunks[c.Chunk]; ok && !mutated("H9.duplicates-count") {
			if old != hash {
				return Result{Verdict: VerdictRefused}, nil
			}
			return Result{Verdict: VerdictDone}, nil
		}
	}
	if err := m.boundBatch(); err != nil {
		return Result{}, err
	}
	m.large.Store(true)
	m.begin().PutStaged(c.Txn, c.Chunk, stored)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mu.staged[c.Txn]
	if s == nil {
		s = &stagedTxn{}
		m.mu.staged[c.Txn] = s
	}
	s.add(c.Chunk, hash)
	return Result{Verdict: VerdictDone}, nil
}

// boundBatch commits a batch that has filled up, with the applied index of the
// last entry that is wholly in it.
func (m *Machine) boundBatch() error {
	if m.trunk != nil {
		return m.trunk.boundBatch()
	}
	if m.batch == nil || m.batch.Size() <= resolveFlush {
		return nil
	}
	return m.flush()
}

// stagedTxn is for the goroutine that applies, the only one that changes it.
func (m *Machine) stagedTxn(id storage.TxnID) *stagedTxn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.staged[id]
}

// complete reports whether what a vote says to be staged is what is staged: a
// chunk that was lost would be a missing part of a committed transaction.
func (m *Machine) complete(c *Command) bool {
	return m.stagedTxn(c.Txn).is(c.Chunks, c.Staged) || mutated("H9.unchecked-chunks")
}

// dropStaged removes all chunks of a transaction that will not commit.
func (m *Machine) dropStaged(id storage.TxnID) {
	s := m.stagedTxn(id)
	if s == nil {
		return
	}
	b := m.begin()
	for chunk := range s.chunks {
		b.DeleteStaged(id, chunk)
	}
	m.forgetStaged(id)
}

func (m *Machine) forgetStaged(id storage.TxnID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.staged, id)
}

// dropFenced removes what was staged by transactions below the fence that have
// no vote: none can be cast any more, and no CloseVote would write ABORTED.
func (m *Machine) dropFenced(below storage.Timestamp) {
	for _, id := range m.Abandonable() {
		if id.Start < below {
			m.dropStaged(id)
		}
	}
}

// Abandonable lists the transactions that have staged chunks and no vote,
// oldest first.
func (m *Machine) Abandonable() []storage.TxnID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []storage.TxnID
	for id := range m.mu.staged {
		if m.mu.prepared[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, storage.TxnID.Compare)
	return ids
}

// commitStaged turns staged chunks into versions, in bounded pieces: a batch
// that fills up is committed in the middle of the entry. Applied again after a
// crash, the entry finds the chunks that are left, and the vote still PREPARED,
// so that nobody was told in between.
func (m *Machine) commitStaged(id storage.TxnID, commit storage.Timestamp) error {
	s := m.stagedTxn(id)
	if s == nil {
		return nil
	}
	snap := m.space.Snapshot()
	defer snap.Close()
	for _, n := range slices.Sorted(maps.Keys(s.chunks)) {
		stored, ok, err := snap.Staged(id, n)
		if err == nil && !ok {
			err = fmt.Errorf("chunk %d is missing", n)
		}
		if err != nil {
			return err
		}
		writes, err := decodeChunk(stored)
		if err != nil {
			return fmt.Errorf("chunk %d: %w", n, err)
		}
		b := m.begin()
		for i := range writes {
			putWrite(b, &writes[i], commit, id.Start)
		}
		b.DeleteStaged(id, n)
		if err := m.boundBatch(); err != nil {
			return err
		}
	}
	m.forgetStaged(id)
	return nil
}

// loadStaged finds the chunks that a snapshot holds.
func loadStaged(snap *storage.Snapshot) (map[storage.TxnID]*stagedTxn, error) {
	staged := make(map[storage.TxnID]*stagedTxn)
	err := snap.AllStaged(func(id storage.TxnID, chunk uint32, v []byte) error {
		if len(v) == 0 || v[0] != formatVersion {
			return fmt.Errorf("chunk %d of transaction %s: %w", chunk, id, errFormat)
		}
		if staged[id] == nil {
			staged[id] = &stagedTxn{}
		}
		staged[id].add(chunk, chunkHash(id, chunk, v[1:]))
		return nil
	})
	return staged, err
}

// stagedKeys looks up the keys that a transaction has staged, ascending, and
// which chunks they are in.
func stagedKeys(snap *storage.Snapshot, id storage.TxnID) ([]storage.Key, *stagedTxn, error) {
	var keys []storage.Key
	s := &stagedTxn{}
	err := snap.StagedOf(id, func(chunk uint32, v []byte) error {
		writes, err := decodeChunk(v)
		if err != nil {
			return fmt.Errorf("chunk %d of transaction %s: %w", chunk, id, err)
		}
		s.add(chunk, chunkHash(id, chunk, v[1:]))
		size := 0
		for i := range writes {
			size += len(writes[i].Key)
		}
		arena := make([]byte, 0, size)
		for i := range writes {
			from := len(arena)
			arena = append(arena, writes[i].Key...)
			keys = append(keys, storage.Key(arena[from:len(arena):len(arena)]))
		}
		return nil
	})
	return keys, s, err
}
