package shard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

var sampleTxn = storage.TxnID{Start: 1000, Gateway: 1<<48 | 7, Seq: 3}

var sampleWait = LockInfo{Shard: 3, Txn: sampleTxn, Mode: LockExclusive, Lo: storage.Key("a"), Waiting: true, Since: 5, Statement: "x",
	BlockedBy: []storage.TxnID{sampleTxn}, Connection: 17, Weight: 3}

var sampleMember = Member{ID: 3, Host: "h", Name: "n", Zone: "z", Cluster: "c:1", SQL: "s:2", Versions: Versions{2, 5}, State: MemberDraining, Incarnation: 4, Life: 1 << 63, Up: true}

var sampleState = ClusterState{Cluster: [16]byte{1}, Ring: []byte("ring"), Replication: 3, Version: 4, Preserve: true, Members: []Member{sampleMember},
	Shards: []ShardPlace{{Shard: 1, Owner: 2, Epoch: 3, ChangeID: 4, Voters: []Seat{{1, "h"}}, Learners: []Seat{{2, "i"}}, Removed: []paxos.ReplicaID{7},
		Applied: 8, Bytes: 9, Running: []RunningReplica{{Node: 1, Replica: 2, Applied: 3}}}},
	Moves: []Move{{Shard: 1, From: 2, To: 3, Step: "copying", Done: 4, Total: 5, Bytes: 6, Since: 7}}}

// sharedState is of a cluster whose nodes have all shards, the data shards in one log.
var sharedState = ClusterState{Ring: []byte("ring"), Version: VersionCompany, Members: []Member{sampleMember},
	Shards: []ShardPlace{{Shard: 0, Owner: 2, Running: []RunningReplica{{Node: 1, Replica: 2, Applied: 3}}},
		{Shard: 1, Owner: 2, Shared: true, Running: []RunningReplica{{Node: 1, Replica: 2, Applied: 3, Shared: true}, {Node: 2, Replica: 3, Applied: 4}}}}}

