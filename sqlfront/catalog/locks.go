package catalog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrLockTimeout is returned when a metadata lock was not granted in time.
var ErrLockTimeout = errors.New("catalog: metadata lock wait timeout")

// Mode is how a name is locked.
type Mode uint8

const (
	// SharedRead keeps the definition in force.
	SharedRead Mode = iota + 1
	// SharedWrite is SharedRead of a transaction that changes or locks rows.
	SharedWrite
	// ReadOnly keeps those who write away: LOCK TABLES ... READ.
	ReadOnly
	// Exclusive keeps everybody away: a schema change, LOCK TABLES ... WRITE.
	Exclusive
)

// beside tells whether two holders may have a name in these modes.
func (m Mode) beside(o Mode) bool {
	if m == Exclusive || o == Exclusive {
		return false
	}
	return m == SharedRead || o == SharedRead || m == o
}

// covers tells whether m permits what o does.
func (m Mode) covers(o Mode) bool { return m == o || m == Exclusive || o == SharedRead && m != 0 }

// Locks are the metadata locks of one process (MySQL manual, 10.11.4). A name
// is held shared by every transaction that has used the object, until the
// transaction ends, and exclusively by a statement that changes it; LOCK TABLES
// holds names beyond transactions. A waiting exclusive request goes before later
// shared ones, so that it is not starved, and a waiting ReadOnly one before later
// ones to write.
//
// Names are paths: the schema's, or schema/table.
type Locks struct {
	mu struct {
		sync.Mutex
		names map[string]*lockName
		spare []*lockName // empty ones, for the next names
		grant uint64      // the latest
	}
}

// spareNames bounds the empty entries that are kept.
const spareNames = 64

type lockName struct {
	holders map[*Holder]grant
	modes   [Exclusive + 1]int // how many hold the name in each mode
	waiting [waits]int
	changed chan struct{} // closed when a waiter should look again; nil: nobody waits
}

// set notes that h has the name.
func (n *lockName) set(h *Holder, g grant) {
	if had, ok := n.holders[h]; ok {
		n.modes[had.Mode]--
	}
	n.holders[h] = g
	n.modes[g.Mode]++
}

// drop notes that h has the name no more.
func (n *lockName) drop(h *Holder) {
	if had, ok := n.holders[h]; ok {
		n.modes[had.Mode]--
		delete(n.holders, h)
	}
}

// change is closed when who waits for the name should look again.
func (n *lockName) change() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// grant is how and since when a holder has a name. Numbers ascend, so that a
// holder that gave the name up and took it again is known from one that did not.
type grant struct {
	Mode
	number uint64
}

// Requests that stand in the way of later ones while they wait.
const (
	waitExclusive = iota // a schema change
	waitWrite            // LOCK TABLES ... WRITE
	waitRead             // LOCK TABLES ... READ
	waits
)

// Holder is a transaction, or the LOCK TABLES of a session, that holds metadata
// locks. Its methods and those of Locks on it are for one goroutine at a time.
// The zero value is ready.
type Holder struct {
	held   map[string]Mode
	beyond *Holder
	origin uint64
}

// Within says that h is a transaction of the session whose LOCK TABLES is beyond.
func (h *Holder) Within(beyond *Holder) { h.beyond = beyond }

// From says that h stands for a session of another node. Two that stand for the
// same node are not in each other's way: that node has its own locks, and judges.
func (h *Holder) From(node uint64) { h.origin = node }

// together tells whether two holders stand for one and the same node.
func (h *Holder) together(o *Holder) bool { return h == o || h.origin != 0 && h.origin == o.origin }

// within tells whether LOCK TABLES is in force for a transaction.
func (h *Holder) within() bool { return h.beyond != nil && len(h.beyond.held) > 0 }

// Holds tells whether the holder has the name in a mode that covers mode.
func (h *Holder) Holds(name string, mode Mode) bool { return h.held[name].covers(mode) }

// aside tells whether h holds anything but the name and what it lies in.
func (h *Holder) aside(name string) bool {
	for held := range h.held {
		if held != name && !strings.HasPrefix(name, held+"/") {
			return true
		}
	}
	return false
}

// Request is a name and the mode to lock it in.
type Request struct {
	Name string
	Mode Mode
}

