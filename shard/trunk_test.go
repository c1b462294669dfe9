package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// testTrunk carries shards 1, 2 and so on, in the spaces behind its own.
type testTrunk struct {
	*Trunk
	machines []*Machine
	index    paxos.Index
}

func openTestTrunk(e *storage.Engine, space uint64, shards int, sync func() error) (*testTrunk, error) {
	t := &testTrunk{Trunk: NewTrunk(e.Space(space), sync, 1)}
	for i := range shards {
		m := NewMachine(e.Space(space+uint64(i)+1), sync, 1)
		t.Carry(ID(i+1), m)
		t.machines = append(t.machines, m)
	}
	var err error
	t.index, err = t.Open()
	return t, err
}

// storedLeft reports, from the trunk's space, that its shards have left.
func storedLeft(space *storage.Space) (bool, error) {
	snap := space.Snapshot()
	defer snap.Close()
	return hasMeta(snap, metaLeft)
}

// do applies one command, and returns the results of its parts.
func (t *testTrunk) do(command []byte, parts int) ([]Result, error) {
	t.index++
	entries := []paxos.Entry{{Index: t.index, Command: command}}
	if err := t.Apply(entries); err != nil {
		return nil, err
	}
	return decodeResults(entries[0].Result, parts)
}

func decodeResults(b []byte, parts int) ([]Result, error) {
	list, err := splitResults(b, max(parts, 1))
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(list))
	for i, b := range list {
		if err := results[i].Decode(b); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// trunkEntry is an entry of a trunk's log, and what it is made of.
type trunkEntry struct {
	shards   []ID
	commands []Command
}

func (e *trunkEntry) encode() []byte {
	var c trunkCommand
	for i, s := range e.shards {
		c.parts = append(c.parts, shardCommand{s, e.commands[i].AppendBinary(nil)})
	}
	return c.AppendBinary(nil)
}

// drawTrunkEntry makes any command of one shard, or votes of a transaction on several:
// mostly on all its participants, now and then not all, of two transactions, twice on
// one shard, or with something that makes one of them refuse.
func drawTrunkEntry(t *rapid.T, shards int) *trunkEntry {
	if rapid.IntRange(0, 2).Draw(t, "joint") == 0 {
		s := ID(rapid.IntRange(1, shards).Draw(t, "shard"))
		return &trunkEntry{[]ID{s}, []Command{drawCommand(t)}}
	}
	all := []ID{1, 2, 3}[:rapid.IntRange(2, shards).Draw(t, "participants")]
	e := &trunkEntry{shards: rapid.Permutation(all).Draw(t, "order")}
	if rapid.IntRange(0, 9).Draw(t, "some") == 0 && len(all) > 2 {
		e.shards = e.shards[:2]
	}
	if rapid.IntRange(0, 9).Draw(t, "twice") == 0 {
		e.shards = append(e.shards[:len(e.shards)-1:len(e.shards)-1], e.shards[0])
	}
	id := storage.TxnID{Start: storage.Timestamp(rapid.IntRange(1, 40).Draw(t, "start")), Gateway: 1}
	for range e.shards {
		c := Command{Kind: KindPrepare, Epoch: 1, Txn: id, Participants: all, Hash: 7}
		c.At = storage.Timestamp(rapid.IntRange(41, 90).Draw(t, "at"))
		odd := rapid.IntRange(0, 40).Draw(t, "odd")
		if odd == 2 {
			c.Txn.Start = storage.Timestamp(rapid.IntRange(1, 40).Draw(t, "other"))
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "writes") {
			value := bytes.Repeat([]byte{'j'}, rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 1, cachedWrites}).Draw(t, "size"))
			w := Write{Key: storage.Key(fmt.Sprintf("k%d joint %d", c.Txn.Start, i)), Value: value}
			if rapid.IntRange(0, 4).Draw(t, "tombstone") == 0 {
				w.Value, w.Tombstone = nil, true
			}
			c.Writes = append(c.Writes, w)
		}
		switch odd {
		case 0:
			c.Epoch = 2
		case 1:
			c.Chunks, c.Staged = 1, ChunkHash(id, 0, drawnChunk(id, 0))
		case 3:
			c.Schemas = []SchemaRef{{Table: 1, Version: uint64(rapid.IntRange(0, 3).Draw(t, "planned"))}}
		case 4:
			c.Participants = []ID{1, 2, 4}
		}
		e.commands = append(e.commands, c)
	}
	return e
}

// apart are machines with logs of their own, to which the entries of a trunk come one
// part after the other.
type apart []*testMachine

