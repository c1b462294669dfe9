package storage_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/storage"
)

// model is a space as maps: what the engine must look like from outside.
type model struct {
	versions map[string]map[storage.Timestamp]modelVersion
	intents  map[string]storage.Intent
	votes    map[storage.TxnID]storage.Vote
	metas    map[string]string
	applied  storage.Applied
}

type modelVersion struct {
	start     storage.Timestamp
	value     string
	tombstone bool
}

func newModel() *model {
	return &model{
		versions: map[string]map[storage.Timestamp]modelVersion{},
		intents:  map[string]storage.Intent{},
		votes:    map[storage.TxnID]storage.Vote{},
		metas:    map[string]string{},
	}
}

func (m *model) clone() *model {
	c := &model{
		versions: map[string]map[storage.Timestamp]modelVersion{}, intents: maps.Clone(m.intents),
		votes: maps.Clone(m.votes), metas: maps.Clone(m.metas), applied: m.applied,
	}
	for k, v := range m.versions {
		c.versions[k] = maps.Clone(v)
	}
	return c
}

func (m *model) put(k string, commit storage.Timestamp, v modelVersion) {
	if m.versions[k] == nil {
		m.versions[k] = map[storage.Timestamp]modelVersion{}
	}
	m.versions[k][commit] = v
}

// get is the specification of a read.
func (m *model) get(k string, at storage.Timestamp) storage.Read {
	var r storage.Read
	for commit, v := range m.versions[k] {
		r.Newest = max(r.Newest, commit)
		if commit <= at && commit > r.Commit {
			r.Commit, r.Start, r.Tombstone = commit, v.start, v.tombstone
			r.Value = nil
			if !v.tombstone {
				r.Value = []byte(v.value)
			}
		}
	}
	if in, ok := m.intents[k]; ok {
		r.Intent = &in
	}
	return r
}

// getVersion is the specification of a read that does not look for intents.
func (m *model) getVersion(k string, at storage.Timestamp) storage.Read {
	r := m.get(k, at)
	r.Intent = nil
	return r
}

// scan is the specification of a scan, as lines.
func (m *model) scan(o storage.ScanOptions) []string {
	keys := map[string]bool{}
	for k := range m.versions {
		keys[k] = true
	}
	for k := range m.intents {
		keys[k] = true
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if o.Lower != nil && k < string(o.Lower) || o.Upper != nil && k >= string(o.Upper) {
			continue
		}
		r := m.get(k, o.At)
		if o.NoIntents {
			r = m.getVersion(k, o.At)
		}
		if r.Intent != nil || r.Commit != 0 && (o.Tombstones || !r.Tombstone) {
			out = append(out, line(k, r))
		}
	}
	if o.Reverse {
		slices.Reverse(out)
	}
	return out
}

// collect is the specification of CollectGarbage without a limit.
func (m *model) collect(lo, hi storage.Key, below storage.Timestamp) {
	for k, versions := range m.versions {
		if lo != nil && k < string(lo) || hi != nil && k >= string(hi) {
			continue
		}
		keeper := m.get(k, below)
		for commit := range versions {
			if commit < keeper.Commit || commit == keeper.Commit && keeper.Tombstone {
				delete(versions, commit)
			}
		}
	}
}

// line shows a key and what was read of it.
func line(k string, r storage.Read) string {
	s := fmt.Sprintf("%q: %q %d by %d, tombstone=%t nil=%t newest=%d", k, r.Value, r.Commit, r.Start, r.Tombstone, r.Value == nil, r.Newest)
	if in := r.Intent; in != nil {
		s += fmt.Sprintf(" intent=%s %d %q %t", in.Txn, in.Prepare, in.Value, in.Tombstone)
	}
	return s
}

// scanLines runs a scan and shows it like the model.
func scanLines(t require.TestingT, snap *storage.Snapshot, o storage.ScanOptions) []string {
	it := snap.Scan(o)
	var out []string
	for it.Next() {
		out = append(out, line(string(it.Key()), it.Read()))
	}
	require.NoError(t, it.Close())
	return out
}

