//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/sqlfront"
)

// sources feed the views of the rowlock database: what the layers below know,
// in the words of the layer above.
func (n *Node) sources() sqlfront.Sources {
	return sqlfront.Sources{Shards: n.shardRows, Nodes: n.nodeRows, Locks: n.lockRows, Deadlocks: n.deadlockRows, Metrics: n.metricRows,
		Moves: n.moveRows, Replicas: n.replicaRows, Checksums: n.checksumRows}
}

func (n *Node) shardRows(context.Context) ([]sqlfront.ShardInfo, error) {
	var rows []sqlfront.ShardInfo
	for _, s := range n.shards.Status() {
		state := "serving"
		if s.Owner == 0 {
			state = "without owner"
		}
		rows = append(rows, sqlfront.ShardInfo{
			Shard: uint64(s.Shard), Owner: s.Owner, Epoch: s.Epoch, State: state,
			Bytes: s.Bytes, Share: s.TokenShare, Applied: s.Applied,
		})
	}
	return rows, nil
}

func (n *Node) nodeRows(context.Context) ([]sqlfront.NodeInfo, error) {
	var rows []sqlfront.NodeInfo
	state := n.shards.State()
	for _, m := range n.shards.Members() {
		row := sqlfront.NodeInfo{Node: m.ID, Name: m.Name, Address: m.SQL, Cluster: m.Cluster, Zone: m.Zone, State: "down",
			OldestVersion: uint64(m.Versions.Oldest), NewestVersion: uint64(m.Versions.Newest)}
		if m.Up {
			row.State = "up"
		}
		if m.State != shard.MemberActive {
			row.State += ", " + m.State.String()
		}
		for _, p := range state.Shards {
			if p.Owner == m.ID {
				row.Owned++
			}
			for _, seat := range p.Voters {
				if seat.Host == m.Host {
					row.Replicas++
				}
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (n *Node) moveRows(context.Context) ([]sqlfront.MoveInfo, error) {
	var rows []sqlfront.MoveInfo
	for _, m := range n.shards.State().Moves {
		rows = append(rows, sqlfront.MoveInfo{Shard: uint64(m.Shard), From: m.From, To: m.To, Step: m.Step,
			Done: m.Done, Total: m.Total, Started: time.UnixMilli(m.Since)})
	}
	return rows, nil
}

// replicaRows are the replicas that run here.
func (n *Node) replicaRows(context.Context) ([]sqlfront.ReplicaInfo, error) {
	var rows []sqlfront.ReplicaInfo
	for _, r := range n.shards.Replicas() {
		rows = append(rows, sqlfront.ReplicaInfo{Shard: uint64(r.Shard), Node: n.ID(), Replica: uint64(r.Replica), Role: r.Role, Applied: r.Applied})
	}
	return rows, nil
}

// checksumRows reads every replica of this node from its first byte to its last.
func (n *Node) checksumRows(context.Context) ([]sqlfront.ChecksumInfo, error) {
	sums, err := n.shards.Checksums()
	var rows []sqlfront.ChecksumInfo
	for _, c := range sums {
		rows = append(rows, sqlfront.ChecksumInfo{Shard: uint64(c.Shard), Node: n.ID(), Replica: c.Replica, Applied: c.Applied, Checksum: c.Sum})
	}
	return rows, err
}

// metricRows sums the counters of the shards and lists those of the peers.
func (n *Node) metricRows(context.Context) ([]sqlfront.MetricInfo, error) {
	var sum shard.ShardStatus
	for _, s := range n.shards.Status() {
		sum.Reads += s.Reads
		sum.Proposals += s.Proposals
		sum.Commits += s.Commits
		sum.LockWaits += s.LockWaits
		sum.Bytes += s.Bytes
	}
	served, passed := n.shards.Router().NearbyReads()
	var done, left uint64
	if s := n.served.Load(); s != nil {
		done, left = s.Pushdowns()
	}
	store := n.engine.Metrics()
	preserved := 0.0
	if n.shards.State().Preserve {
		preserved = 1
	}
	return append([]sqlfront.MetricInfo{
		{Name: "shard_reads", Value: float64(sum.Reads), Help: "read requests answered by shard owners"},
		{Name: "shard_proposals", Value: float64(sum.Proposals), Help: "commands proposed to replica groups"},
		{Name: "shard_commits", Value: float64(sum.Commits), Help: "transactions committed, once for each shard"},
		{Name: "shard_lock_waits", Value: float64(sum.LockWaits), Help: "lock requests that had to wait"},
		{Name: "follower_reads", Value: float64(served), Help: "read requests for the near past answered by replicas of this node"},
		{Name: "follower_reads_passed_on", Value: float64(passed), Help: "read requests for the near past that shard owners had to answer"},
		{Name: "pushdowns", Value: float64(done), Help: "aggregates that the owners of the shards have computed for this node"},
		{Name: "pushdowns_left", Value: float64(left), Help: "aggregates that this node computed although owners were asked, or would have been"},
		{Name: "row_cache_hits", Value: float64(store.RowCacheHits), Help: "rows that were read by key without the store"},
		{Name: "row_cache_misses", Value: float64(store.RowCacheMisses), Help: "rows that were looked for in the cache of rows and not found"},
		{Name: "row_cache_bytes", Value: float64(store.RowCacheBytes), Help: "memory that the cache of rows has taken"},
		{Name: "shard_bytes", Value: float64(sum.Bytes), Help: "estimated size of all shards"},
		{Name: "cluster_version", Value: float64(n.shards.Version()), Help: "version of the cluster as this node has noted it"},
		{Name: "cluster_version_preserved", Value: preserved, Help: "1 if the cluster's version stays until rowlock.finalize_version"},
		{Name: "disk_free_bytes", Value: float64(n.reserve.free.Load()), Help: "free space on the node's disk; 0 where it is not watched"},
	}, n.peerMetrics()...), nil
}

// lockRows asks the owners of all shards at once. What one of them does not tell in
// a second is missing beside the error.
func (n *Node) lockRows(ctx context.Context) ([]sqlfront.LockInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	router := n.shards.Router()
	ids := append([]shard.ID{shard.System}, router.DataShards()...)
	held, errs := make([][]shard.LockInfo, len(ids)), make([]error, len(ids))
	var asked sync.WaitGroup
	for i, id := range ids {
		asked.Go(func() { held[i], errs[i] = router.Locks(ctx, id) })
	}
	asked.Wait()
	var rows []sqlfront.LockInfo
	for i, id := range ids {
		for _, l := range held[i] {
			rows = append(rows, lockRow(id, l))
		}
	}
	return rows, errors.Join(errs...)
}

func lockRow(id shard.ID, l shard.LockInfo) sqlfront.LockInfo {
	return sqlfront.LockInfo{
		Shard: uint64(id), Transaction: l.Txn, Connection: l.Connection, Mode: fmt.Sprint(l.Mode), Lo: l.Lo, Hi: l.Hi,
		Granted: !l.Waiting, Voted: l.Voted, Waited: l.Since, Weight: l.Weight, WaitsFor: l.BlockedBy, Statement: l.Statement,
	}
}

func (n *Node) deadlockRows(context.Context) ([]sqlfront.DeadlockInfo, error) {
	var rows []sqlfront.DeadlockInfo
	for _, d := range n.shards.Deadlocks() {
		row := sqlfront.DeadlockInfo{Number: d.Number, Time: d.Time, Victim: d.Victim}
		for _, m := range d.Members {
			row.Members = append(row.Members, lockRow(m.Shard, m))
		}
		rows = append(rows, row)
	}
	return rows, nil
}
