package shard

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

func newTestEngine(t interface {
	Fatalf(string, ...any)
	Cleanup(func())
}) *storage.Engine {
	e, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem()})
	if err != nil {
		t.Fatalf("open engine: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// testMachine applies commands one by one.
type testMachine struct {
	*Machine
	engine *storage.Engine
	index  paxos.Index
}

func openTestMachine(e *storage.Engine, space uint64) (*testMachine, error) {
	m := &testMachine{engine: e, Machine: NewMachine(e.Space(space), e.Sync, 1)}
	var err error
	m.index, err = m.Open()
	return m, err
}

func (m *testMachine) do(c *Command) (Result, error) {
	m.index++
	entries := []paxos.Entry{{Index: m.index, Command: c.AppendBinary(nil)}}
	var r Result
	if err := m.Apply(entries); err != nil {
		return r, err
	}
	return r, r.Decode(entries[0].Result)
}

var verdictNames = map[Verdict]string{VerdictDone: "done", VerdictNotOwner: "not owner", VerdictVote: "vote",
	VerdictFenced: "FENCED", VerdictSchema: "schema changed", VerdictRefused: "refused"}

func (r Result) describe() string {
	switch {
	case r.Verdict == VerdictVote:
		s := fmt.Sprintf("vote %s", r.Vote.State)
		if r.Vote.Prepare != 0 {
			s += fmt.Sprintf(" prepare=%d", r.Vote.Prepare)
		}
		if r.Vote.Commit != 0 {
			s += fmt.Sprintf(" commit=%d", r.Vote.Commit)
		}
		return s
	case r.Verdict == VerdictRefused && r.Value != nil:
		return fmt.Sprintf("refused, there is %q", r.Value)
	case r.Count > 0:
		return fmt.Sprintf("%s, %d removed", verdictNames[r.Verdict], r.Count)
	}
	return verdictNames[r.Verdict]
}

// TestMachine runs the scripts of testdata/machine. A line is a command with
// arguments name=value; "dump" shows what is stored, "reopen" loads the state
// machine again from it.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		m, err := openTestMachine(newTestEngine(t), 1)
		require.NoError(t, err)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "apply" {
				t.Fatalf("%s: unknown directive %q", d.Pos, d.Cmd)
			}
			var out strings.Builder
			for _, line := range strings.Split(d.Input, "\n") {
				switch line {
				case "dump":
					out.WriteString(dump(t, m.space))
				case "reopen":
					index := m.index
					m, err = openTestMachine(m.engine, 1)
					require.NoError(t, err)
					require.Equal(t, index, m.index, "applied index")
				default:
					c := parseCommand(t, line)
					r, err := m.do(c)
					require.NoError(t, err)
					fmt.Fprintf(&out, "%s: %s", line, r.describe())
					if c.Kind == KindCollectVotes && r.Value != nil {
						from, _, err := storage.DecodeTxnID(r.Value)
						require.NoError(t, err)
						fmt.Fprintf(&out, ", go on from %d", from.Start)
					}
					out.WriteString("\n")
				}
			}
			return out.String()
		})
	})
}

