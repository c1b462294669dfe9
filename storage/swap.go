package storage

import (
	"sync"
	"sync/atomic"
)

// swap keeps readers of a space from opening in the middle of a restore. The
// store removes the old tables and adds the new ones in one edit, but the new
// ones become visible a moment later, when their sequence number is published;
// who opens an iterator in between would see an empty space.
//
// Readers pay two atomic loads: if the count changed, or was odd, while they
// opened, they open again. An even count names a life of the space: see rows.
type swap struct {
	count atomic.Uint64 // odd while a restore swaps
	rows  following
	mu    struct {
		sync.Mutex
		done chan struct{} // closed at the end of the swap under way; nil: none is
	}
}

// begin holds back readers until end.
func (w *swap) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.done = make(chan struct{})
	w.count.Add(1)
}

// end lets the readers go on.
func (w *swap) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Add(1)
	close(w.mu.done)
	w.mu.done = nil
}

// wait returns a count between two swaps.
func (w *swap) wait() uint64 {
	for {
		if n := w.count.Load(); n%2 == 0 {
			return n
		}
		w.mu.Lock()
		done := w.mu.done
		w.mu.Unlock()
		if done != nil {
			<-done
		}
	}
}

// outside calls open until it ran wholly between two swaps, whose count it returns;
// what it opened beside one is closed again.
func outside[T interface{ Close() error }](w *swap, open func() (T, error)) (T, uint64, error) {
	for {
		n := w.wait()
		v, err := open()
		if err != nil || w.count.Load() == n {
			return v, n, err
		}
		if err := v.Close(); err != nil {
			return v, n, err
		}
	}
}

// outsideAll is outside of several spaces.
func outsideAll[T interface{ Close() error }](all []*swap, open func() (T, error)) (T, error) {
	if len(all) == 0 {
		return open()
	}
	v, _, err := outside(all[0], func() (T, error) { return outsideAll(all[1:], open) })
	return v, err
}
