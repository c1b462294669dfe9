package shard

import (
	"fmt"
	"slices"

	"github.com/rowlockdb/rowlock/storage"
)

// Row locks live in the owner's memory. Two kinds of them are written down too
// (H3): locks that a transaction wants to outlive the owner, and the whole table
// when an owner hands the shard over as planned. The first end only with the
// transaction's vote register; the second are good for one successor in the one
// epoch that follows, and every other change of the epoch deletes them.

// metaFlush names the record of the last flush of the lock table.
const metaFlush = "flush"

// flushHeader says what a complete flush contains beside the locks. Without it
// the records of a flush mean nothing.
type flushHeader struct {
	Flush uint64 // names the flush
	Heir  uint64 // the epoch that may inherit it
	// TokenEpoch is the epoch in the tokens of the old owner's grants, which its
	// successor goes on giving out; Gateways are the drop generations beside it.
	TokenEpoch uint64
	Gateways   []handedGateway
}

// handedGateway is the drop generation of one gateway (H2); that of gateway 0, which
// does not exist, is holders.forgotten.
type handedGateway struct{ Gateway, Generation uint64 }

// handedLocks is a part of one transaction's locks in a FlushLocks command.
type handedLocks struct {
	Txn    storage.TxnID
	Number uint64
	Locks  []byte // lock refs
}

func (h *flushHeader) appendFields(b []byte) []byte {
	b = appendUint(appendUint(appendUint(b, h.Flush), h.Heir), h.TokenEpoch)
	return appendGateways(b, h.Gateways)
}

func (d *decoder) flushHeader() flushHeader {
	return flushHeader{Flush: d.uint(), Heir: d.uint(), TokenEpoch: d.uint(), Gateways: d.gateways()}
}

func appendGateways(b []byte, gateways []handedGateway) []byte {
	b = appendUint(b, uint64(len(gateways)))
	for _, g := range gateways {
		b = appendUint(appendUint(b, g.Gateway), g.Generation)
	}
	return b
}

func (d *decoder) gateways() []handedGateway {
	return list(d, func(d *decoder) handedGateway { return handedGateway{d.uint(), d.uint()} })
}

func appendHanded(b []byte, handed []handedLocks) []byte {
	b = appendUint(b, uint64(len(handed)))
	for _, h := range handed {
		b = appendBytes(appendUint(appendTxn(b, h.Txn), h.Number), h.Locks)
	}
	return b
}

func (d *decoder) handed() []handedLocks {
	return list(d, func(d *decoder) handedLocks {
		return handedLocks{Txn: d.txn(), Number: d.uint(), Locks: d.bytes()}
	})
}

// storedLocks is what the machine remembers of a lock record: enough to delete it.
type storedLocks struct {
	id          storage.LockID
	flush, heir uint64
}

