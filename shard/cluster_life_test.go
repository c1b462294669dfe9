package shard

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// pictured is a transport to nodes that all have the same picture of the cluster.
type pictured struct{ state *ClusterState }

func (p pictured) Call(context.Context, NodeAddr, []byte) ([]byte, error) {
	return p.state.AppendBinary([]byte{formatVersion, statusOK}), nil
}

// Which picture of another node says that this directory is an older copy.
func TestCheckLife(t *testing.T) {
	for _, c := range []struct {
		name        string
		incarnation uint64 // of this node, in the other's picture
		life        uint64
		refused     bool
	}{
		{"the latest opening", 5, 50, false},
		{"an opening that got no answer", 6, 51, false},
		{"a picture from before", 4, 40, false},
		{"an opening by another directory", 6, 66, true},
		{"never opened", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			members := func(incarnation, life uint64) []Member {
				return []Member{{ID: 1}, {ID: 2, Incarnation: incarnation, Life: life}}
			}
			n := &Node{c: Config{NodeID: 2}}
			n.router = &Router{self: "2", directory: NewDirectory(), transport: pictured{&ClusterState{Members: members(c.incarnation, c.life)}}}
			n.state.Store(&ClusterState{Members: members(5, 50)})
			n.memory.lives = []uint64{50, 51, 52}
			require.Equal(t, c.refused, CodeOf(n.checkLife(t.Context())) == Refused)
		})
	}
}

// Openings that come to nothing, while a majority is down, do not make the node forget
// the one that the registry knows.
func TestLivesOfFailedOpenings(t *testing.T) {
	lives := []uint64{7}
	for i := range uint64(3 * maxLives) {
		lives = append(rememberedLives(lives), 1000+i)
	}
	require.EqualValues(t, 7, lives[0])
	require.LessOrEqual(t, len(lives), maxLives)
	require.EqualValues(t, 1000+3*maxLives-1, lives[len(lives)-1])
	require.EqualValues(t, 1000+3*maxLives-2, lives[len(lives)-2])
}

// What was computed from the records of one epoch is not stored in a later one.
func TestRecordOfAnEarlierEpoch(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	before := a.serving.Load().epoch
	require.NoError(t, a.replaceRecord(g.ctx(), before, "r", []byte("1")))
	require.NoError(t, a.BecomeOwner(g.ctx()))
	_, err := a.PutRecord(g.ctx(), "r", []byte("2"), false)
	require.NoError(t, err)
	require.Equal(t, NotOwner, CodeOf(a.replaceRecord(g.ctx(), before, "r", []byte("3"))))
	b, _, err := a.c.Machine.Record("r")
	require.NoError(t, err)
	require.Equal(t, "2", string(b))
}

// speechless is a group that cannot tell its members.
type speechless struct{ paxos.Group }

func (speechless) Membership(ctx context.Context) (paxos.Membership, error) {
	<-ctx.Done()
	return paxos.Membership{}, ctx.Err()
}

// A shard without a majority does not silence its node.
func TestReportWithoutMajority(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	a.c.Group = speechless{a.c.Group}
	n := &Node{c: Config{NodeID: 1}}
	n.local.add(a)
	q := n.promptReport(g.ctx())
	require.True(t, q.Replicas[0].Serving)
	require.Empty(t, q.Replicas[0].Voters)
}

// warnings counts what a logger is told.
type warnings struct {
	slog.Handler
	n *int
}

func (w warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		*w.n++
	}
	return nil
}

// A dead gateway is spoken of once, and forgotten when nothing of it is left; should it
// come back, its tokens are void, here and at an owner that took the shard over.
func TestSilentGatewayIsForgotten(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	said, now := 0, time.Now()
	a.c.Logger, a.c.Clock = slog.New(warnings{n: &said}), func() time.Time { return now }
	id := storage.TxnID{Start: g.now(), Gateway: 77, Seq: 1}
	lock := func(id storage.TxnID) LockToken {
		granted, err := a.Lock(g.ctx(), &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("k")}})
		require.NoError(t, err)
		return granted.Token
	}
	token := lock(id)
	for range 20 {
		now = now.Add(leaseTTL + 1)
		a.DropLapsed(9)
	}
	require.Equal(t, 1, said)
	require.NotContains(t, a.serving.Load().mu.gateways, uint64(77))
	void := func() {
		again := storage.TxnID{Start: g.now(), Gateway: 77, Seq: 2}
		require.NotEqual(t, token, lock(again))
		require.NoError(t, a.Release(&ReleaseRequest{Txn: again}))
		_, err := a.Lock(g.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Keys: []storage.Key{storage.Key("k")}})
		require.Equal(t, LockLost, CodeOf(err))
	}
	void()
	for range 20 {
		now = now.Add(leaseTTL + 1)
		a.DropLapsed(9)
	}
	require.NotContains(t, a.serving.Load().mu.gateways, uint64(77))
	g.learn(a, 2)
	require.NoError(t, a.PrepareForVoters(g.ctx()))
	require.Equal(t, token.Epoch, a.serving.Load().tokenEpoch)
	void()
}
