package shard

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// proposal is a OnePC or Prepare between the check of its locks and the moment
// its outcome is known. Its keys are the memory locks of rule R2: while ts is 0
// ("not known yet") or at most R, a reader at R must wait.
type proposal struct {
	txn  storage.TxnID
	keys []storage.Key // ascending
	ts   storage.Timestamp
	hash uint64
	size int // of the command, set before it is proposed
	// staged: keys include those of staged chunks, which are many; they are
	// looked for in keys itself. points of them are locked one by one.
	staged  bool
	points  int
	refused atomic.Bool // the state machine has other chunks (H9)
	// since is when the transaction's locks were checked and pinned.
	since time.Time
	done  chan struct{} // closed by finish; response and err are set then

	response VoteResponse
	err      error
}

// votedTxn is a transaction whose vote here is PREPARED.
type votedTxn struct {
	since        time.Time
	participants []ID
	prepare      storage.Timestamp
	keys         []storage.Key // ascending
	size         int           // of the writes, in bytes, about
	// staged: no intents tell of the writes, see proposal. Readers wait for the
	// resolution before they look, or, while it is resolving, as long as it takes.
	staged, resolving bool
	// allWritten says that the transaction held no lock on anything it did not
	// write (H6).
	allWritten bool
	done       chan struct{} // closed when the vote is resolved
	awaited    atomic.Bool   // a reader waits for it
}

// inflight is the owner's memory of votes that are under way (proposals) or
// cast and not resolved (voted). It is plain data; Replica.mu protects it.
//
// Every intent that can still become a version belongs to one of them: intents
// come from Prepare commands alone, those of earlier epochs were entered when the
// tenure began, and those of this one from before their proposal until after
// their resolution was applied.
type inflight struct {
	proposals map[storage.TxnID]*proposal
	keys      map[string]*proposal        // but not of staged ones
	voting    map[storage.TxnID]*proposal // the staged ones
	voted     map[storage.TxnID]*votedTxn
	large     map[storage.TxnID]*votedTxn // the staged ones
	intents   map[string]*votedTxn        // by key
}

func newInflight() inflight {
	return inflight{
		proposals: make(map[storage.TxnID]*proposal),
		keys:      make(map[string]*proposal),
		voting:    make(map[storage.TxnID]*proposal),
		voted:     make(map[storage.TxnID]*votedTxn),
		large:     make(map[storage.TxnID]*votedTxn),
		intents:   make(map[string]*votedTxn),
	}
}

// vote enters a PREPARED vote.
func (f *inflight) vote(id storage.TxnID, v *votedTxn) {
	f.voted[id] = v
	if v.staged {
		f.large[id] = v
		return
	}
	for _, k := range v.keys {
		f.intents[string(k)] = v
	}
}

// resolved takes a vote out whose resolution is applied.
func (f *inflight) resolved(id storage.TxnID) {
	v := f.voted[id]
	delete(f.voted, id)
	if v.staged {
		delete(f.large, id)
		return
	}
	for _, k := range v.keys {
		if f.intents[string(k)] == v {
			delete(f.intents, string(k))
		}
	}
}

// add enters a proposal with an unknown timestamp.
func (f *inflight) add(p *proposal) {
	f.proposals[p.txn] = p
	if p.staged {
		if !mutated("H9.staged-keys-unlocked") {
			f.voting[p.txn] = p
		}
		return
	}
	for _, k := range p.keys {
		f.keys[string(k)] = p
	}
}

// remove takes a proposal out. If it is replaced by a vote, the caller enters
// that under the same hold of the mutex, so that nobody sees neither.
func (f *inflight) remove(p *proposal) {
	delete(f.proposals, p.txn)
	if p.staged {
		delete(f.voting, p.txn)
		return
	}
	for _, k := range p.keys {
		if f.keys[string(k)] == p {
			delete(f.keys, string(k))
		}
	}
}

// blocks reports whether a reader at r must wait for the proposal.
func (p *proposal) blocks(r storage.Timestamp) bool { return p.ts == 0 || p.ts <= r }

// onKey returns a proposal that a reader of the key at r must wait for.
func (f *inflight) onKey(k storage.Key, r storage.Timestamp) *proposal {
	if p := f.keys[string(k)]; p != nil && p.blocks(r) {
		return p
	}
	for _, p := range f.voting {
		if p.blocks(r) && among(p.keys, k) {
			return p
		}
	}
	return nil
}

// among reports whether the keys, which ascend, have k.
func among(keys []storage.Key, k storage.Key) bool {
	i := sort.Search(len(keys), func(i int) bool { return string(keys[i]) >= string(k) })
	return i < len(keys) && string(keys[i]) == string(k)
}

// largeOn returns a PREPARED vote with staged chunks that may become visible to a
// reader of the keys, or of the span, at r.
func (f *inflight) largeOn(keys []storage.Key, span *Span, r storage.Timestamp) (storage.TxnID, *votedTxn) {
	for id, v := range f.large {
		if v.prepare > r || mutated("H10.staged-vote-unseen") {
			continue
		}
		if span != nil && anyWithin(v.keys, *span) {
			return id, v
		}
		if slices.ContainsFunc(keys, func(k storage.Key) bool { return among(v.keys, k) }) {
			return id, v
		}
	}
	return storage.TxnID{}, nil
}

// onSpan returns a proposal that a reader of the span at r must wait for.
// Proposals are few at any moment, so they are simply looked through.
func (f *inflight) onSpan(s Span, r storage.Timestamp) *proposal {
	for _, p := range f.proposals {
		if p.blocks(r) && p.touches(s) && !(p.staged && mutated("H9.staged-keys-unlocked")) {
			return p
		}
	}
	return nil
}

func (p *proposal) touches(s Span) bool { return anyWithin(p.keys, s) }

// anyWithin reports whether one of the keys, which ascend, lies in the span.
func anyWithin(keys []storage.Key, s Span) bool {
	i := sort.Search(len(keys), func(i int) bool { return string(keys[i]) >= string(s.Lo) })
	return i < len(keys) && (s.Hi == nil || string(keys[i]) < string(s.Hi))
}

// undecidedOn reports whether a vote on one of the keys, or in the span, may be
// visible to a reader at r once it is resolved.
func (f *inflight) undecidedOn(keys []storage.Key, span *Span, r storage.Timestamp) bool {
	for _, k := range keys {
		if v := f.intents[string(k)]; v != nil && v.prepare <= r {
			return true
		}
	}
	if span == nil {
		return false
	}
	for _, v := range f.voted {
		if v.prepare <= r && !v.staged && anyWithin(v.keys, *span) {
			return true
		}
	}
	return false
}

// sortedKeys returns the keys of writes in ascending order, or false if one of
// them is written twice.
func sortedKeys(writes []Write) ([]storage.Key, bool) {
	keys := make([]storage.Key, len(writes))
	for i := range writes {
		keys[i] = writes[i].Key
	}
	compare := func(a, b storage.Key) int { return bytes.Compare(a, b) }
	if !slices.IsSortedFunc(keys, compare) {
		slices.SortFunc(keys, compare)
	}
	for i := 1; i < len(keys); i++ {
		if string(keys[i-1]) == string(keys[i]) {
			return nil, false
		}
	}
	return keys, true
}

// sortUndecided puts the oldest vote first.
func sortUndecided(votes []UndecidedVote) {
	slices.SortFunc(votes, func(a, b UndecidedVote) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), a.Txn.Compare(b.Txn))
	})
}