// loadLocks reads which lock records there are.
func (m *Machine) loadLocks(snap *storage.Snapshot) error {
	m.locks = make(map[storage.TxnID][]storedLocks)
	err := snap.Locks(func(id storage.LockID, r storage.LockRecord) error {
		m.locks[id.Txn] = append(m.locks[id.Txn], storedLocks{id: id, flush: r.Flush, heir: r.Heir})
		return nil
	})
	if err != nil {
		return err
	}
	m.flushed.Store(nil)
	b, ok, err := snap.Meta(metaFlush)
	if err != nil || !ok {
		return err
	}
	d := newDecoder(b)
	h := d.flushHeader()
	if err := d.done(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	m.flushed.Store(&h)
	return nil
}

// over reports that nothing may be written down for a transaction any more, and
// what to answer then.
func (m *Machine) over(id storage.TxnID) (Result, bool, error) {
	v, voted, err := m.lookup(id)
	switch {
	case err != nil:
		return Result{}, false, err
	case voted:
		return voteResult(v), true, nil
	case uint64(id.Start) < m.fence.Load():
		return Result{Verdict: VerdictFenced}, true, nil
	}
	return Result{}, false, nil
}

// putLocks writes locks down that outlive the owner. A command that comes late,
// after the transaction has voted or can never vote, must not bring its locks
// back.
func (m *Machine) putLocks(c *Command) (Result, error) {
	result, over, err := m.over(c.Txn)
	if err != nil {
		return Result{}, err
	}
	if over && !mutated("H3.put-after-vote") {
		return result, nil
	}
	id := storage.LockID{Source: storage.LocksDurable, Txn: c.Txn, Number: 1}
	for _, s := range m.locks[c.Txn] {
		if s.id.Source == id.Source {
			id.Number = max(id.Number, s.id.Number+1)
		}
	}
	m.store(storedLocks{id: id}, storage.LockRecord{Epoch: c.Token.Epoch, Generation: c.Token.Generation, Locks: c.Locks})
	return Result{Verdict: VerdictDone}, nil
}

func (m *Machine) store(s storedLocks, r storage.LockRecord) {
	m.begin().PutLocks(s.id, r)
	old := m.locks[s.id.Txn]
	if i := slices.IndexFunc(old, func(o storedLocks) bool { return o.id == s.id }); i >= 0 {
		old[i] = s
		return
	}
	m.locks[s.id.Txn] = append(old, s)
}

// flushLocks writes a part of the owner's lock table down for its successor. The
// last part makes the flush complete.
func (m *Machine) flushLocks(c *Command) (Result, error) {
	heir := c.Epoch + 1
	for _, h := range c.Handed {
		_, over, err := m.over(h.Txn)
		if err != nil {
			return Result{}, err
		}
		if over {
			continue // its vote says what it holds
		}
		s := storedLocks{id: storage.LockID{Source: storage.LocksHandedOver, Txn: h.Txn, Number: h.Number}, flush: c.Flush, heir: heir}
		m.store(s, storage.LockRecord{Epoch: c.TokenEpoch, Flush: c.Flush, Heir: heir, Locks: h.Locks})
	}
	if c.Last {
		h := &flushHeader{Flush: c.Flush, Heir: heir, TokenEpoch: c.TokenEpoch, Gateways: c.Gateways}
		m.begin().PutMeta(metaFlush, h.appendFields([]byte{formatVersion}))
		m.flushed.Store(h)
	}
	return Result{Verdict: VerdictDone}, nil
}

// inherit keeps, at the begin of an epoch, the locks handed over that this very
// epoch inherits by name, and deletes all others.
func (m *Machine) inherit(epoch, flush uint64) (heir bool) {
	h := m.flushed.Load()
	heir = flush != 0 && h != nil && h.Flush == flush && h.Heir == epoch
	if mutated("H3.any-epoch-inherits") {
		heir = h != nil
	}
	if h != nil && !heir {
		m.begin().DeleteMeta(metaFlush)
		m.flushed.Store(nil)
	}
	for id, stored := range m.locks {
		m.deleteLocks(id, stored, func(s storedLocks) bool {
			return s.id.Source == storage.LocksHandedOver && !(heir && s.flush == h.Flush && s.heir == h.Heir)
		})
	}
	return heir
}

// dropLocks deletes every lock record of a transaction whose register now says
// COMMITTED or ABORTED, or that can never have one: in the same apply, hence
// before anybody is granted its keys.
func (m *Machine) dropLocks(id storage.TxnID) {
	if stored := m.locks[id]; stored != nil && !mutated("H3.outcome-keeps-locks") {
		m.deleteLocks(id, stored, func(storedLocks) bool { return true })
	}
}

func (m *Machine) deleteLocks(id storage.TxnID, stored []storedLocks, match func(storedLocks) bool) {
	left := stored[:0]
	for _, s := range stored {
		if match(s) {
			m.begin().DeleteLocks(s.id)
		} else {
			left = append(left, s)
		}
	}
	if len(left) == 0 {
		delete(m.locks, id)
	} else {
		m.locks[id] = left
	}
}

// keptLocks is what lock records say about one transaction.
type keptLocks struct {
	txn     storage.TxnID
	durable bool
	token   LockToken // of a durable grant
	locks   []LockRef
	kept    []LockRef // those of locks that are durable
}

// lockRecords reads what was written down, transaction by transaction.
func (m *Machine) lockRecords() ([]*keptLocks, error) {
	snap := m.space.Snapshot()
	defer snap.Close()
	byTxn := make(map[storage.TxnID]*keptLocks)
	var all []*keptLocks
	err := snap.Locks(func(id storage.LockID, r storage.LockRecord) error {
		k := byTxn[id.Txn]
		if k == nil {
			k = &keptLocks{txn: id.Txn}
			byTxn[id.Txn], all = k, append(all, k)
		}
		refs, err := decodeLockSet(r.Locks)
		if err != nil {
			return fmt.Errorf("locks of transaction %s: %w", id.Txn, err)
		}
		k.locks = append(k.locks, refs...)
		if id.Source == storage.LocksDurable {
			k.durable, k.token = true, LockToken{Epoch: r.Epoch, Generation: r.Generation}
			k.kept = append(k.kept, refs...)
		}
		return nil
	})
	return all, err
}

// decodeLockSet reads what encodeLockSet wrote; no locks are no bytes.
func decodeLockSet(b []byte) ([]LockRef, error) {
	if len(b) == 0 {
		return nil, nil
	}
	d := newDecoder(b)
	refs := d.lockRefs()
	return refs, d.done()
}