// check compares everything one can read from a snapshot with the model.
func (m *model) check(t require.TestingT, snap *storage.Snapshot, keys []string, times []storage.Timestamp) {
	for _, at := range times {
		for _, k := range keys {
			r, err := snap.Get(storage.Key(k), at)
			require.NoError(t, err)
			require.Equal(t, line(k, m.get(k, at)), line(k, r), "get at %d", at)
			r, err = snap.GetVersion(storage.Key(k), at)
			require.NoError(t, err)
			require.Equal(t, line(k, m.getVersion(k, at)), line(k, r), "get version at %d", at)
		}
		for flags := range 8 {
			o := storage.ScanOptions{At: at, Reverse: flags&1 != 0, Tombstones: flags&2 != 0, NoIntents: flags&4 != 0}
			require.Equal(t, m.scan(o), scanLines(t, snap, o), "%+v", o)
		}
	}
	m.checkRecords(t, snap)
}

// checkCached compares what is known without a snapshot.
func (m *model) checkCached(t require.TestingT, s *storage.Space, at storage.Timestamp) {
	for _, k := range modelKeys {
		want := m.getVersion(k, at)
		if r, ok := s.Cached(storage.Key(k), at); ok {
			require.Equal(t, line(k, want), line(k, r), "cached at %d", at)
		}
		if newest, ok := s.CachedNewest(storage.Key(k)); ok {
			require.Equal(t, want.Newest, newest, "cached newest of %q", k)
		}
	}
}

// checkRecords compares votes, meta records and the applied record.
func (m *model) checkRecords(t require.TestingT, snap *storage.Snapshot) {
	votes := map[storage.TxnID]storage.Vote{}
	var order []storage.TxnID
	require.NoError(t, snap.Votes(func(id storage.TxnID, v storage.Vote) error {
		votes[id] = v
		order = append(order, id)
		one, ok, err := snap.Vote(id)
		require.True(t, ok)
		require.Equal(t, v, one)
		return err
	}))
	require.Equal(t, m.votes, votes)
	require.True(t, slices.IsSortedFunc(order, storage.TxnID.Compare))
	metas := map[string]string{}
	require.NoError(t, snap.Metas("", func(name string, v []byte) error {
		metas[name] = string(v)
		one, ok, err := snap.Meta(name)
		require.True(t, ok)
		require.Equal(t, string(v), string(one))
		return err
	}))
	require.Equal(t, m.metas, metas)
	a, ok, err := snap.Applied()
	require.NoError(t, err)
	require.Equal(t, m.applied, a)
	require.Equal(t, m.applied != storage.Applied{}, ok)
}

// Generators. Keys are few and mean: prefixes of each other, zero bytes, bytes
// that look like parts of our own layout.
var (
	modelKeys = []string{
		"", "\x00", "\x00\x00", "a", "a\x00", "a\x00\x09", "a\x00\xff\xff\xff\xff\xff\xff\xff\xff\x09",
		"ab", "a\xff", "\x09", "b", "\xff", "\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\x09",
	}
	genKey  = rapid.SampledFrom(modelKeys)
	genTime = rapid.OneOf(rapid.Uint64Range(1, 24), rapid.Just(uint64(storage.MaxTimestamp)))
	genTxn  = rapid.Custom(func(t *rapid.T) storage.TxnID {
		return storage.TxnID{
			Start:   storage.Timestamp(rapid.Uint64Range(1, 4).Draw(t, "start")),
			Gateway: rapid.Uint64Range(1, 2).Draw(t, "gateway"), Seq: rapid.Uint64Range(0, 1).Draw(t, "seq"),
		}
	})
	genVote = rapid.Custom(func(t *rapid.T) storage.Vote {
		v := storage.Vote{
			State:   storage.VoteState(rapid.IntRange(1, 3).Draw(t, "state")),
			Prepare: storage.Timestamp(genTime.Draw(t, "prepare")),
			Commit:  storage.Timestamp(rapid.Uint64().Draw(t, "commit")),
			Hash:    rapid.Uint64().Draw(t, "hash"),
		}
		for _, k := range rapid.SliceOfN(genKey, 0, 3).Draw(t, "keys") {
			v.Keys = append(v.Keys, storage.Key(k))
		}
		v.Participants = append(v.Participants, rapid.SliceOfN(rapid.Uint64(), 0, 3).Draw(t, "participants")...)
		v.Locks = append(v.Locks, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "locks")...)
		return v
	})
)