// samples has every message, command and result at least once, with every field set.
func samples() map[string]Message {
	k := func(s string) storage.Key { return storage.Key(s) }
	onePC := OnePCRequest{Txn: sampleTxn, Floor: 1001, Token: LockToken{Epoch: 2, Generation: 1},
		Writes:  []Write{{Key: k("a"), Value: []byte("1")}, {Key: k("b"), Tombstone: true}, {Key: k(""), Value: []byte{}}},
		Locked:  []LockRef{{Mode: LockShared, Lo: k("c")}, {Mode: LockGap, Lo: k("c"), Hi: k("d")}},
		Schemas: []SchemaRef{{Table: 9, Version: 300}}}
	row := Row{Key: k("a"), Value: []byte("1"), Commit: 5, Found: true}
	m := map[string]Message{
		"read keys":     &ReadRequest{At: 77, Keys: []storage.Key{k("a"), k("")}},
		"read span":     &ReadRequest{At: 77, Span: &Span{Lo: k("a")}, Reverse: true, Limit: 10, ByteLimit: 1 << 20},
		"read response": &ReadResponse{Rows: []Row{row, {Key: k("b")}}, More: true, Resume: k("a\x00")},
		"read many": &ReadManyRequest{Parts: []ReadPart{{Shards: []ID{1, 300}, Request: ReadRequest{At: 77, Span: &Span{Lo: k("a")}, Reverse: true, Limit: 10, ByteLimit: 1 << 20}},
			{Shards: []ID{2}, Request: ReadRequest{At: 77, Keys: []storage.Key{k("a")}}}}},
		"read many response": &ReadManyResponse{Answers: []ReadAnswer{{Response: &ReadResponse{Rows: []Row{row}, More: true, Resume: k("q")}}, {},
			{Err: &Error{Code: NotOwner, Shard: 2, Owner: 3}}, {Err: errors.New("context canceled")}}},
		"bundle":             &bundle{parts: []bundled{{method: methodPrepare, shard: 300, body: []byte("a vote")}, {method: methodResolve, body: []byte{}}}},
		"bundle answer":      &bundleAnswer{answers: [][]byte{[]byte("answer"), {}}},
		"reduce":             &ReduceRequest{At: 77, Span: Span{Lo: k("a"), Hi: k("b")}, Program: []byte("program")},
		"read filtered":      &FilteredRead{Read: ReadRequest{At: 77, Span: &Span{Lo: k("a")}, Limit: 10, ByteLimit: 1 << 20}, Visit: 300, Program: []byte("program")},
		"reduce response":    &ReduceResponse{Result: []byte("result"), Rows: 300, More: true, Resume: k("q")},
		"lock request":       &LockRequest{Txn: sampleTxn, Token: LockToken{1, 2}, Mode: LockExclusive, Wait: WaitSkip, Keys: []storage.Key{k("a")}, Span: &Span{Hi: k("z")}, Reverse: true, Limit: 3, RowsOnly: true, Durable: true, Read: true, Snapshot: 99, Statement: "SELECT 1", Weight: 4, Timeout: time.Second, Connection: 17},
		"lock response":      &LockResponse{Token: LockToken{3, 4}, Rows: []Row{row}, Skipped: []int{0, 2}, More: true, Resume: k("q"), MaxCommit: 12},
		"onepc":              &onePC,
		"prepare":            &PrepareRequest{OnePCRequest: onePC, Participants: []ID{1, 2, 16}, Chunks: 3, Staged: 1 << 60},
		"stage":              &StageRequest{Txn: sampleTxn, Token: LockToken{1, 2}, Chunk: 300, Schemas: onePC.Schemas, Writes: onePC.Writes},
		"vote":               &VoteResponse{State: storage.VoteCommitted, Prepare: 8, Commit: 9, Fenced: true},
		"resolve":            &ResolveRequest{Txn: sampleTxn, Commit: 10, Wait: true},
		"close vote":         &CloseVoteRequest{Txn: sampleTxn},
		"look vote":          &LookVoteRequest{Txn: sampleTxn},
		"look vote response": &LookVoteResponse{State: storage.VotePrepared, Prepare: 8, Commit: 9, Participants: []ID{1, 2}, Fenced: true},
		"release":            &ReleaseRequest{Txn: sampleTxn, Keys: []storage.Key{k("a")}},
		"release spans":      &ReleaseRequest{Txn: sampleTxn, Keys: []storage.Key{k("a")}, Spans: []Span{{Lo: k("b"), Hi: k("c")}, {Lo: k("d")}}},
		"renew":              &RenewRequest{Gateway: 7, Open: []storage.TxnID{sampleTxn}, Cut: 9, Oldest: storage.MaxTimestamp},
		"undecided":          &UndecidedRequest{OlderThan: 2 * time.Second},
		"undecided response": &UndecidedResponse{Votes: []UndecidedVote{{Txn: sampleTxn, Participants: []ID{1}, Prepare: 4, Age: time.Minute}}},
		"locks":              &LocksRequest{},
		"locks response":     &LocksResponse{Locks: []LockInfo{{Shard: 1, Txn: sampleTxn, Mode: LockGap, Lo: k("a"), Hi: k("b"), Waiting: true, Voted: true, Since: 5, Statement: "x", BlockedBy: []storage.TxnID{sampleTxn}, Connection: 17, Weight: 3}}},
		"waits":              &WaitsRequest{Reporter: 5, Sequence: 6, Epoch: 7, Seen: 8, Waits: []ReportedWait{{LockInfo: sampleWait, Epoch: 2, ID: 9}}},
		"waits response":     &WaitsResponse{Epoch: 7, Step: 9, Verdicts: []WaitVerdict{{Shard: 3, Epoch: 2, ID: 9, Members: []LockInfo{sampleWait}}}},
		"timestamp":          &TimestampRequest{Count: 5},
		"timestamp response": &TimestampResponse{First: 6},
		"sequence":           &SequenceRequest{ID: 1, Start: 2, Least: 3, Count: 4, Exact: true},
		"sequence response":  &SequenceResponse{First: 7},
		"fence":              &FenceRequest{Below: 5},
		"schema":             &SchemaRequest{Table: 5, Version: 6},
		"collect":            &CollectRequest{Below: 5},
		"close":              &CloseRequest{At: 5},
		"oldest":             &OldestRequest{},
		"oldest response":    &OldestResponse{Oldest: 5, Undecided: storage.MaxTimestamp},
		"advisory":           &AdvisoryRequest{Op: AdvisoryRelease, Session: AdvisorySession{7, 8}, Connection: 9, Seq: 10, Name: "job", Token: 11, Timeout: -time.Second},
		"advisory response": &AdvisoryResponse{Stale: true, Holder: &AdvisoryHolder{Session: AdvisorySession{7, 8}, Connection: 9, Token: 10, Since: 11}, Released: 2,
			Locks: []AdvisoryLock{{Name: "job", Holder: AdvisoryHolder{Token: 3}, Waiters: []AdvisoryWaiter{{AdvisorySession{1, 2}, 3}}}}},
		"register":          &RegisterRequest{Member: sampleMember, Process: 5, Lives: []uint64{8, 9}, Cluster: [16]byte{1, 15: 16}, Millis: 6},
		"register response": &RegisterResponse{ID: 3, Incarnation: 4, State: sampleState},
		"heartbeat": &HeartbeatRequest{Node: 1, Process: 2, Replicas: []ReplicaReport{{Shard: 1, Replica: 2, Applied: 3, Bytes: 4},
			{Shard: 2, Replica: 2, Applied: 3, Bytes: 4, Serving: true, Epoch: 5, ChangeID: 6, Voters: []Seat{{1, "h"}}, Learners: []Seat{{2, "i"}}, Removed: []paxos.ReplicaID{7}}}},
		"setting":          &SettingRequest{Node: 1, State: MemberLeaving, SetReplication: true, Replication: 3, SetPreserve: true, Preserve: true},
		"seat":             &SeatRequest{Change: SeatVoter, Replica: 2, Host: "h", Node: 3, ChangeID: 4},
		"start":            &StartRequest{Shard: 1, Replica: 2},
		"service":          &ServiceRequest{Service: 1, From: 2, Body: []byte("b")},
		"service response": &ServiceResponse{Body: []byte("b")},
		"loads":            &LoadsRequest{},
		"loads response":   &LoadsResponse{Loads: []ShardLoad{{1, 2, 3}, {4, 5, 1 << 60}}},
		"ping":             &PingRequest{},
		"state request":    &StateRequest{},
		"cluster state":    &sampleState,
		"shared state":     &sharedState,
		"shared register":  &RegisterResponse{ID: 3, Incarnation: 4, State: sharedState},
		"shared heartbeat": &HeartbeatRequest{Node: 1, Process: 2, Replicas: []ReplicaReport{{Shard: 1, Replica: 2, Applied: 3, Bytes: 4, Shared: true},
			{Shard: 2, Replica: 2, Applied: 3, Bytes: 4, Shared: true, Serving: true, Epoch: 5, ChangeID: 6, Voters: []Seat{{1, "h"}}}}},
		"shared seat":    &SeatRequest{Change: SeatOwner, Replica: 2, Host: "h", Node: 3, ChangeID: 4, Shared: true},
		"part":           &SeatRequest{Change: SeatPart, ChangeID: 4, Shared: true},
		"shared start":   &StartRequest{Shard: 1, Replica: 2, Shared: true},
		"take over":      &TakeOverRequest{Epoch: 5, Flush: 1 << 50},
		"take over many": &TakeOverTogetherRequest{Shards: []ShardTakeOver{{1, TakeOverRequest{Epoch: 5, Flush: 1 << 50}}, {300, TakeOverRequest{Epoch: 6, Flush: 7}}}},
		"done":           &Done{},
		"error":          &Error{Code: Undecided, Shard: 3, Key: k("a"), Other: sampleTxn, Participants: []ID{1, 2}, Owner: 4, Detail: "why"},
		"result":         &Result{Verdict: VerdictVote, Epoch: 4, Vote: storage.Vote{State: storage.VotePrepared, Prepare: 5, Commit: 6, Hash: 7}, Value: []byte("v"), Count: 8},
		"owner":          &ownership{Epoch: 4, Node: 1, Process: 99, Sole: true},
		"leases":         &ownership{Epoch: 4, Node: 1, Process: 99, Owed: time.Second, Lease: 2 * time.Second},
		"trunk":          &trunkCommand{parts: []shardCommand{{3, []byte("command")}}},
		"trunk joint":    &trunkCommand{parts: []shardCommand{{3, []byte("one")}, {300, []byte("two")}}},
		"trunk leave":    &trunkCommand{end: trunkEnd{kind: trunkLeave}},
		"trunk company":  &trunkCommand{end: trunkEnd{kind: trunkCompany}},
		"trunk part":     &trunkCommand{end: trunkEnd{kind: trunkPart, shard: 1, epoch: 7, members: map[paxos.ReplicaID]string{1: "h1", 2: "h2", 300: "h3"}}},
	}
	for i, c := range []Command{
		{Kind: KindBeginEpoch, Epoch: 3, Node: 1, Process: 99, Sole: true},
		{Kind: KindOnePC, Epoch: 3, Txn: sampleTxn, At: 50, Hash: 77, Schemas: onePC.Schemas, Writes: onePC.Writes},
		{Kind: KindPrepare, Epoch: 3, Txn: sampleTxn, At: 50, Hash: 77, Schemas: onePC.Schemas, Writes: onePC.Writes, Participants: []ID{1, 2}, Locks: []byte("locks"), Chunks: 3, Staged: 1 << 60},
		{Kind: KindResolve, Epoch: 3, Resolutions: []Resolution{{Txn: sampleTxn, Commit: 51}, {Txn: sampleTxn}}},
		{Kind: KindCloseVote, Epoch: 3, Txn: sampleTxn},
		{Kind: KindRaiseFence, Epoch: 3, Below: 40},
		{Kind: KindCollectGarbage, Epoch: 3, Below: 40, Keys: []storage.Key{k("a")}, Limit: 10},
		{Kind: KindCollectGarbage, Epoch: 3, Below: 40, Lo: k("a"), Hi: k("b"), Limit: 10},
		{Kind: KindCollectVotes, Epoch: 3, Txn: sampleTxn, Below: 40, Limit: 10},
		{Kind: KindRaiseSchema, Epoch: 3, Table: 4, Version: 5},
		{Kind: KindTimestampWindow, Epoch: 3, Below: 1 << 60},
		{Kind: KindPutRecord, Epoch: 3, Name: "ring", Value: []byte("r"), IfAbsent: true},
		{Kind: KindAdvisory, Epoch: 3, Advisory: AdvisoryChange{Op: AdvisoryGet, Session: AdvisorySession{7, 8}, Connection: 9, Seq: 10, Since: 11, Name: "job"}},
		{Kind: KindStage, Epoch: 3, Txn: sampleTxn, Chunk: 300, Schemas: onePC.Schemas, Writes: onePC.Writes},
		{Kind: KindBeginEpoch, Epoch: 3, Node: 1, Process: 99, Flush: 1 << 40},
		{Kind: KindPutLocks, Epoch: 3, Txn: sampleTxn, Token: LockToken{2, 1}, Locks: []byte("locks")},
		{Kind: KindFlushLocks, Epoch: 3, Flush: 77, Handed: []handedLocks{{Txn: sampleTxn, Number: 2, Locks: []byte("locks")}}, Last: true, TokenEpoch: 2, Gateways: []handedGateway{{1<<48 | 7, 3}}},
		{Kind: KindBeginEpoch, Epoch: 3, Node: 1, Process: 99, Lease: time.Second, Clear: true},
		{Kind: KindClose, Epoch: 3, Below: 40},
	} {
		m[fmt.Sprintf("command %d.%d", c.Kind, i)] = &c
	}
	return m
}