func parseCommand(t *testing.T, line string) *Command {
	words := strings.Fields(line)
	kinds := map[string]Kind{"begin": KindBeginEpoch, "onepc": KindOnePC, "prepare": KindPrepare, "resolve": KindResolve,
		"close": KindCloseVote, "fence": KindRaiseFence, "collect": KindCollectGarbage, "collect-votes": KindCollectVotes,
		"schema": KindRaiseSchema, "window": KindTimestampWindow, "record": KindPutRecord,
		"stage": KindStage, "close-timestamp": KindClose, "put-locks": KindPutLocks, "flush": KindFlushLocks}
	c := &Command{Kind: kinds[words[0]], Epoch: 1, Limit: 100}
	if c.Kind == 0 {
		t.Fatalf("unknown command %q", line)
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "epoch":
			c.Epoch = n
		case "process":
			c.Node, c.Process = 1, n
		case "txn":
			c.Txn = storage.TxnID{Start: storage.Timestamp(n), Gateway: 1, Seq: 1}
		case "at":
			c.At = storage.Timestamp(n)
		case "hash":
			c.Hash = n
		case "flush":
			c.Flush = n
		case "last":
			c.Last, c.TokenEpoch = true, c.Epoch
		case "x":
			c.Locks = encodeLockSet([]LockRef{{Mode: LockExclusive, Lo: storage.Key(value)}})
		case "hand":
			id, k, _ := strings.Cut(value, ":")
			c.Handed = append(c.Handed, handedLocks{Txn: parseResolution(id).Txn, Number: 1,
				Locks: encodeLockSet([]LockRef{{Mode: LockExclusive, Lo: storage.Key(k)}})})
		case "below", "top":
			c.Below = storage.Timestamp(n)
		case "limit":
			c.Limit = int(n)
		case "with":
			c.Participants = append(c.Participants, ID(n))
		case "commit", "abort":
			c.Resolutions = append(c.Resolutions, parseResolution(value))
		case "table":
			c.Table = n
		case "version":
			c.Version = n
		case "planned":
			c.Schemas = append(c.Schemas, SchemaRef{Table: 1, Version: n})
		case "name":
			c.Name = value
		case "value":
			c.Value = []byte(value)
		case "if-absent":
			c.IfAbsent = true
		case "chunk":
			c.Chunk = uint32(n)
		case "chunks":
			c.Chunks = uint32(n)
		case "staged": // chunk:key:value, one put each
			chunk, rest, _ := strings.Cut(value, ":")
			k, v, _ := strings.Cut(rest, ":")
			n, _ := strconv.ParseUint(chunk, 10, 32)
			c.Chunks++
			c.Staged += ChunkHash(c.Txn, uint32(n), []Write{{Key: storage.Key(k), Value: []byte(v)}})
		case "put":
			k, v, _ := strings.Cut(value, ":")
			c.Writes = append(c.Writes, Write{Key: storage.Key(k), Value: []byte(v)})
		case "del":
			c.Writes = append(c.Writes, Write{Key: storage.Key(value), Tombstone: true})
		default:
			t.Fatalf("unknown argument %q", w)
		}
	}
	return c
}

// parseResolution reads txn or txn@commit.
func parseResolution(s string) Resolution {
	id, at, _ := strings.Cut(s, "@")
	start, _ := strconv.ParseUint(id, 10, 64)
	commit, _ := strconv.ParseUint(at, 10, 64)
	return Resolution{Txn: storage.TxnID{Start: storage.Timestamp(start), Gateway: 1, Seq: 1}, Commit: storage.Timestamp(commit)}
}

// dump shows keys with their latest version and intent, and the votes.
func dump(t testing.TB, space *storage.Space) string {
	snap := space.Snapshot()
	defer snap.Close()
	var out strings.Builder
	it := snap.Scan(storage.ScanOptions{At: storage.MaxTimestamp, Tombstones: true})
	for it.Next() {
		r := it.Read()
		fmt.Fprintf(&out, "  %s:", it.Key())
		if r.Commit != 0 && !r.Tombstone {
			fmt.Fprintf(&out, " %q@%d", r.Value, r.Commit)
		}
		if r.Tombstone {
			fmt.Fprintf(&out, " deleted@%d", r.Commit)
		}
		if r.Intent != nil {
			fmt.Fprintf(&out, " intent %q of %d at %d", r.Intent.Value, r.Intent.Txn.Start, r.Intent.Prepare)
		}
		out.WriteString("\n")
	}
	require.NoError(t, it.Close())
	require.NoError(t, snap.Votes(func(id storage.TxnID, v storage.Vote) error {
		fmt.Fprintf(&out, "  vote %d: %s\n", id.Start, v.State)
		return nil
	}))
	require.NoError(t, snap.AllStaged(func(id storage.TxnID, chunk uint32, v []byte) error {
		writes, err := decodeChunk(v)
		fmt.Fprintf(&out, "  staged %d: chunk %d, %d writes\n", id.Start, chunk, len(writes))
		return err
	}))
	require.NoError(t, snap.Locks(func(id storage.LockID, r storage.LockRecord) error {
		refs, err := decodeLockSet(r.Locks)
		fmt.Fprintf(&out, "  locks %d:", id.Txn.Start)
		for _, l := range refs {
			fmt.Fprintf(&out, " %s %s", l.Mode, l.Lo)
		}
		if id.Source == storage.LocksHandedOver {
			fmt.Fprintf(&out, ", flush %d for epoch %d", r.Flush, r.Heir)
		}
		out.WriteString("\n")
		return err
	}))
	return out.String()
}

