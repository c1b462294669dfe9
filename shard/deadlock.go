package shard

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/storage"
)

// describe says which lock could not be had, who was in the way and, of a
// deadlock, who waited for whom.
func (g *grant) describe(e *Error, err error) {
	var failed *locks.Error
	if !errors.As(err, &failed) {
		return
	}
	e.Key = slices.Clone(failed.Span.Lo)
	if len(failed.Others) > 0 {
		e.Other = txnOf(failed.Others[0])
	}
	if failed.Deadlock == nil {
		return
	}
	members := failed.Deadlock.Members
	victim := slices.IndexFunc(members, func(m locks.WaitInfo) bool { return m.Owner == failed.Deadlock.Victim })
	if victim < 0 {
		return
	}
	// The cycle begins with the victim and ends where it closes.
	var cycle []string
	for i := range len(members) + 1 {
		cycle = append(cycle, txnOf(members[(victim+i)%len(members)].Owner).String())
	}
	e.Other = txnOf(members[(victim+1)%len(members)].Owner)
	e.Detail = strings.Join(cycle, " -> ")
}

// DeadlockInfo is a cycle of transactions that waited for each other: each member
// for the next one, the last for the first.
type DeadlockInfo struct {
	Number  uint64 // counts the deadlocks that this node has seen since it was opened
	Time    time.Time
	Victim  storage.TxnID
	Members []LockInfo // the waits
}

// Deadlocks returns the latest deadlocks with a member at this node, oldest
// first.
func (n *Node) Deadlocks() []DeadlockInfo {
	latest, _ := n.graph.Deadlocks()
	all := make([]DeadlockInfo, len(latest))
	for i, d := range latest {
		all[i] = DeadlockInfo{Number: d.Number, Time: d.Time, Victim: txnOf(d.Victim)}
		for _, w := range d.Members {
			m := waitInfo(shardOfTable(w.Table), w)
			m.Since = max(d.Time.Sub(w.Since), 0)
			all[i].Members = append(all[i].Members, m)
		}
	}
	return all
}

// tableName names the lock table of a shard; shardOfTable reads it.
func tableName(s ID) string { return tablePrefix + strconv.FormatUint(uint64(s), 10) }

const tablePrefix = "shard "

func shardOfTable(name string) ID {
	s, _ := strconv.ParseUint(strings.TrimPrefix(name, tablePrefix), 10, 64)
	return ID(s)
}

// waitInfo describes a wait; how long it has lasted is for the caller to say.
func waitInfo(s ID, w locks.WaitInfo) LockInfo {
	info := LockInfo{Shard: s, Txn: txnOf(w.Owner), Mode: w.Mode, Lo: w.Span.Lo, Hi: nilIfEmpty(w.Span.Hi),
		Waiting: true, Statement: w.Statement, Connection: w.Connection, Weight: w.Weight}
	for _, b := range w.Blockers {
		info.BlockedBy = append(info.BlockedBy, txnOf(b))
	}
	return info
}
