package shard

import (
	"errors"
	"slices"
	"strings"

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

// DeadlockInfo is a cycle of transactions that waited for each other.
type DeadlockInfo = locks.Deadlock

// Deadlocks returns the latest deadlocks with a member at this node, oldest
// first, and how many there were since it was opened.
func (n *Node) Deadlocks() ([]DeadlockInfo, uint64) { return n.graph.Deadlocks() }

// TxnOf is the transaction that owns a lock.
func TxnOf(o locks.Owner) storage.TxnID { return txnOf(o) }