func openApart(t require.TestingT, e *storage.Engine, space uint64, shards int) (a apart) {
	for i := range shards {
		m, err := openTestMachine(e, space+uint64(i))
		require.NoError(t, err)
		a = append(a, m)
	}
	return a
}

func (a apart) do(t require.TestingT, s ID, c *Command) Result {
	r, err := a[s-1].do(c)
	require.NoError(t, err)
	return r
}

// apply is the protocol of old. A coordinator that has every participant's vote commits,
// everybody learns of it, and the votes are asked for again.
func (a apart) apply(t require.TestingT, e *trunkEntry) (results []Result) {
	fresh := make(map[ID]bool)
	for i, s := range e.shards {
		snap := a[s-1].space.Snapshot()
		_, before, err := snap.Vote(e.commands[i].Txn)
		snap.Close()
		require.NoError(t, err)
		r := a.do(t, s, &e.commands[i])
		if !before && r.Verdict == VerdictVote && r.Vote.State == storage.VotePrepared && e.commands[i].Chunks == 0 && e.commands[i].Txn == e.commands[0].Txn {
			fresh[s] = true
		}
		results = append(results, r)
	}
	if len(e.shards) == 1 {
		return results
	}
	commit := storage.Timestamp(0)
	for i := range e.commands {
		c := &e.commands[i]
		commit = max(commit, c.At)
		if len(c.Participants) != len(e.shards) || !slices.Equal(c.Participants, e.commands[0].Participants) {
			return results
		}
		for _, p := range c.Participants {
			if !fresh[p] {
				return results
			}
		}
	}
	for i, s := range e.shards {
		c := &e.commands[i]
		a.do(t, s, &Command{Kind: KindResolve, Epoch: c.Epoch, Resolutions: []Resolution{{Txn: c.Txn, Commit: commit}}})
	}
	for i, s := range e.shards {
		results[i] = a.do(t, s, &e.commands[i])
	}
	return results
}

// sums are the checksums of all shards.
func (a apart) sums(t require.TestingT) (sums []uint64) {
	for _, m := range a {
		sums = append(sums, sumOf(t, m.Machine))
	}
	return sums
}

func (t *testTrunk) sums(tt require.TestingT) (sums []uint64) {
	for _, m := range t.machines {
		sums = append(sums, sumOf(tt, m))
	}
	return sums
}

func sumOf(t require.TestingT, m *Machine) uint64 {
	sum, err := m.space.Checksum()
	require.NoError(t, err)
	return sum
}

// drawTrunkLog draws a log that begins with an epoch on every shard.
func drawTrunkLog(t *rapid.T, shards, length int) (log []*trunkEntry) {
	for i := range shards {
		log = append(log, &trunkEntry{[]ID{ID(i + 1)}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}})
	}
	for range rapid.IntRange(1, length).Draw(t, "length") {
		log = append(log, drawTrunkEntry(t, shards))
	}
	return log
}

// TestTrunkIsItsShards: what a trunk does with any log, in any portions and with
// restarts in between, is what the shards would have done with logs of their own and
// with one coordinator to each transaction whose votes came together: the same results,
// and the same content.
func TestTrunkIsItsShards(t *testing.T) {
	const shards = 3
	e := newTestEngine(t)
	space, committed := uint64(0), 0
	rapid.Check(t, func(rt *rapid.T) {
		space += 16
		a := openApart(rt, e, space, shards)
		b, err := openTestTrunk(e, space+8, shards, e.Sync)
		require.NoError(rt, err)
		log := drawTrunkLog(rt, shards, 60)
		var want [][]Result
		for _, entry := range log {
			want = append(want, a.apply(rt, entry))
		}
		for at := 0; at < len(log); {
			n := rapid.IntRange(1, len(log)-at).Draw(rt, "portion")
			entries := make([]paxos.Entry, n)
			for i := range entries {
				entries[i] = paxos.Entry{Index: paxos.Index(at + i + 1), Command: log[at+i].encode()}
			}
			require.NoError(rt, b.Apply(entries))
			for i := range entries {
				got, err := decodeResults(entries[i].Result, len(log[at+i].shards))
				require.NoError(rt, err)
				require.Equal(rt, want[at+i], got, "entry %d, %d parts", at+i+1, len(got))
				if len(got) > 1 && got[0].Vote.State == storage.VoteCommitted {
					committed++
				}
			}
			at += n
			if rapid.Bool().Draw(rt, "restart") {
				b, err = openTestTrunk(e, space+8, shards, e.Sync)
				require.NoError(rt, err)
				require.Equal(rt, paxos.Index(at), b.index)
			}
		}
		require.Equal(rt, a.sums(rt), b.sums(rt))
		for i, m := range b.machines {
			require.Equal(rt, preparedOf(a[i].Machine), preparedOf(m))
			require.Equal(rt, []any{a[i].Fence(), a[i].Closed(), a[i].Window()}, []any{m.Fence(), m.Closed(), m.Window()})
		}
	})
	require.NotZero(t, committed, "no entry committed")
}