// bound draws one end of a range; nil is open.
func bound(t *rapid.T, name string) storage.Key {
	if rapid.Bool().Draw(t, name+" open") {
		return nil
	}
	return storage.Key(genKey.Draw(t, name))
}

// fill draws a batch and applies it to the model too.
func (m *model) fill(t *rapid.T, b *storage.Batch) {
	for range rapid.IntRange(1, 8).Draw(t, "changes") {
		k := genKey.Draw(t, "key")
		commit := storage.Timestamp(genTime.Draw(t, "commit"))
		start := storage.Timestamp(genTime.Draw(t, "start"))
		value := strings.Repeat(rapid.StringN(0, 4, -1).Draw(t, "value"), rapid.SampledFrom([]int{1, 1, 1, 100, 300}).Draw(t, "times"))
		id := genTxn.Draw(t, "txn")
		switch rapid.IntRange(0, 9).Draw(t, "change") {
		case 0, 1, 2:
			b.PutVersion(storage.Key(k), commit, start, []byte(value))
			m.put(k, commit, modelVersion{start: start, value: value})
		case 3:
			b.PutTombstone(storage.Key(k), commit, start)
			m.put(k, commit, modelVersion{start: start, tombstone: true})
		case 4:
			in := storage.Intent{Txn: id, Prepare: commit, Value: []byte(value), Tombstone: value == ""}
			b.PutIntent(storage.Key(k), in)
			m.intents[k] = in
		case 5:
			b.DeleteIntent(storage.Key(k))
			delete(m.intents, k)
		case 6:
			v := genVote.Draw(t, "vote")
			b.PutVote(id, v)
			m.votes[id] = v
		case 7:
			b.DeleteVote(id)
			delete(m.votes, id)
		case 8:
			b.PutMeta(k, []byte(value))
			m.metas[k] = value
		case 9:
			b.DeleteMeta(k)
			delete(m.metas, k)
		}
	}
	m.applied = storage.Applied{Replica: 1, Index: m.applied.Index + 1}
	b.SetApplied(m.applied)
}

// churn puts and removes the intents of a few keys so often that they are treated
// as busy, and leaves some of the keys with an intent.
func (m *model) churn(t *rapid.T, commit func(func(*storage.Batch))) {
	for _, k := range rapid.SliceOfN(genKey, 1, 3).Draw(t, "busy keys") {
		in := storage.Intent{Txn: genTxn.Draw(t, "txn"), Prepare: 1, Value: []byte("busy")}
		for range 10 {
			commit(func(b *storage.Batch) { b.PutIntent(storage.Key(k), in) })
			commit(func(b *storage.Batch) { b.DeleteIntent(storage.Key(k)) })
		}
		delete(m.intents, k)
		if rapid.Bool().Draw(t, "stays") {
			commit(func(b *storage.Batch) { b.PutIntent(storage.Key(k), in) })
			m.intents[k] = in
		}
	}
}