// NewLocks returns a table without locks.
func NewLocks() *Locks {
	l := &Locks{}
	l.mu.names = map[string]*lockName{}
	return l
}

// Acquire takes a name for h, waiting up to timeout. An exclusive request of a
// holder that has the name shared gives the shared lock up first: two such
// requests would otherwise wait for each other. The caller looks at the object
// again after an exclusive grant.
func (l *Locks) Acquire(ctx context.Context, h *Holder, name string, mode Mode, timeout time.Duration) error {
	if h.Holds(name, mode) {
		return nil
	}
	if mode == Exclusive {
		l.release(h, name)
	}
	return l.wait(ctx, &waiter{holder: h, requests: []Request{{name, mode}}}, timeout)
}

// AcquireAll takes all names for h at once, for LOCK TABLES. It holds none of
// them while it waits for the others, so it cannot be part of a circle.
func (l *Locks) AcquireAll(ctx context.Context, h *Holder, requests []Request, timeout time.Duration) error {
	return l.wait(ctx, &waiter{holder: h, requests: requests, tables: true}, timeout)
}

// waiter is an Acquire that goes on.
type waiter struct {
	holder     *Holder
	requests   []Request
	tables     bool // LOCK TABLES
	registered bool
}

func (l *Locks) wait(ctx context.Context, w *waiter, timeout time.Duration) error {
	changed := l.try(w)
	if changed == nil {
		return nil
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for ; changed != nil; changed = l.try(w) {
		select {
		case <-changed:
		case <-ctx.Done():
			l.giveUp(w)
			return ctx.Err()
		case <-timer.C:
			l.giveUp(w)
			return ErrLockTimeout
		}
	}
	return nil
}

// try grants all requests and returns nil, or returns what to wait for.
func (l *Locks) try(w *waiter) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	blocked := ""
	for _, r := range w.requests {
		if !l.nameLocked(r.Name).free(w, r) {
			blocked = r.Name
			break
		}
	}
	if blocked != "" {
		if !w.registered {
			w.registered = true
			l.registerLocked(w, 1)
		}
		return l.mu.names[blocked].change()
	}
	if w.registered {
		l.registerLocked(w, -1)
	}
	if w.holder.held == nil {
		w.holder.held = map[string]Mode{}
	}
	for _, r := range w.requests {
		n := l.nameLocked(r.Name)
		if _, had := n.holders[w.holder]; !had {
			l.mu.grant++
		}
		number := l.mu.grant
		if had, ok := n.holders[w.holder]; ok {
			number = had.number // it has been there since
		}
		n.set(w.holder, grant{r.Mode, number})
		w.holder.held[r.Name] = r.Mode
	}
	return nil
}