func preparedOf(m *Machine) map[storage.TxnID]string {
	all := map[storage.TxnID]string{}
	m.Prepared(func(id storage.TxnID, v storage.Vote) { all[id] = string(v.AppendBinary(nil)) })
	return all
}

// TestTrunkAfterAPowerCut: whatever a power cut leaves, all spaces have the same prefix
// of the log, not less than what was synced, and from there on the log leads to where it
// would have led.
func TestTrunkAfterAPowerCut(t *testing.T) {
	const shards = 3
	seed := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed++
		rng := rand.New(rand.NewPCG(uint64(seed), 89))
		log := drawTrunkLog(rt, shards, 30)
		prefixes := prefixesOf(rt, newTestEngine(t), log, shards)
		fs := vfs.NewCrashableMem()
		e, err := storage.Open(storage.Options{Dir: "data", FS: fs})
		require.NoError(rt, err)
		b, err := openTestTrunk(e, 1, shards, e.Sync)
		require.NoError(rt, err)
		for at, synced := 0, 0; at < len(log); {
			n := min(rapid.IntRange(1, 6).Draw(rt, "portion"), len(log)-at)
			applyLog(rt, b, log[at:at+n])
			if at += n; rapid.IntRange(0, 3).Draw(rt, "sync") == 0 {
				require.NoError(rt, b.Sync())
				synced = at
			}
			if rapid.IntRange(0, 9).Draw(rt, "cut") == 0 {
				cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
				afterCut(rt, cut, log, prefixes, synced)
			}
		}
		require.NoError(rt, e.Close())
	})
}

// prefixesOf are the checksums after each entry of a log.
func prefixesOf(t require.TestingT, e *storage.Engine, log []*trunkEntry, shards int) [][]uint64 {
	b, err := openTestTrunk(e, 1, shards, e.Sync)
	require.NoError(t, err)
	prefixes := [][]uint64{b.sums(t)}
	for i := range log {
		applyLog(t, b, log[i:i+1])
		prefixes = append(prefixes, b.sums(t))
	}
	return prefixes
}

// applyLog applies the next entries in one portion.
func applyLog(t require.TestingT, b *testTrunk, log []*trunkEntry) {
	require.NoError(t, b.Apply(b.entries(log)))
}

// entries numbers the next entries of a log.
func (t *testTrunk) entries(log []*trunkEntry) []paxos.Entry {
	entries := make([]paxos.Entry, len(log))
	for i := range entries {
		t.index++
		entries[i] = paxos.Entry{Index: t.index, Command: log[i].encode()}
	}
	return entries
}

// afterCut opens what a power cut has left and goes on from there.
func afterCut(t require.TestingT, fs vfs.FS, log []*trunkEntry, prefixes [][]uint64, synced int) {
	e, err := storage.Open(storage.Options{Dir: "data", FS: fs})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	b, err := openTestTrunk(e, 1, len(prefixes[0]), e.Sync)
	require.NoError(t, err)
	at := int(b.index)
	require.GreaterOrEqual(t, at, synced)
	require.Equal(t, prefixes[at], b.sums(t), "after entry %d", at)
	if at < len(log) {
		applyLog(t, b, log[at:])
	}
	require.Equal(t, prefixes[len(log)], b.sums(t))
}