// TestModel runs random histories of one space beside a model, with snapshots
// that stay open, garbage collection, restores, and reopening, and compares all
// reads.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := options(vfs.NewMem())
		// Of the smallest caches of rows, keys and values drive each other out.
		o.RowCacheBytes = rapid.SampledFrom([]int64{-1, 4 << 10, 4 << 10, 1 << 20}).Draw(t, "cache of rows")
		e, err := storage.Open(o)
		require.NoError(t, err)
		defer func() { require.NoError(t, e.Close()) }()
		s, m := e.Space(7), newModel()
		type pinned struct {
			snap *storage.Snapshot
			m    *model
		}
		var pins []pinned
		unpin := func() {
			for _, p := range pins {
				p.m.check(t, p.snap, modelKeys, []storage.Timestamp{3, 12, storage.MaxTimestamp})
				p.snap.Close()
			}
			pins = nil
		}
		defer func() { unpin() }()
		var saved []byte
		var savedModel *model
		commit := func(fill func(b *storage.Batch)) {
			b := s.NewBatch()
			defer b.Close()
			fill(b)
			require.NoError(t, b.Commit())
		}
		t.Repeat(map[string]func(*rapid.T){
			"batch": func(t *rapid.T) { commit(func(b *storage.Batch) { m.fill(t, b) }) },
			"churn": func(t *rapid.T) { m.churn(t, commit) },
			"pin":   func(t *rapid.T) { pins = append(pins, pinned{s.Snapshot(), m.clone()}) },
			"unpin": func(t *rapid.T) { unpin() },
			"garbage": func(t *rapid.T) {
				lo, hi := bound(t, "lo"), bound(t, "hi")
				below := storage.Timestamp(genTime.Draw(t, "below"))
				limit := rapid.SampledFrom([]int{1, 2, 3, 100}).Draw(t, "limit")
				m.collect(lo, hi, below)
				for from, done := lo, false; !done; {
					commit(func(b *storage.Batch) {
						next, _, err := b.CollectGarbage(from, hi, below, limit)
						require.NoError(t, err)
						from, done = next, next == nil
					})
				}
			},
			"save": func(t *rapid.T) {
				var buf bytes.Buffer
				st := s.StreamSnapshot()
				require.NoError(t, st.WriteTo(&buf, nil))
				require.NoError(t, st.Close())
				saved, savedModel = buf.Bytes(), m.clone()
			},
			"restore": func(t *rapid.T) {
				if saved != nil {
					require.NoError(t, s.Restore(bytes.NewReader(saved)))
					m = savedModel.clone()
				}
			},
			"destroy": func(t *rapid.T) {
				require.NoError(t, s.Destroy())
				m = newModel()
			},
			"reopen": func(t *rapid.T) {
				unpin()
				require.NoError(t, e.Close())
				e, err = storage.Open(o)
				require.NoError(t, err)
				s = e.Space(7)
			},
			"": func(t *rapid.T) {
				m.checkCached(t, s, storage.Timestamp(genTime.Draw(t, "cached at")))
				snap := s.Snapshot()
				defer snap.Close()
				m.check(t, snap, modelKeys, []storage.Timestamp{storage.Timestamp(genTime.Draw(t, "at"))})
				o := storage.ScanOptions{
					Lower: bound(t, "lower"), Upper: bound(t, "upper"), At: storage.Timestamp(genTime.Draw(t, "scan at")),
					Reverse: rapid.Bool().Draw(t, "reverse"), Tombstones: rapid.Bool().Draw(t, "tombstones"),
					NoIntents: rapid.Bool().Draw(t, "no intents"), Alone: rapid.Bool().Draw(t, "alone"),
				}
				require.Equal(t, m.scan(o), scanLines(t, snap, o))

				// The same in a moment of several spaces, in any order.
				moment, err := storage.MomentOf([]*storage.Space{e.Space(6), s, e.Space(8)})
				require.NoError(t, err)
				defer moment.Close()
				for range rapid.IntRange(1, 3).Draw(t, "turns") {
					require.Equal(t, m.scan(o), scanLines(t, moment.Snapshot(s), o))
					m.check(t, moment.Snapshot(s), modelKeys, []storage.Timestamp{o.At})
					beside := moment.Snapshot(e.Space(rapid.SampledFrom([]uint64{6, 8}).Draw(t, "beside")))
					require.Empty(t, scanLines(t, beside, o))
					o.Alone = true
				}
			},
		})
	})
}

