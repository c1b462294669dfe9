package shard

import (
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// leaseTTL is how long a gateway may stay silent before its locks that have not
// voted are dropped. Gateways renew every second.
const leaseTTL = 5 * time.Second

// forgetAfter is how long a gateway has been silent when it is forgotten, if nothing
// of its own is left.
const forgetAfter = time.Minute

// lapseCheck is the pace at which owners look for lapsed leases.
const lapseCheck = 250 * time.Millisecond

// holder is a transaction with locks on this shard.
type holder struct {
	// points and ranges count grants, repeats included.
	points, ranges int
	// seen is the largest commit timestamp among the versions that the
	// transaction's locking requests met here (H6).
	seen storage.Timestamp
	// unread bounds the versions of the keys that it has locked here and not looked
	// at. They may be much older.
	unread storage.Timestamp
	// durable is what is written down of its locks (H3).
	durable durability
}

// writesAll reports that writes are of all keys that the transaction has locked here.
// Each of them is locked, so that there are at least as many grants. When in doubt it
// says no.
func (h *holder) writesAll(writes []Write) bool {
	return h.ranges == 0 && h.points == len(writes) || mutated("0094.unwritten-unmet")
}

// gateway is what an owner knows about one gateway: its lease, and what its last
// renewal said.
type gateway struct {
	renewed    time.Time
	heard      time.Time // as renewed, but a lapse does not move it
	generation uint64    // rises whenever its unvoted locks are dropped (H2)
	cut        uint64
	open       map[uint64]struct{} // sequence numbers <= cut of open transactions
	oldest     storage.Timestamp
	reported   bool // oldest is stated
	dead       bool // found to be an earlier life of this node
	said       bool // its silence was reported
}

// over reports whether the gateway said that the transaction has ended (H16).
func (g *gateway) over(id storage.TxnID) bool {
	if id.Seq > g.cut || mutated("H16.ended-transaction") {
		return false
	}
	_, open := g.open[id.Seq]
	return !open
}

// holders is the owner's memory of transactions without a vote and of their
// gateways. It is plain data; Replica.mu protects it.
type holders struct {
	txns     map[storage.TxnID]*holder
	gateways map[uint64]*gateway
	// forgotten is at least the generation of every gateway that was forgotten: should
	// one of them come back, its old tokens are void (H2).
	forgotten uint64
}

func newHolders() holders {
	return holders{txns: make(map[storage.TxnID]*holder), gateways: make(map[uint64]*gateway)}
}

// gateway returns the entry of a gateway; the first request counts as a renewal.
func (h *holders) gateway(id uint64, now func() time.Time) *gateway {
	g := h.gateways[id]
	if g == nil {
		at := now()
		g = &gateway{renewed: at, heard: at, generation: h.forgotten + 1}
		h.gateways[id] = g
	}
	return g
}

// renew takes a renewal in. Renewals that arrive late and out of order say
// nothing new about who has ended: the largest cut counts.
func (h *holders) renew(q *RenewRequest, now func() time.Time) {
	g := h.gateway(q.Gateway, now)
	g.renewed = now()
	g.heard, g.said = g.renewed, false
	if q.Oldest != 0 {
		g.oldest, g.reported = q.Oldest, true
	}
	if q.Cut < g.cut || q.Cut == 0 {
		return
	}
	g.cut, g.open = q.Cut, make(map[uint64]struct{}, len(q.Open))
	for _, id := range q.Open {
		g.open[id.Seq] = struct{}{}
	}
}

// lapsed removes the leases that ran out and returns their gateways with the
// generation raised. keep is this process's own gateway, whose lease is its
// life; earlier lives of the same node, whose durable locks may be here, are
// over without a wait (Node.Gateway: a node's numbers ascend).
func (h *holders) lapsed(now time.Time, keep uint64) []uint64 {
	var ids []uint64
	for id, g := range h.gateways {
		ended := id>>48 == keep>>48 && id < keep && !g.dead
		if id != keep && (ended || now.Sub(g.renewed) > leaseTTL) {
			ids = append(ids, id)
			g.dead = g.dead || ended
			if !mutated("H2.lapse-unnoticed") {
				g.generation++
			}
			g.reported = false
			g.renewed = now // the next drop is a lease away
		}
	}
	return ids
}

// forgetLocked removes the gateways that have been silent for long and have nothing here,
// so that neither the dead nor their numbers pile up.
//
// locking are gateways with advisory locks: whoever expires those counts their silence.
func (t *tenure) forgetLocked(lapsed, locking []uint64, now time.Time) {
	h := &t.mu.holders
	for _, id := range lapsed {
		if g := h.gateways[id]; now.Sub(g.heard) > forgetAfter && !t.holdsLocked(id) &&
			(!slices.Contains(locking, id) || mutated("H16.advisory-forgotten")) {
			if !mutated("H2.forgotten-generation") {
				h.forgotten = max(h.forgotten, g.generation)
			}
			delete(h.gateways, id)
		}
	}
}

// holdsLocked reports whether a transaction of the gateway is known here.
func (t *tenure) holdsLocked(gateway uint64) bool {
	for id := range t.mu.txns {
		if id.Gateway == gateway {
			return true
		}
	}
	for id := range t.mu.proposals {
		if id.Gateway == gateway {
			return true
		}
	}
	for id := range t.mu.voted {
		if id.Gateway == gateway {
			return true
		}
	}
	return false
}

// oldest returns the smallest timestamp that a gateway has reported in use.
func (h *holders) oldest() storage.Timestamp {
	t := storage.MaxTimestamp
	for _, g := range h.gateways {
		if g.reported {
			t = min(t, g.oldest)
		}
	}
	return t
}