// TestTrunkCommitsInPieces: a large outcome takes several batches. Each of them has the
// index of the entry before, and what other shards wrote in entries before it.
func TestTrunkCommitsInPieces(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e, err := storage.Open(storage.Options{Dir: "data", FS: fs})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	b, err := openTestTrunk(e, 1, 2, e.Sync)
	require.NoError(t, err)
	id := storage.TxnID{Start: 10, Gateway: 1, Seq: 1}
	vote := Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 20, Participants: []ID{1}, Chunks: 4}
	log := []*trunkEntry{
		{[]ID{1}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}},
		{[]ID{2}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}},
	}
	for i := range vote.Chunks {
		chunk := []Write{{Key: storage.Key{byte(i)}, Value: make([]byte, resolveFlush/2)}}
		log = append(log, &trunkEntry{[]ID{1}, []Command{{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: chunk}}})
		vote.Staged += ChunkHash(id, i, chunk)
	}
	log = append(log, &trunkEntry{[]ID{1}, []Command{vote}})
	applyLog(t, b, log)
	prepared := b.index
	// The chunks are looked up when the entry is applied: without the last one it stops in
	// the middle, as in a power cut.
	lose := b.machines[0].space.NewBatch()
	snap := b.machines[0].space.Snapshot()
	last, _, err := snap.Staged(id, 3)
	require.NoError(t, err)
	lost := bytes.Clone(last)
	snap.Close()
	lose.DeleteStaged(id, 3)
	require.NoError(t, lose.Commit())
	lose.Close()
	other := &trunkEntry{[]ID{2}, []Command{{Kind: KindOnePC, Epoch: 1, Txn: storage.TxnID{Start: 11, Gateway: 1}, At: 21,
		Writes: []Write{{Key: storage.Key("other"), Value: []byte("1")}}}}}
	resolve := &trunkEntry{[]ID{1}, []Command{{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id, Commit: 22}}}}}
	err = b.Apply([]paxos.Entry{{Index: prepared + 1, Command: other.encode()}, {Index: prepared + 2, Command: resolve.encode()}})
	require.ErrorContains(t, err, "chunk 3 is missing")
	require.Error(t, b.Apply([]paxos.Entry{{Index: prepared + 3, Command: other.encode()}}), "an entry after one that failed")

	b, err = openTestTrunk(e, 1, 2, e.Sync)
	require.NoError(t, err)
	require.Equal(t, prepared+1, b.index, "the entry before the one that was cut short")
	require.Contains(t, dump(t, b.machines[1].space), `other: "1"@21`)
	require.Len(t, preparedOf(b.machines[0]), 1)
	put := b.machines[0].space.NewBatch()
	put.PutStaged(id, 3, lost)
	require.NoError(t, put.Commit())
	put.Close()
	b, err = openTestTrunk(e, 1, 2, e.Sync)
	require.NoError(t, err)
	applyLog(t, b, []*trunkEntry{resolve})
	require.Empty(t, preparedOf(b.machines[0]))
	snap = b.machines[0].space.Snapshot()
	defer snap.Close()
	for i := range vote.Chunks {
		read, err := snap.Get(storage.Key{byte(i)}, storage.MaxTimestamp)
		require.NoError(t, err)
		require.Equal(t, storage.Timestamp(22), read.Commit)
	}
}

func put(id, at uint64, k string) Command {
	return Command{Kind: KindOnePC, Epoch: 1, Txn: storage.TxnID{Start: storage.Timestamp(id), Gateway: 1}, At: storage.Timestamp(at),
		Writes: []Write{{Key: storage.Key(k), Value: []byte("v")}}}
}

// TestLeavingTheTrunk: leave is durable before anybody learns of it, and what it leaves
// is where the shards' own logs begin, at their first entry. Nothing is applied in the
// trunk after it.
func TestLeavingTheTrunk(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e, err := storage.Open(storage.Options{Dir: "data", FS: fs})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	b, err := openTestTrunk(e, 1, 2, e.Sync)
	require.NoError(t, err)
	for s := range ID(2) {
		applyLog(t, b, []*trunkEntry{{[]ID{s + 1}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}}})
	}
	applyLog(t, b, []*trunkEntry{{[]ID{1}, []Command{put(10, 20, "before")}}})
	left, err := storedLeft(e.Space(1))
	require.NoError(t, err)
	require.False(t, left || b.Left())
	for range 2 { // a copy of the command does nothing
		results, err := b.do(encodeEnd(trunkEnd{kind: trunkLeave}), 1)
		require.NoError(t, err)
		require.Equal(t, VerdictDone, results[0].Verdict)
		require.True(t, b.Left())
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced

	sums := b.sums(t)
	for _, command := range []*trunkEntry{
		{[]ID{1}, []Command{put(11, 21, "after")}},
		{[]ID{1, 2}, []Command{{Kind: KindPrepare, Epoch: 1, At: 20, Participants: []ID{1, 2}}, {Kind: KindPrepare, Epoch: 1, At: 20, Participants: []ID{1, 2}}}},
	} {
		n := len(command.shards)
		b.index++
		entries := []paxos.Entry{{Index: b.index, Command: command.encode()}}
		require.NoError(t, b.Apply(entries))
		parts, err := splitResults(entries[0].Result, n)
		require.NoError(t, err)
		for _, p := range parts {
			require.True(t, hasLeft(p))
		}
	}
	require.Equal(t, sums, b.sums(t))
	require.False(t, hasLeft((&Result{Verdict: VerdictDone}).AppendBinary(nil)))

	// The machines go on by themselves, with what they have in memory.
	for i, m := range b.machines {
		own := put(12, 22, "own")
		entries := []paxos.Entry{{Index: 1, Command: own.AppendBinary(nil)}}
		require.NoError(t, m.Apply(entries))
		applied, ok, err := m.space.Applied()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, storage.Applied{Replica: 1, Index: 1}, applied)
		require.NotEqual(t, sums[i], sumOf(t, m))
	}

	after, err := storage.Open(storage.Options{Dir: "data", FS: cut})
	require.NoError(t, err)
	defer func() { require.NoError(t, after.Close()) }()
	left, err = storedLeft(after.Space(1))
	require.NoError(t, err)
	require.True(t, left, "leave was answered")
	b, err = openTestTrunk(after, 1, 2, after.Sync)
	require.NoError(t, err)
	require.True(t, b.Left())
	require.Equal(t, sums, b.sums(t))
	for _, m := range b.machines {
		epoch, _, _, _ := m.Owner()
		require.Equal(t, uint64(1), epoch, "loaded, though it was let go")
		index, err := m.Open()
		require.NoError(t, err)
		require.Zero(t, index)
	}
}

