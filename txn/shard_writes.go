package txn

import (
	"bytes"
	"slices"

	"github.com/tidwall/btree"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// fewWrites is how many keys are kept in a list: a tree costs five allocations for the
// first of them, and most transactions write one key of a shard.
const fewWrites = 16

// shardWrites are the keys of one shard that a transaction has written, in order.
type shardWrites struct {
	shard shard.ID
	few   []*bufferedKey              // all of them, until there are more than fewWrites
	tree  *btree.BTreeG[*bufferedKey] // all of them; nil before
	probe *bufferedKey                // search argument of the tree
}

func lessKey(a, b *bufferedKey) bool { return bytes.Compare(a.key, b.key) < 0 }

func (w *shardWrites) len() int {
	if w.tree != nil {
		return w.tree.Len()
	}
	return len(w.few)
}

// find returns where k is in few, or would be.
func (w *shardWrites) find(k storage.Key) (int, bool) {
	return slices.BinarySearchFunc(w.few, k, func(e *bufferedKey, k storage.Key) int { return bytes.Compare(e.key, k) })
}

// at is k as the tree wants to be asked.
func (w *shardWrites) at(k storage.Key) *bufferedKey {
	w.probe.key = k
	return w.probe
}

func (w *shardWrites) get(k storage.Key) (*bufferedKey, bool) {
	if w.tree != nil {
		return w.tree.Get(w.at(k))
	}
	if i, ok := w.find(k); ok {
		return w.few[i], true
	}
	return nil, false
}

// add puts a key in that is not there.
func (w *shardWrites) add(e *bufferedKey) {
	if w.tree == nil && len(w.few) < fewWrites {
		i, _ := w.find(e.key)
		w.few = slices.Insert(w.few, i, e)
		return
	}
	if w.tree == nil {
		w.tree = btree.NewBTreeGOptions(lessKey, btree.Options{NoLocks: true, Degree: 16})
		w.probe = &bufferedKey{}
		for _, e := range w.few {
			w.tree.Set(e)
		}
		w.few = nil
	}
	w.tree.Set(e)
}

func (w *shardWrites) remove(e *bufferedKey) {
	if w.tree != nil {
		w.tree.Delete(e)
	} else if i, ok := w.find(e.key); ok {
		w.few = slices.Delete(w.few, i, i+1)
	}
}

// ascend visits the keys from k on until visit says false.
func (w *shardWrites) ascend(k storage.Key, visit func(*bufferedKey) bool) {
	if w.tree != nil {
		w.tree.Ascend(w.at(k), visit)
		return
	}
	for i, _ := w.find(k); i < len(w.few) && visit(w.few[i]); i++ {
	}
}

// descend visits the keys from k down until visit says false.
func (w *shardWrites) descend(k storage.Key, visit func(*bufferedKey) bool) {
	if w.tree != nil {
		w.tree.Descend(w.at(k), visit)
		return
	}
	i, found := w.find(k)
	if !found {
		i--
	}
	for ; i >= 0 && visit(w.few[i]); i-- {
	}
}

// reverse visits all keys, the last one first, until visit says false.
func (w *shardWrites) reverse(visit func(*bufferedKey) bool) {
	if w.tree != nil {
		w.tree.Reverse(visit)
		return
	}
	for i := len(w.few) - 1; i >= 0 && visit(w.few[i]); i-- {
	}
}