// TestReplicasAgree applies one history to two engines that flush, restore and
// reopen at different times. Garbage collection must report and remove the same
// on both, and content, checksum and stream must be equal in the end.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spaces [2]*storage.Space
		for i := range spaces {
			e, err := storage.Open(options(vfs.NewMem()))
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			spaces[i] = e.Space(uint64(i + 1))
		}
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			garbage := step%4 == 3
			below := storage.Timestamp(genTime.Draw(t, "below"))
			limit := rapid.SampledFrom([]int{2, 3, 5, 100}).Draw(t, "limit")
			lo := bound(t, "lo")
			var results [2]string
			var batches [2]*storage.Batch
			for i, s := range spaces {
				batches[i] = s.NewBatch()
				if garbage {
					next, removed, err := batches[i].CollectGarbage(lo, nil, below, limit)
					results[i] = fmt.Sprintf("next=%q nil=%t removed=%d err=%v", next, next == nil, removed, err)
				}
			}
			require.Equal(t, results[0], results[1])
			seed := rapid.Int().Draw(t, "seed")
			for i := range spaces {
				if !garbage {
					fillSeeded(batches[i], seed)
				}
				require.NoError(t, batches[i].Commit())
				batches[i].Close()
			}
			if s := spaces[rapid.IntRange(0, 1).Draw(t, "who")]; rapid.Bool().Draw(t, "to tables") {
				var buf bytes.Buffer
				st := s.StreamSnapshot()
				require.NoError(t, st.WriteTo(&buf, nil))
				require.NoError(t, st.Close())
				require.NoError(t, s.Restore(&buf))
			}
		}
		var sums [2]uint64
		var streams [2]bytes.Buffer
		for i, s := range spaces {
			var err error
			sums[i], err = s.Checksum()
			require.NoError(t, err)
			st := s.StreamSnapshot()
			require.NoError(t, st.WriteTo(&streams[i], nil))
			require.NoError(t, st.Close())
		}
		require.Equal(t, sums[0], sums[1])
		require.Equal(t, streams[0].Bytes(), streams[1].Bytes())
	})
}

// fillSeeded draws the batch that a seed stands for.
func fillSeeded(b *storage.Batch, seed int) {
	rapid.Custom(func(t *rapid.T) int {
		newModel().fill(t, b)
		return 0
	}).Example(seed)
}

// TestSpacesAreApart writes to neighbouring spaces and expects each to hold its
// own and nothing else.
func TestSpacesAreApart(t *testing.T) {
	e := open(t, vfs.NewMem())
	ids := []uint64{0, 1, 255, 256, 1<<63 - 1, 1<<64 - 2, 1<<64 - 1}
	for _, id := range ids {
		write(t, e.Space(id), func(b *storage.Batch) {
			for _, k := range modelKeys {
				b.PutVersion(storage.Key(k), 5, 1, fmt.Append(nil, id))
				b.PutMeta(k, fmt.Append(nil, id))
			}
		})
	}
	got, err := e.Spaces()
	require.NoError(t, err)
	require.Equal(t, ids, got)
	for i, id := range ids {
		snap := e.Space(id).Snapshot()
		lines := scanLines(t, snap, storage.ScanOptions{At: storage.MaxTimestamp})
		snap.Close()
		require.Len(t, lines, len(modelKeys))
		for _, l := range lines {
			require.True(t, strings.Contains(l, fmt.Sprintf("%q", fmt.Sprint(id))), l)
		}
		require.NoError(t, e.Space(id).Destroy())
		got, err := e.Spaces()
		require.NoError(t, err)
		require.Equal(t, cmp.Compare(len(ids)-i-1, 0) > 0, len(got) > 0)
		require.Equal(t, len(ids)-i-1, len(got))
	}
}
