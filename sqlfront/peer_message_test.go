package sqlfront

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

var updatePeers = flag.Bool("update-peers", false, "write the golden file of messages between servers")

// peerMessages are requests and answers with every field set.
func peerMessages() (requests []peerRequest, answers []peerAnswer) {
	id := storage.TxnID{Start: 300, Gateway: 1<<48 | 7, Seq: 5}
	at := time.Unix(1700000000, 123456789).UTC()
	lock := LockInfo{Shard: 3, Transaction: id, Connection: 9, Mode: "X", Lo: []byte("lo"), Hi: []byte{}, Granted: true, Voted: true,
		Waited: time.Second, Weight: 4, WaitsFor: []storage.TxnID{{Start: 1, Gateway: 2, Seq: 3}}, Statement: "UPDATE t"}
	for kind := askProcesses; kind <= askPoke; kind++ {
		requests = append(requests, peerRequest{kind: kind})
	}
	requests[askKill-1].kill = killRequest{connection: 1<<24 + 1, queryOnly: true, anybody: true, user: "root"}
	claimed := claimRequest{id: 1 << 60, version: 2, requests: []catalog.Request{{Name: "d/t", Mode: catalog.Exclusive}, {Name: "d", Mode: catalog.SharedRead}},
		wait: time.Second, renewal: true}
	requests[askClaim-1].claim, requests[askUnclaim-1].claim = claimed, claimRequest{id: 7}
	point := lock
	point.Hi = nil
	answers = []peerAnswer{
		{kind: askProcesses, sessions: []nodeSession{{id: 1, user: "root", host: "h:1", database: "d", command: "Query", seconds: 4,
			state: "running", info: "SELECT 1"}}},
		{kind: askKill, killed: killDenied},
		{kind: askTransactions, transactions: []txn.Info{{ID: id, Label: "l", Connection: 9, Isolation: txn.Serializable, ReadOnly: true,
			State: txn.StateReading, Begun: at, Writes: 1, Bytes: 2, Locks: 3, Statement: "UPDATE t"}}},
		{kind: askShards, problem: "no quorum", shards: []ShardInfo{{Shard: 1, Owner: 2, Epoch: 3, State: "serving", Bytes: 4, Share: 0.5, Applied: 6}}},
		{kind: askDeadlocks, deadlocks: []DeadlockInfo{{Number: 1, Time: at, Victim: id, Members: []LockInfo{lock, point}}}},
		{kind: askMetrics, metrics: []MetricInfo{{Name: "n", Value: 1.5, Help: "h"}}},
		{kind: askReplicas, replicas: []ReplicaInfo{{Shard: 1, Node: 2, Replica: 3, Role: "voter", Applied: 4}}},
		{kind: askChecksums, checksums: []ChecksumInfo{{Shard: 1, Node: 2, Replica: 3, Applied: 4, Checksum: 1 << 63}}},
		{kind: askClaim, claimed: claimWaits},
		{kind: askUnclaim},
		{kind: askClaims, claims: []claimRequest{claimed}},
		{kind: askPoke},
	}
	answers[2].transactions[0].Shards = append(answers[2].transactions[0].Shards, 0, 5)
	return requests, answers
}

// The bytes are the same for ever, and read back as what was written.
func TestPeerMessages(t *testing.T) {
	var golden strings.Builder
	requests, answers := peerMessages()
	for _, q := range requests {
		b := q.encode()
		fmt.Fprintf(&golden, "request %d %s\n", q.kind, hex.EncodeToString(b))
		got, err := decodePeerRequest(b)
		require.NoError(t, err)
		require.Equal(t, q, *got)
	}
	for _, a := range answers {
		b := a.encode()
		fmt.Fprintf(&golden, "answer %d %s\n", a.kind, hex.EncodeToString(b))
		got, err := decodePeerAnswer(b)
		require.NoError(t, err)
		require.Equal(t, a, *got)
		for cut := range b {
			_, err := decodePeerAnswer(b[:cut])
			require.ErrorIs(t, err, errPeerFormat, "cut at %d", cut)
		}
	}
	const file = "testdata/peer_messages"
	if *updatePeers {
		require.NoError(t, os.WriteFile(file, []byte(golden.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), golden.String())
}

func FuzzPeerRequest(f *testing.F) {
	requests, _ := peerMessages()
	for _, q := range requests {
		f.Add(q.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := decodePeerRequest(b); err == nil {
			again, err := decodePeerRequest(q.encode())
			require.NoError(t, err)
			require.Equal(t, q, again)
		}
	})
}

func FuzzPeerAnswer(f *testing.F) {
	_, answers := peerMessages()
	for _, a := range answers {
		f.Add(a.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodePeerAnswer(b); err == nil {
			again, err := decodePeerAnswer(a.encode())
			require.NoError(t, err)
			require.True(t, bytes.Equal(a.encode(), again.encode()))
		}
	})
}
