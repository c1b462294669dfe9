package storage

import "sync/atomic"

// following says whether commits to a space tell the cache of rows what they change.
// They do not before somebody looks for a key there: a follower applies its log and
// pays nothing. Once they do, they always do.
//
// Who wants to fill the cache looks, before it opens its iterator, whether commits tell
// and none is on its way that does not. A commit that does not tell has counted itself
// before it looked. So such a commit is either not counted any more, and visible in the
// iterator, or it is counted still, and the cache is not filled.
type following struct {
	on       atomic.Bool
	unmarked atomic.Int64 // commits under way that tell nothing
}

// follow makes commits tell from now on.
func (f *following) follow() {
	if !f.on.Load() {
		f.on.Store(true)
	}
}

// ready tells whether an iterator that is opened now may fill the cache.
func (f *following) ready() bool {
	return f.on.Load() && (f.unmarked.Load() == 0 || mutated("0084.unmarked-commits-are-passed-over"))
}

// begin tells a commit whether it has to tell what it changes. If not, end is called
// when it is visible.
func (f *following) begin() bool {
	if f.on.Load() {
		return true
	}
	f.unmarked.Add(1)
	if !f.on.Load() {
		return false
	}
	f.unmarked.Add(-1)
	return true
}

func (f *following) end() { f.unmarked.Add(-1) }
