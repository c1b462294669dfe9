//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"fmt"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/sqlfront"
)

// sources feed the views of the rowlock database: what the layers below know,
// in the words of the layer above.
func (n *Node) sources() sqlfront.Sources {
	return sqlfront.Sources{Shards: n.shardRows, Nodes: n.nodeRows, Locks: n.lockRows, Deadlocks: n.deadlockRows, Metrics: n.metricRows, Checksums: n.checksumRows}
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

// checksumRows reads every replica of this node from its first byte to its last.
func (n *Node) checksumRows(context.Context) ([]sqlfront.ChecksumInfo, error) {
	sums, err := n.shards.Checksums()
	if err != nil {
		return nil, err
	}
	var rows []sqlfront.ChecksumInfo
	for _, s := range sums {
		rows = append(rows, sqlfront.ChecksumInfo{Shard: uint64(s.Shard), Node: n.identity.Node, Replica: s.Replica,
			Applied: s.Applied, Checksum: s.Sum})
	}
	return rows, nil
}

func (n *Node) nodeRows(context.Context) ([]sqlfront.NodeInfo, error) {
	return []sqlfront.NodeInfo{{Node: n.identity.Node, State: "up"}}, nil
}

// metricRows sums the counters of the shards.
func (n *Node) metricRows(context.Context) ([]sqlfront.MetricInfo, error) {
	var sum shard.ShardStatus
	for _, s := range n.shards.Status() {
		sum.Reads += s.Reads
		sum.Proposals += s.Proposals
		sum.Commits += s.Commits
		sum.LockWaits += s.LockWaits
		sum.Bytes += s.Bytes
	}
	return []sqlfront.MetricInfo{
		{Name: "shard_reads", Value: float64(sum.Reads), Help: "read requests answered by shard owners"},
		{Name: "shard_proposals", Value: float64(sum.Proposals), Help: "commands proposed to replica groups"},
		{Name: "shard_commits", Value: float64(sum.Commits), Help: "transactions committed, once for each shard"},
		{Name: "shard_lock_waits", Value: float64(sum.LockWaits), Help: "lock requests that had to wait"},
		{Name: "shard_bytes", Value: float64(sum.Bytes), Help: "estimated size of all shards"},
	}, nil
}

func (n *Node) lockRows(ctx context.Context) ([]sqlfront.LockInfo, error) {
	var rows []sqlfront.LockInfo
	router := n.shards.Router()
	for _, id := range append([]shard.ID{shard.System}, router.DataShards()...) {
		held, err := router.Locks(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, l := range held {
			rows = append(rows, lockRow(id, l))
		}
	}
	return rows, nil
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