// Outlive waits until everybody who has the name now has given it up at least
// once. Who takes it later is not waited for.
func (l *Locks) Outlive(ctx context.Context, name string) error {
	l.mu.Lock()
	latest := l.mu.grant
	l.mu.Unlock()
	for {
		changed := l.heldSince(name, latest)
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heldSince is nil if nobody has the name by a grant up to number, or else what
// to wait for.
func (l *Locks) heldSince(name string, number uint64) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	if n == nil {
		return nil
	}
	for _, g := range n.holders {
		if g.number <= number {
			return n.change()
		}
	}
	return nil
}

func (l *Locks) nameLocked(name string) *lockName {
	n := l.mu.names[name]
	if n != nil {
		return n
	}
	if last := len(l.mu.spare) - 1; last >= 0 {
		n, l.mu.spare = l.mu.spare[last], l.mu.spare[:last]
	} else {
		n = &lockName{holders: map[*Holder]grant{}}
	}
	l.mu.names[name] = n
	return n
}

// free tells whether the request can be granted now.
func (n *lockName) free(w *waiter, r Request) bool {
	if n.contested(r.Mode) {
		for h, g := range n.holders {
			if !g.beside(r.Mode) && !h.together(w.holder) {
				return false
			}
		}
	}
	return r.Mode == Exclusive || !n.behind(w.holder, r)
}

// contested tells whether anybody has the name in a mode that mode does not go beside.
// Nearly always nobody does, however many statements use a table at one time.
func (n *lockName) contested(mode Mode) bool {
	for m := SharedRead; m <= Exclusive; m++ {
		if n.modes[m] > 0 && !m.beside(mode) {
			return true
		}
	}
	return false
}

// behind tells whether the request stands behind one that waits. A schema change
// waits for whoever has the name at all, so who has it does not wait for the
// schema change. LOCK TABLES may wait for what h has elsewhere, so only who has
// nothing elsewhere waits for it; and it waits on many names, so who has this one
// does not wait for it, except a writer to be for a reader, who lets him have it.
// Where LOCK TABLES is in force, anybody who waits may be waiting for its end.
func (n *lockName) behind(h *Holder, r Request) bool {
	if h.within() {
		return false
	}
	reader := n.waiting[waitRead] > 0 && r.Mode == SharedWrite
	if _, has := n.holders[h]; has {
		return reader && n.waiting[waitExclusive]+n.waiting[waitWrite] == 0 && !h.aside(r.Name)
	}
	return n.waiting[waitExclusive] > 0 || (reader || n.waiting[waitWrite] > 0) && !h.aside(r.Name)
}

// registerLocked puts w among those who wait, or takes it away (by -1), and lets
// the others look again: the rules of behind look at who waits.
func (l *Locks) registerLocked(w *waiter, by int) {
	for _, r := range w.requests {
		n := l.nameLocked(r.Name)
		switch {
		case r.Mode == Exclusive && !w.tables:
			n.waiting[waitExclusive] += by
		case r.Mode == Exclusive:
			n.waiting[waitWrite] += by
		case r.Mode == ReadOnly:
			n.waiting[waitRead] += by
		default:
			continue // stands in nobody's way
		}
		n.wake()
	}
}

// giveUp ends a wait; requests that stood behind it look again.
func (l *Locks) giveUp(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.registerLocked(w, -1)
	for _, r := range w.requests {
		l.forgetLocked(r.Name)
	}
}

func (l *Locks) release(h *Holder, name string) {
	if _, ok := h.held[name]; !ok {
		return
	}
	delete(h.held, name)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	n.drop(h)
	n.wake()
	l.forgetLocked(name)
}

// Release gives one name up.
func (l *Locks) Release(h *Holder, name string) { l.release(h, name) }

// Pass gives what from holds of a name to another holder.
func (l *Locks) Pass(from, to *Holder, name string) {
	mode, ok := from.held[name]
	if !ok || to.held[name] != 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	n.set(to, grant{mode, n.holders[from].number})
	n.drop(from)
	delete(from.held, name)
	if to.held == nil {
		to.held = map[string]Mode{}
	}
	to.held[name] = mode
}

// wake lets every waiter of the name look again.
func (n *lockName) wake() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// forgetLocked drops a name that nobody holds or stands in the way of. Who waits
// for it all the same, if that is possible, has been woken.
func (l *Locks) forgetLocked(name string) {
	n := l.mu.names[name]
	if n != nil && len(n.holders) == 0 && n.waiting == [waits]int{} {
		delete(l.mu.names, name)
		n.wake()
		if len(l.mu.spare) < spareNames {
			l.mu.spare = append(l.mu.spare, n)
		}
	}
}

// ReleaseAll gives up everything that h holds.
func (l *Locks) ReleaseAll(h *Holder) {
	for name := range h.held {
		l.release(h, name)
	}
}

// Keep gives up what h holds and is not among the requests.
func (l *Locks) Keep(h *Holder, requests []Request) {
	keep := map[string]bool{}
	for _, r := range requests {
		keep[r.Name] = true
	}
	for name := range h.held {
		if !keep[name] {
			l.release(h, name)
		}
	}
}

// Missing lists the requests that h does not hold.
func (h *Holder) Missing(requests []Request) (missing []Request) {
	for _, r := range requests {
		if !h.Holds(r.Name, r.Mode) {
			missing = append(missing, r)
		}
	}
	return missing
}

// Held lists what h holds, by name.
func (h *Holder) Held() (held []Request) {
	for name, mode := range h.held {
		held = append(held, Request{Name: name, Mode: mode})
	}
	slices.SortFunc(held, func(a, b Request) int { return strings.Compare(a.Name, b.Name) })
	return held
}
