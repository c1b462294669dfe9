package storage

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// fewSteps is how many entries of the store one read may pass, whatever its key
// went through: a handful of versions, and churnMany of intents.
const fewSteps = 40

// busySpace opens a space whose content stays in the memtable.
func busySpace(t *testing.T) *Space {
	e, err := Open(Options{Dir: "steps", FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e.Space(1)
}

// commit writes one batch.
func commit(t *testing.T, s *Space, fill func(*Batch)) {
	b := s.NewBatch()
	defer b.Close()
	fill(b)
	require.NoError(t, b.Commit())
}

// steps is how many entries an iterator has passed.
func steps(it *pebble.Iterator) int {
	if it == nil {
		return 0
	}
	s := it.Stats()
	return s.ForwardStepCount[pebble.InternalIterCall] + s.ReverseStepCount[pebble.InternalIterCall]
}

// readSteps reads the key in a fresh snapshot and counts.
func readSteps(t *testing.T, s *Space, k string, at Timestamp, want Read) int {
	snap := s.Snapshot()
	defer snap.Close()
	r, err := snap.Get(Key(k), at)
	require.NoError(t, err)
	require.Equal(t, want, r)
	return steps(snap.iter)
}

// scanSteps scans everything in a fresh snapshot and counts.
func scanSteps(t *testing.T, s *Space, o ScanOptions, want ...string) int {
	snap := s.Snapshot()
	defer snap.Close()
	it := snap.Scan(o)
	var got []string
	for it.Next() {
		got = append(got, string(it.Key()))
	}
	require.NoError(t, it.Err())
	require.Equal(t, want, got)
	n := steps(snap.iter) + steps(it.versions.it) + steps(it.intents.it)
	require.NoError(t, it.Close())
	return n
}

// TestReadsPassFewEntries: what a key went through does not make reads longer:
// neither the intents of thousands of commits over several shards nor thousands
// of versions, as long as nothing is flushed.
func TestReadsPassFewEntries(t *testing.T) {
	const rounds = 5000
	s := busySpace(t)
	for i := Timestamp(1); i <= rounds; i++ {
		in := Intent{Txn: TxnID{Start: i}, Prepare: i, Value: []byte("v")}
		commit(t, s, func(b *Batch) { b.PutIntent(Key("hot"), in); b.PutIntent(Key("phantom"), in) })
		commit(t, s, func(b *Batch) {
			b.DeleteIntent(Key("hot"))
			b.DeleteIntent(Key("phantom"))
			b.PutVersion(Key("hot"), i, i, in.Value)
		})
	}
	version := func(at Timestamp) Read {
		return Read{Value: []byte("v"), Commit: at, Start: at, Newest: rounds}
	}
	for _, at := range []Timestamp{1, rounds / 2, rounds, MaxTimestamp} {
		require.Less(t, readSteps(t, s, "hot", at, version(min(at, rounds))), fewSteps, "at %d", at)
		for _, reverse := range []bool{false, true} {
			o := ScanOptions{At: at, Reverse: reverse}
			require.Less(t, scanSteps(t, s, o, "hot"), fewSteps, "%+v", o)
			o.NoIntents = true
			require.Less(t, scanSteps(t, s, o, "hot"), fewSteps, "%+v", o)
		}
	}
	require.Less(t, readSteps(t, s, "phantom", MaxTimestamp, Read{}), fewSteps)

	// The same with an intent on the key.
	in := Intent{Txn: TxnID{Start: rounds + 1}, Prepare: rounds + 1, Value: []byte("w")}
	commit(t, s, func(b *Batch) { b.PutIntent(Key("hot"), in); b.PutIntent(Key("phantom"), in) })
	want := version(rounds)
	want.Intent = &in
	require.Less(t, readSteps(t, s, "hot", MaxTimestamp, want), fewSteps)
	require.Less(t, readSteps(t, s, "phantom", MaxTimestamp, Read{Intent: &in}), fewSteps)
	require.Less(t, scanSteps(t, s, ScanOptions{At: MaxTimestamp}, "hot", "phantom"), 2*fewSteps)
	require.Less(t, scanSteps(t, s, ScanOptions{At: MaxTimestamp, Reverse: true}, "phantom", "hot"), 2*fewSteps)
}

// TestRemovedIntentsVanish: keys whose intents come now and then get deletions,
// which leave nothing in the tables, and a busy key gets them again when it has
// calmed down.
func TestRemovedIntentsVanish(t *testing.T) {
	s := busySpace(t)
	count := func() (entries int) {
		snap := s.Snapshot()
		defer snap.Close()
		it, err := snap.iter.Clone(pebble.CloneOptions{IterOptions: bounds(s.id, kindIntent, nil, nil)})
		require.NoError(t, err)
		for ok := it.First(); ok; ok = it.Next() {
			entries++
		}
		require.NoError(t, it.Close())
		return entries
	}
	writes := func(k string, times int) {
		for range times {
			commit(t, s, func(b *Batch) { b.PutIntent(Key(k), Intent{}) })
			commit(t, s, func(b *Batch) { b.DeleteIntent(Key(k)) })
		}
	}
	for i := range 1000 {
		writes(fmt.Sprint("calm", i), 2)
	}
	require.Zero(t, count())
	writes("busy", 100)
	require.Equal(t, 1, count(), "a blank")
	sum, err := s.Checksum()
	require.NoError(t, err)
	require.NoError(t, s.e.db.Flush())
	writes("busy", 1)
	require.Equal(t, 1, count(), "the previous memtable was busy")
	require.NoError(t, s.e.db.Flush())
	writes("busy", 1)
	require.Zero(t, count())
	after, err := s.Checksum()
	require.NoError(t, err)
	require.Equal(t, sum, after, "a blank is no content")
}

// TestChurn: what is counted, and when it is forgotten.
func TestChurn(t *testing.T) {
	c := new(churn)
	add := func(times int) (many bool) {
		for range times {
			many = c.add([]byte("k"))
		}
		return many
	}
	require.False(t, add(churnMany))
	require.True(t, add(1))
	require.True(t, add(1000), "the count does not run over")
	c.flushed()
	require.True(t, add(1), "of the previous memtable")
	c.flushed()
	require.False(t, add(churnMany-1))
	require.True(t, add(1), "of both memtables together")
	for range 3 {
		c.flushed()
	}
	require.False(t, add(1))
	require.False(t, c.add([]byte("another")))
	for range 1<<16 - 1 { // the number of flushes runs over
		c.flushed()
	}
	require.False(t, add(churnMany-1))
}

// TestBlanksAreLocal: a blank does not travel, and a stream with one is refused.
func TestBlanksAreLocal(t *testing.T) {
	s := busySpace(t)
	commit(t, s, func(b *Batch) { put(b, kindIntent, "k", nil) })
	var out bytes.Buffer
	st := s.StreamSnapshot()
	require.NoError(t, st.WriteTo(&out, nil))
	require.NoError(t, st.Close())
	require.Empty(t, pairs(t, out.Bytes()))
	require.NoError(t, s.Restore(&out))

	f, err := newFrameWriter(&out, oneSpace)
	require.NoError(t, err)
	_, err = f.add(appendRecordKey(nil, 1, kindIntent, "k")[spaceSize:], nil)
	require.NoError(t, err)
	require.NoError(t, f.end())
	require.ErrorIs(t, s.Restore(&out), ErrCorrupt)
}