// drawCommand makes any command, over few transactions, keys and epochs.
func drawCommand(t *rapid.T) Command {
	ts := func(name string) storage.Timestamp { return storage.Timestamp(rapid.IntRange(1, 60).Draw(t, name)) }
	txn := func() storage.TxnID {
		return storage.TxnID{Start: storage.Timestamp(rapid.IntRange(1, 30).Draw(t, "start")), Gateway: 1}
	}
	c := Command{Epoch: uint64(rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 2}).Draw(t, "epoch")), Limit: rapid.IntRange(1, 5).Draw(t, "limit")}
	c.Kind = rapid.SampledFrom([]Kind{KindOnePC, KindOnePC, KindPrepare, KindPrepare, KindPrepare, KindStage, KindStage, KindResolve, KindResolve, KindCloseVote,
		KindRaiseFence, KindCollectGarbage, KindCollectVotes, KindRaiseSchema, KindPutRecord, KindTimestampWindow,
		KindPutLocks, KindPutLocks, KindFlushLocks, KindBeginEpoch, KindClose}).Draw(t, "kind")
	switch c.Kind {
	case KindOnePC, KindPrepare:
		c.Txn, c.At = txn(), ts("at")
		// Every transaction has a key of its own: the lock table above sees to
		// it that two undecided ones never write the same.
		value := bytes.Repeat([]byte{'v'}, rapid.SampledFrom([]int{1, 1, 1, cachedWrites}).Draw(t, "size"))
		c.Writes = []Write{{Key: storage.Key(fmt.Sprintf("k%d", c.Txn.Start)), Value: value}}
		c.Schemas = []SchemaRef{{Table: 1, Version: uint64(rapid.IntRange(0, 3).Draw(t, "planned"))}}
		c.Participants = []ID{1, 2}
		if c.Kind == KindPrepare && rapid.Bool().Draw(t, "large") {
			c.Writes = nil
			for chunk := range uint32(rapid.IntRange(1, 2).Draw(t, "chunks")) {
				c.Chunks++
				c.Staged += ChunkHash(c.Txn, chunk, drawnChunk(c.Txn, chunk))
			}
		}
	case KindStage:
		c.Txn, c.Chunk = txn(), uint32(rapid.IntRange(0, 1).Draw(t, "chunk"))
		c.Writes = drawnChunk(c.Txn, c.Chunk)
	case KindResolve:
		for range rapid.IntRange(1, 4).Draw(t, "resolutions") {
			c.Resolutions = append(c.Resolutions, Resolution{Txn: txn(), Commit: storage.Timestamp(rapid.IntRange(0, 80).Draw(t, "commit"))})
		}
	case KindCloseVote:
		c.Txn = txn()
	case KindPutLocks:
		c.Txn, c.Locks = txn(), encodeLockSet([]LockRef{{Mode: LockExclusive, Lo: storage.Key("k")}})
	case KindFlushLocks:
		c.Flush, c.Last = uint64(rapid.IntRange(1, 2).Draw(t, "flush")), rapid.Bool().Draw(t, "last")
		c.Handed = []handedLocks{{Txn: txn(), Number: 1, Locks: encodeLockSet([]LockRef{{Mode: LockShared, Lo: storage.Key("k")}})}}
	case KindBeginEpoch:
		c.Node, c.Process, c.Flush = 1, uint64(rapid.IntRange(1, 3).Draw(t, "process")), uint64(rapid.IntRange(0, 2).Draw(t, "flush"))
	case KindRaiseFence:
		c.Below = storage.Timestamp(rapid.IntRange(1, 12).Draw(t, "below"))
	case KindCollectVotes:
		c.Below = storage.Timestamp(rapid.IntRange(1, 12).Draw(t, "below"))
		if rapid.Bool().Draw(t, "go on") {
			c.Txn = txn()
		}
	case KindCollectGarbage, KindTimestampWindow, KindClose:
		c.Below = storage.Timestamp(rapid.IntRange(1, 12).Draw(t, "below"))
	case KindRaiseSchema:
		c.Table, c.Version = 1, uint64(rapid.IntRange(1, 3).Draw(t, "version"))
	case KindPutRecord:
		c.Name, c.Value, c.IfAbsent = "r", []byte{byte(rapid.IntRange(0, 9).Draw(t, "value"))}, rapid.Bool().Draw(t, "if absent")
	}
	return c
}

// drawnChunk is the content of a chunk: a key that no other transaction has.
func drawnChunk(id storage.TxnID, chunk uint32) []Write {
	return []Write{{Key: storage.Key(fmt.Sprintf("k%d large %d", id.Start, chunk)), Value: bytes.Repeat([]byte{'s'}, 100)}}
}