func fresh(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

func TestEncodingsRoundTrip(t *testing.T) {
	for name, m := range samples() {
		b := m.AppendBinary([]byte("prefix"))[len("prefix"):]
		got := fresh(m)
		require.NoError(t, got.Decode(b), name)
		require.Equal(t, m, got, name)
		for i := range b { // no proper prefix is an encoding
			require.Error(t, fresh(m).Decode(b[:i]), "%s cut at %d", name, i)
		}
		require.Error(t, fresh(m).Decode(append(bytes.Clone(b), 0)), "%s with a byte too many", name)
		b[0]++
		require.Error(t, fresh(m).Decode(b), "%s of another version", name)
	}
}

// An owner in this process answers without an encoding: with every message.
func TestAnswersWithoutEncoding(t *testing.T) {
	for name, m := range samples() {
		got := fresh(m)
		assign(got, m)
		require.Equal(t, m, got, name)
	}
}

// TestEncodingsAreStable compares with the golden file: commands are kept in
// logs, messages cross versions. Set UPDATE_GOLDEN to write it anew.
func TestEncodingsAreStable(t *testing.T) {
	path := filepath.Join("testdata", "encodings.golden")
	want := make(map[string]string)
	b, err := os.ReadFile(path)
	if os.Getenv("UPDATE_GOLDEN") == "" {
		require.NoError(t, err)
	}
	for line := range strings.Lines(string(b)) {
		name, code, _ := strings.Cut(strings.TrimSpace(line), ": ")
		want[name] = code
	}
	got := make(map[string]string)
	for name, m := range samples() {
		got[name] = hex.EncodeToString(m.AppendBinary(nil))
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		writeGolden(t, path, got)
		return
	}
	require.Equal(t, want, got)
}

func writeGolden(t *testing.T, path string, lines map[string]string) {
	var names []string
	for n := range lines {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s: %s\n", n, lines[n])
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
}

// FuzzDecode: whatever decodes has exactly one encoding, and nothing panics.
func FuzzDecode(f *testing.F) {
	kinds := map[string]Message{}
	for _, m := range samples() {
		f.Add(reflect.TypeOf(m).String(), m.AppendBinary(nil))
		kinds[reflect.TypeOf(m).String()] = m
	}
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		sample := kinds[kind]
		if sample == nil {
			return
		}
		m := fresh(sample)
		if m.Decode(b) != nil {
			return
		}
		if again := m.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("%s\n% x decodes, and encodes to\n% x", kind, b, again)
		}
	})
}

// FuzzServe: no request makes a server panic or fall silent.
func FuzzServe(f *testing.F) {
	for m := methodTimestamp; m < methods; m++ {
		e := envelope{method: m, shard: 3, timeout: time.Second}
		f.Add(newRequest(m).AppendBinary(e.appendHeader(nil)))
	}
	s := &Server{Replica: func(ID) *Replica { return nil }}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer := s.Serve(context.Background(), b)
		if err := decodeResponse(answer, &Done{}); err == nil {
			t.Fatalf("a server without replicas answered % x", answer)
		}
	})
}
