package shard

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rowlockdb/rowlock/storage"
)

// The records of advisory locks. Numbers in names are of fixed width.
const (
	metaAdvisoryLock    = "u/"  // + name: the holder
	metaAdvisorySession = "us/" // + gateway, number: the last sequence number
	metaAdvisoryFloor   = "uf/" // + gateway: last sequence number of sessions that are over
	metaAdvisoryLife    = "un/" // + node: the least gateway that may still take locks
)

// advisoryState is the replicated truth about advisory locks. It is kept in
// memory as well, complete: the applying goroutine writes it, others look.
type advisoryState struct {
	sync.Mutex
	locks    map[string]AdvisoryHolder
	sessions map[AdvisorySession]uint64
	floors   map[uint64]uint64
	lives    map[uint64]uint64
}

// nodeOf is the node of a gateway (see Node.Gateway).
func nodeOf(gateway uint64) uint64 { return gateway >> 48 }

func (s AdvisorySession) record() string {
	return fmt.Sprintf("%s%016x%016x", metaAdvisorySession, s.Gateway, s.Number)
}

func numberRecord(prefix string, n uint64) string { return fmt.Sprintf("%s%016x", prefix, n) }

// load reads the records back.
func (a *advisoryState) load(snap *storage.Snapshot) error {
	locks, sessions := map[string]AdvisoryHolder{}, map[AdvisorySession]uint64{}
	floors, lives := map[uint64]uint64{}, map[uint64]uint64{}
	err := snap.Metas(metaAdvisoryLock, func(name string, v []byte) error {
		d := newDecoder(v)
		locks[name[len(metaAdvisoryLock):]] = d.holder()
		return d.done()
	})
	if err != nil {
		return err
	}
	err = eachNumber(snap, metaAdvisorySession, func(name string, n uint64) error {
		var s AdvisorySession
		if _, err := fmt.Sscanf(name, "%016x%016x", &s.Gateway, &s.Number); err != nil {
			return err
		}
		sessions[s] = n
		return nil
	})
	if err != nil {
		return err
	}
	for prefix, m := range map[string]map[uint64]uint64{metaAdvisoryFloor: floors, metaAdvisoryLife: lives} {
		err := eachNumber(snap, prefix, func(name string, n uint64) error {
			var key uint64
			if _, err := fmt.Sscanf(name, "%016x", &key); err != nil {
				return err
			}
			m[key] = n
			return nil
		})
		if err != nil {
			return err
		}
	}
	a.Lock()
	defer a.Unlock()
	a.locks, a.sessions, a.floors, a.lives = locks, sessions, floors, lives
	return nil
}