// Two machines that apply one log in different portions, one of them with
// restarts in between, give the same results and end with the same content.
func TestMachineIsDeterministic(t *testing.T) {
	e := newTestEngine(t)
	space := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		space += 2
		a, err := openTestMachine(e, space)
		require.NoError(rt, err)
		b, err := openTestMachine(e, space+1)
		require.NoError(rt, err)
		log := []paxos.Entry{{Index: 1, Command: (&Command{Kind: KindBeginEpoch, Node: 1, Process: 1}).AppendBinary(nil)}}
		for i := range rapid.IntRange(1, 80).Draw(rt, "length") {
			c := drawCommand(rt)
			log = append(log, paxos.Entry{Index: paxos.Index(i + 2), Command: c.AppendBinary(nil)})
		}
		one, two := slices.Clone(log), slices.Clone(log)
		for i := range one {
			require.NoError(rt, a.Apply(one[i:i+1]))
		}
		for rest := two; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "portion")
			require.NoError(rt, b.Apply(rest[:n]))
			rest = rest[n:]
			if rapid.Bool().Draw(rt, "restart") {
				b, err = openTestMachine(e, space+1)
				require.NoError(rt, err)
			}
		}
		for i := range one {
			require.Equal(rt, one[i].Result, two[i].Result, "entry %d", i+1)
		}
		sumA, err := a.space.Checksum()
		require.NoError(rt, err)
		sumB, err := b.space.Checksum()
		require.NoError(rt, err)
		require.Equal(rt, sumA, sumB)
	})
}

// TestVotesAreAtomic is models/votes.py over real machines: two shards, a
// coordinator, two recoverers, garbage rounds; messages are delivered in any
// order and any number of times.
func TestVotesAreAtomic(t *testing.T) {
	e := newTestEngine(t)
	space := uint64(1 << 20)
	rapid.Check(t, func(rt *rapid.T) {
		space += 2
		w := newVotesWorld(rt, e, space)
		for range 60 {
			w.step(rt)
			w.check(rt)
		}
	})
}

// votesWorld is one transaction over two shards, and whoever works on it.
type votesWorld struct {
	shards [2]*testMachine
	// known[i] is what actor i (0: the coordinator) has learnt of each shard.
	known   [3][2]Result
	decided [3]*storage.Timestamp // nil: nothing; 0: abort
	acked   bool
	fenced  [2]bool
	applied [2]int
}

var votesTxn = storage.TxnID{Start: 10, Gateway: 1, Seq: 1}

func newVotesWorld(t *rapid.T, e *storage.Engine, space uint64) *votesWorld {
	w := &votesWorld{}
	for i := range w.shards {
		m, err := openTestMachine(e, space+uint64(i))
		require.NoError(t, err)
		_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
		require.NoError(t, err)
		w.shards[i] = m
	}
	return w
}

func (w *votesWorld) do(t *rapid.T, s int, c Command) Result {
	c.Epoch = 1
	before := w.version(t, s)
	r, err := w.shards[s].do(&c)
	require.NoError(t, err)
	if w.version(t, s) != before {
		w.applied[s]++
	}
	return r
}

func (w *votesWorld) version(t *rapid.T, s int) storage.Timestamp {
	snap := w.shards[s].space.Snapshot()
	defer snap.Close()
	r, err := snap.Get(storage.Key("k"), storage.MaxTimestamp)
	require.NoError(t, err)
	return r.Newest
}

func (w *votesWorld) state(t *rapid.T, s int) storage.VoteState {
	snap := w.shards[s].space.Snapshot()
	defer snap.Close()
	v, _, err := snap.Vote(votesTxn)
	require.NoError(t, err)
	return v.State
}