// TestTrunkStopsAtWhatItCannotRead: an entry that is not understood, or is for a shard
// that is not carried, is not passed over, and nothing of it is applied.
func TestTrunkStopsAtWhatItCannotRead(t *testing.T) {
	begin := (&Command{Kind: KindBeginEpoch, Node: 1, Process: 1}).AppendBinary(nil)
	prepare := (&Command{Kind: KindPrepare, Epoch: 1, At: 20, Participants: []ID{1, 2}}).AppendBinary(nil)
	for name, command := range map[string][]byte{
		"a shard that is not carried":           appendPart(nil, 9, begin),
		"one of several that is not":            appendJoint(nil, []shardCommand{{1, prepare}, {9, prepare}}),
		"a kind of a later release":             {formatVersion, 77},
		"a form of a later release":             {formatVersion + 1, trunkLeave},
		"a command of a later release":          appendPart(nil, 1, []byte{formatVersion, 200, 1}),
		"a command of a later release in a set": appendJoint(nil, []shardCommand{{1, prepare}, {2, []byte{formatVersion, 200, 1}}}),
		"no part":                               {formatVersion, trunkParts, 0},
		"half a part":                           appendPart(nil, 1, begin)[:6],
	} {
		e := newTestEngine(t)
		b, err := openTestTrunk(e, 1, 2, e.Sync)
		require.NoError(t, err)
		for s := range ID(2) {
			_, err = b.do(appendPart(nil, s+1, begin), 1)
			require.NoError(t, err)
		}
		sums := b.sums(t)
		_, err = b.do(command, 1)
		require.Error(t, err, name)
		_, err = b.do(appendPart(nil, 1, (&Command{Kind: KindRaiseFence, Epoch: 1, Below: 5}).AppendBinary(nil)), 1)
		require.Error(t, err, name)
		require.Equal(t, sums, b.sums(t), name)
	}
}

// TestOnlyVotesComeTogether: several parts are Prepares; others are refused, all of them.
// A command that is applied again after a power cut in the middle of its entry would
// otherwise have to bear what the other parts did.
func TestOnlyVotesComeTogether(t *testing.T) {
	e := newTestEngine(t)
	b, err := openTestTrunk(e, 1, 2, e.Sync)
	require.NoError(t, err)
	for s := range ID(2) {
		applyLog(t, b, []*trunkEntry{{[]ID{s + 1}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}}})
	}
	sums := b.sums(t)
	entry := &trunkEntry{[]ID{1, 2}, []Command{put(10, 20, "a"), {Kind: KindPrepare, Epoch: 1, At: 20, Txn: storage.TxnID{Start: 10, Gateway: 1}, Participants: []ID{1, 2}}}}
	results, err := b.do(entry.encode(), 2)
	require.NoError(t, err)
	require.Equal(t, []Verdict{VerdictRefused, VerdictRefused}, []Verdict{results[0].Verdict, results[1].Verdict})
	require.Equal(t, sums, b.sums(t))
}

// TestTrunkHasNoSnapshots: nobody joins a trunk.
func TestTrunkHasNoSnapshots(t *testing.T) {
	e := newTestEngine(t)
	b, err := openTestTrunk(e, 1, 1, e.Sync)
	require.NoError(t, err)
	_, err = b.Snapshot()
	require.ErrorIs(t, err, errTrunkAlone)
	require.ErrorIs(t, b.Restore(bytes.NewReader(nil), nil), errTrunkAlone)
}
