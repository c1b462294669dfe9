package rowlock_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/sqlfront"
	"github.com/rowlockdb/rowlock/sqllogictest"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// replicatedHost makes a group of three out of every group that a node starts:
// it adds two followers with storage of their own.
type replicatedHost struct {
	paxos.Host
	t         *testing.T
	followers []follower
	started   map[paxos.GroupID][]paxos.Group // of the followers
}

type follower struct {
	host   paxos.Host
	engine *storage.Engine
}

const replicas = 3

func newReplicatedHost(t *testing.T, network *memory.Network) *replicatedHost {
	h := &replicatedHost{Host: network.Host("n1"), t: t, started: map[paxos.GroupID][]paxos.Group{}}
	for i := 2; i <= replicas; i++ {
		f := follower{host: network.Host(fmt.Sprintf("n%d", i)), engine: memoryEngine(t)}
		h.followers = append(h.followers, f)
	}
	return h
}

func memoryEngine(t *testing.T) *storage.Engine {
	engine, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	return engine
}

func (h *replicatedHost) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	members := map[paxos.ReplicaID]string{1: h.Host.ID()}
	for i, f := range h.followers {
		members[paxos.ReplicaID(i+2)] = f.host.ID()
	}
	spec.Members = members
	for i, f := range h.followers {
		id := paxos.ReplicaID(i + 2)
		machine := shard.NewMachine(f.engine.Space(uint64(spec.Group-1)), f.engine.Sync, uint64(id))
		g, err := f.host.Start(paxos.GroupSpec{Group: spec.Group, Replica: id, Members: members}, machine)
		if err != nil {
			return nil, err
		}
		h.started[spec.Group] = append(h.started[spec.Group], g)
	}
	return h.Host.Start(spec, sm)
}

// agree waits until every follower has applied what the first replica has, and
// compares the contents.
func (h *replicatedHost) agree(shards []shard.ID, engine *storage.Engine) {
	for _, s := range shards {
		want, err := engine.Space(uint64(s)).Checksum()
		require.NoError(h.t, err)
		for i, g := range h.started[paxos.GroupID(s+1)] {
			require.NoError(h.t, g.ReadBarrier(context.Background()))
			got, err := h.followers[i].engine.Space(uint64(s)).Checksum()
			require.NoError(h.t, err)
			require.Equal(h.t, want, got, "shard %d, replica %d", s, i+2)
		}
	}
}

// A sqllogictest script runs against a node whose every shard has three voters
// and whose every call, local ones too, goes through the encodings of the
// transport. Afterwards all replicas hold the same.
func TestScriptOverThreeReplicas(t *testing.T) {
	network := memory.NewNetwork(1)
	host := newReplicatedHost(t, network)
	engine := memoryEngine(t)
	ctx := context.Background()
	node, err := shard.Open(ctx, shard.Config{NodeID: 1, Engine: engine, Host: host, Shards: 4, OwnLogs: true,
		AlwaysEncode: true, GarbageInterval: -1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { node.Close(ctx) }) // before its engine, also when the test fails
	coordinator := txn.New(txn.Config{Router: node.Router(), Gateway: node.Gateway()})
	server, err := sqlfront.New(sqlfront.Config{Coordinator: coordinator})
	require.NoError(t, err)

	mysql.RegisterDialContext("replicated", func(ctx context.Context, _ string) (net.Conn, error) { return server.Dial(ctx) })
	t.Cleanup(func() { mysql.DeregisterDialContext("replicated") })
	report, err := sqllogictest.Run(ctx, []string{"testdata/replicated.slt"}, sqllogictest.Options{
		Open: func(_ context.Context, database string) (*sql.DB, error) {
			return sql.Open("mysql", fmt.Sprintf("root@replicated(node)/%s", database))
		},
		Timeout: time.Minute,
	})
	require.NoError(t, err)
	var text strings.Builder
	require.NoError(t, report.WriteText(&text, 10))
	require.Zero(t, report.Failed, text.String())
	require.Greater(t, report.Passed, 25, text.String())

	require.NoError(t, server.Close(ctx))
	require.NoError(t, coordinator.Close(ctx))
	host.agree(append([]shard.ID{shard.System}, node.Router().DataShards()...), engine)
	require.NoError(t, node.Close(ctx))
	for _, f := range host.followers {
		require.NoError(t, f.host.Close())
	}
	require.NoError(t, host.Host.Close())
}