func (w *votesWorld) step(t *rapid.T) {
	s := rapid.IntRange(0, 1).Draw(t, "shard")
	switch actor := rapid.IntRange(0, 2).Draw(t, "actor"); rapid.SampledFrom([]string{"prepare", "prepare", "ask", "ask", "ask", "decide", "resolve", "fence", "collect"}).Draw(t, "step") {
	case "prepare": // any number of copies, at any time
		r := w.do(t, s, Command{Kind: KindPrepare, Txn: votesTxn, At: storage.Timestamp(20 + s), Hash: 5,
			Participants: []ID{1, 2}, Writes: []Write{{Key: storage.Key("k"), Value: []byte("v")}}})
		if r.Verdict == VerdictVote && rapid.Bool().Draw(t, "the answer arrives") {
			w.known[0][s] = r
		}
	case "ask":
		if actor == 0 || w.decided[actor] != nil || w.known[actor][s].Verdict != 0 {
			return
		}
		started := w.known[actor][0].Verdict != 0 || w.known[actor][1].Verdict != 0
		if started || w.state(t, s) == storage.VotePrepared {
			w.known[actor][s] = w.do(t, s, Command{Kind: KindCloseVote, Txn: votesTxn})
		}
	case "decide":
		w.decide(actor)
	case "resolve":
		if d := w.decided[actor]; d != nil {
			w.do(t, s, Command{Kind: KindResolve, Resolutions: []Resolution{{Txn: votesTxn, Commit: *d}}})
		}
	case "fence":
		w.do(t, s, Command{Kind: KindRaiseFence, Below: 15})
		w.fenced[s] = true
	case "collect":
		if w.fenced == [2]bool{true, true} && w.state(t, 0) != storage.VotePrepared && w.state(t, 1) != storage.VotePrepared {
			w.do(t, s, Command{Kind: KindCollectVotes, Below: 15, Limit: 10})
		}
	}
}

// decide lets an actor conclude what it may.
func (w *votesWorld) decide(actor int) {
	if w.decided[actor] != nil {
		return
	}
	yes, commit := 0, storage.Timestamp(0)
	for _, r := range w.known[actor] {
		switch {
		case r.Verdict == VerdictFenced && actor != 0, // H8: a recoverer's answer is abort, a gateway's unknown
			r.Verdict == VerdictVote && r.Vote.State == storage.VoteAborted:
			abort := storage.Timestamp(0)
			w.decided[actor] = &abort
			return
		case r.Verdict == VerdictVote:
			yes, commit = yes+1, max(commit, r.Vote.Prepare)
		}
	}
	if yes == 2 {
		w.decided[actor] = &commit
		w.acked = w.acked || actor == 0
	}
}

func (w *votesWorld) check(t *rapid.T) {
	states := [2]storage.VoteState{w.state(t, 0), w.state(t, 1)}
	require.False(t, slices.Contains(states[:], storage.VoteCommitted) && slices.Contains(states[:], storage.VoteAborted), "one shard commits, the other aborts")
	for s := range w.shards {
		require.LessOrEqual(t, w.applied[s], 1, "applied twice on shard %d", s)
		require.False(t, w.acked && states[s] == storage.VoteAborted, "acknowledged and aborted on shard %d", s)
	}
	if states[0] != storage.VotePrepared && states[1] != storage.VotePrepared && w.applied != [2]int{} {
		require.Equal(t, [2]int{1, 1}, w.applied, "committed on one shard only, and nothing left to finish it")
	}
}

// A snapshot written by one machine and restored by another carries everything,
// registers included.
func TestRestoreCarriesTheRegisters(t *testing.T) {
	e := newTestEngine(t)
	a, err := openTestMachine(e, 1)
	require.NoError(t, err)
	for _, line := range []string{"begin epoch=0 process=7", "prepare txn=10 at=20 put=a:1 with=1", "onepc txn=9 at=18 put=c:1", "fence below=5", "window top=99", "schema table=1 version=3"} {
		_, err := a.do(parseCommand(t, line))
		require.NoError(t, err)
	}
	snap, err := a.Snapshot()
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, snap.Write(&stream, nil))
	require.NoError(t, snap.Close())
	b, err := openTestMachine(newTestEngine(t), 1)
	require.NoError(t, err)
	require.NoError(t, b.Restore(&stream, nil))
	epoch, _, process, _ := b.Owner()
	require.Equal(t, []uint64{1, 7, 5, 99}, []uint64{epoch, process, uint64(b.Fence()), uint64(b.Window())})
	require.EqualValues(t, 18, b.lastCommit.Load(), "who locks without reading follows what others have committed")
	b.index = a.index
	r, err := b.do(parseCommand(t, "resolve commit=10@20"))
	require.NoError(t, err)
	require.Equal(t, VerdictDone, r.Verdict)
	require.Contains(t, dump(t, b.space), `"1"@20`)
	r, err = b.do(parseCommand(t, "onepc txn=30 at=40 put=b:1 planned=2"))
	require.NoError(t, err)
	require.Equal(t, VerdictSchema, r.Verdict)
}