// eachNumber visits the records under a prefix that hold one number.
func eachNumber(snap *storage.Snapshot, prefix string, visit func(name string, n uint64) error) error {
	return snap.Metas(prefix, func(name string, v []byte) error {
		d := newDecoder(v)
		n := d.uint()
		if err := d.done(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return visit(name[len(prefix):], n)
	})
}

// advisory applies a change of advisory locks. index is the command's place in
// the log and becomes the token of a grant.
func (m *Machine) advisory(c *AdvisoryChange, index uint64) Result {
	a := &m.advisories
	a.Lock()
	defer a.Unlock()
	b := m.begin()
	released := 0
	switch c.Op {
	case AdvisoryExpire:
		released = a.release(b, func(h AdvisoryHolder) bool { return h.Session.Gateway == c.Session.Gateway })
		a.forget(b, func(s AdvisorySession) bool { return s.Gateway == c.Session.Gateway })
	case AdvisorySucceed:
		released = a.succeed(b, c.Session.Gateway)
	default:
		if a.late(c) {
			return Result{Verdict: VerdictRefused, Value: a.holder(c.Name)}
		}
		a.sessions[c.Session] = c.Seq
		b.PutMeta(c.Session.record(), encodeNumber(c.Seq))
		released = a.change(b, c, index)
	}
	return Result{Verdict: VerdictDone, Value: a.holder(c.Name), Count: released}
}

// late tells whether a change comes after a later one of its session, after the
// session's end, or from a former life of its node (H16).
func (a *advisoryState) late(c *AdvisoryChange) bool {
	if c.Session.Gateway < a.lives[nodeOf(c.Session.Gateway)] {
		return true
	}
	if mutated("H16.advisory-sequence") {
		return false
	}
	last, known := a.sessions[c.Session]
	if !known {
		last = a.floors[c.Session.Gateway]
	}
	return c.Seq <= last
}

// change carries out a session's own step.
func (a *advisoryState) change(b *storage.Batch, c *AdvisoryChange, index uint64) (released int) {
	mine := func(h AdvisoryHolder) bool { return h.Session == c.Session }
	switch c.Op {
	case AdvisoryGet:
		if _, taken := a.locks[c.Name]; !taken {
			h := AdvisoryHolder{Session: c.Session, Connection: c.Connection, Token: index, Since: c.Since}
			a.locks[c.Name] = h
			b.PutMeta(metaAdvisoryLock+c.Name, appendHolder([]byte{formatVersion}, &h))
		}
	case AdvisoryRelease:
		if h, taken := a.locks[c.Name]; taken && mine(h) {
			released = 1
			a.drop(b, c.Name)
		}
	case AdvisoryReleaseAll:
		released = a.release(b, mine)
	case AdvisoryEnd:
		released = a.release(b, mine)
		a.forget(b, func(s AdvisorySession) bool { return s == c.Session })
	}
	return released
}

func (a *advisoryState) drop(b *storage.Batch, name string) {
	delete(a.locks, name)
	b.DeleteMeta(metaAdvisoryLock + name)
}

// release frees the locks of the holders that match.
func (a *advisoryState) release(b *storage.Batch, match func(AdvisoryHolder) bool) (released int) {
	for name, h := range a.locks {
		if match(h) {
			a.drop(b, name)
			released++
		}
	}
	return released
}

// forget removes sessions. The largest sequence number among them stays, so
// that nothing late of theirs counts as a new session's first step.
func (a *advisoryState) forget(b *storage.Batch, match func(AdvisorySession) bool) {
	for s, last := range a.sessions {
		if !match(s) {
			continue
		}
		delete(a.sessions, s)
		b.DeleteMeta(s.record())
		if last > a.floors[s.Gateway] {
			a.floors[s.Gateway] = last
			b.PutMeta(numberRecord(metaAdvisoryFloor, s.Gateway), encodeNumber(last))
		}
	}
}

// succeed ends the earlier lives of a gateway's node.
func (a *advisoryState) succeed(b *storage.Batch, gateway uint64) (released int) {
	node := nodeOf(gateway)
	if gateway <= a.lives[node] {
		return 0
	}
	former := func(g uint64) bool { return nodeOf(g) == node && g < gateway }
	released = a.release(b, func(h AdvisoryHolder) bool { return former(h.Session.Gateway) })
	a.forget(b, func(s AdvisorySession) bool { return former(s.Gateway) })
	for g := range a.floors {
		if former(g) {
			delete(a.floors, g)
			b.DeleteMeta(numberRecord(metaAdvisoryFloor, g))
		}
	}
	a.lives[node] = gateway
	b.PutMeta(numberRecord(metaAdvisoryLife, node), encodeNumber(gateway))
	return released
}

func encodeNumber(n uint64) []byte { return appendUint([]byte{formatVersion}, n) }

// holder is the encoded holder of a name; nil if nobody has it.
func (a *advisoryState) holder(name string) []byte {
	h, ok := a.locks[name]
	if !ok {
		return nil
	}
	return appendHolder([]byte{formatVersion}, &h)
}

// AdvisoryHolder returns who holds an advisory lock, as of what is applied; nil
// if nobody does.
func (m *Machine) AdvisoryHolder(name string) *AdvisoryHolder {
	m.advisories.Lock()
	defer m.advisories.Unlock()
	h, ok := m.advisories.locks[name]
	if !ok {
		return nil
	}
	return &h
}

// AdvisoryLocks returns all advisory locks by name.
func (m *Machine) AdvisoryLocks() []AdvisoryLock {
	m.advisories.Lock()
	defer m.advisories.Unlock()
	var all []AdvisoryLock
	for _, name := range slices.Sorted(maps.Keys(m.advisories.locks)) {
		all = append(all, AdvisoryLock{Name: name, Holder: m.advisories.locks[name]})
	}
	return all
}

// advisoryGateways returns the gateways whose sessions hold advisory locks.
func (m *Machine) advisoryGateways() []uint64 {
	m.advisories.Lock()
	defer m.advisories.Unlock()
	seen := map[uint64]bool{}
	for _, h := range m.advisories.locks {
		seen[h.Session.Gateway] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
