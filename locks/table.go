package locks

import "context"

// Table is the lock table of one shard owner. It is safe for concurrent use.
type Table struct{ name string }

// WaitGraph knows who waits for whom in all lock tables of a node.
type WaitGraph struct{}

// NewWaitGraph returns an empty graph, to be shared by all tables of a node.
func NewWaitGraph() *WaitGraph { return &WaitGraph{} }

// NewTable returns an empty table; its name appears in views.
func NewTable(name string, graph *WaitGraph) *Table { return &Table{name: name} }

// Acquire takes a mode on all spans in their order.
func (t *Table) Acquire(ctx context.Context, r Request, w Wait) (skipped []int, err error) {
	panic("not written yet")
}

// Holds reports whether o holds m or a stronger mode on all of s.
func (t *Table) Holds(o Owner, m Mode, s Span) bool { panic("not written yet") }

// Release gives up all locks and waits of o, unless o is pinned.
func (t *Table) Release(o Owner) bool { panic("not written yet") }

// ForceRelease gives up all locks and waits of o, pinned or not.
func (t *Table) ForceRelease(o Owner) { panic("not written yet") }

// ReleaseSpans gives up the locks of o on exactly these spans, unless o is pinned.
func (t *Table) ReleaseSpans(o Owner, spans []Span) { panic("not written yet") }

// Pin keeps the locks of o from being dropped; false if it holds none.
func (t *Table) Pin(o Owner) bool { panic("not written yet") }

// Unpin ends Pin.
func (t *Table) Unpin(o Owner) { panic("not written yet") }

// DropUnpinned drops locks and waits of all matching owners that are not pinned.
func (t *Table) DropUnpinned(match func(Owner) bool) []Owner { panic("not written yet") }

// Clear drops everything, pinned or not.
func (t *Table) Clear() { panic("not written yet") }

// Held returns the locks of o.
func (t *Table) Held(o Owner) []Lock { panic("not written yet") }

// All returns all locks.
func (t *Table) All() []Lock { panic("not written yet") }

// Waits returns all waits.
func (t *Table) Waits() []WaitInfo { panic("not written yet") }

// Break ends one wait with ErrDeadlock.
func (t *Table) Break(wait uint64) bool { panic("not written yet") }

// Install adds locks without waiting.
func (t *Table) Install(o Owner, locks []Lock) { panic("not written yet") }
