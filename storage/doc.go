// Package storage keeps versions, intents and votes, changed only by atomic
// batches.
//
// # What it promises
//
// One [Engine] holds all shard replicas of a node in one Pebble store; each
// replica owns a [Space], the keys under one 8-byte prefix. A [Batch] is all or
// nothing. Batches of one space become durable in the order in which they were
// committed: after a crash the space equals the state after some prefix of
// them, never a later one without an earlier one, and the [Applied] record
// inside the space says which. [Engine.Sync] is the only call that waits for
// the disk; what was committed before it was called survives a power cut once
// it returns. The replicated log is what makes an acknowledged write durable.
//
// [Space.Restore] and [Space.Destroy] replace or remove a whole space in one
// edit of Pebble's manifest: after a crash the old or the new content is there,
// never a mixture. The applied record lies inside the space, so it switches
// with the data. A [Range] is several neighbouring spaces: its Restore replaces all of
// them in one such edit.
//
// A [Snapshot] is one point in time for versions, intents, votes, lock
// records and meta records alike, so an intent is always judged with the vote that belonged to
// it at that moment. A [Moment] is one point in time of several spaces, for who reads a
// little in each.
//
// # Layout
//
//	space (8 bytes, big endian) | kind (1) | body | 0x00            record key
//	space (8 bytes, big endian) | kind (1) | body | 0x00 | ^commit (8) | 0x09   version key
//
// The kinds, in order: the applied record, meta records, votes, staged chunks of
// large transactions, lock records, intents, versions.
// The body of the last two is the user's key, unescaped: the store's own comparer
// splits a key at the zero byte in front of the timestamp and compares the two
// halves separately, so any bytes sort bytewise. The versions of a key follow each
// other, newest first.
//
// Intents lie apart, because they come and go: a commit over several shards puts
// one on each of its keys and removes it again, and what is removed stays in the
// memtable until that is flushed. Whoever reads versions never steps over it. Who
// asks for intents pays a second seek, whose length does not depend on how many
// the key has had: on a busy key the place of a removed intent is taken by a
// blank, an empty value that reads, streams and checksums like no record at all.
//
// # Concurrency
//
// Engine and Space may be used by any number of goroutines. Batch, Snapshot, Moment
// and Iterator belong to one goroutine at a time. Commits of one space must come
// from one goroutine at a time, or their order is not defined. Restore and
// Destroy must not run beside commits to the same space, nor beside each other;
// reads may go on, and see the old content or the new.
//
// # Rows without the store
//
// The newest version of keys that were read by [Snapshot.GetVersion], or that they have
// none, is remembered as soon as somebody has asked for any key of the space with
// [Space.Cached], which finds it without an iterator. Until then commits to the space do
// nothing for it: a replica that only applies its log pays nothing. What it finds is what
// a snapshot opened in that moment would read, so whoever opens a snapshot to read one
// key may ask it first, and check afterwards what he checks after opening a snapshot.
// Several keys are read in several moments; who needs them as of one takes a snapshot,
// which never reads the cache. Scans, streams and checksums are snapshots.
//
// The order that makes it so:
//
//	commit:  mark keys busy, read the count of swaps, store takes the batch, batch is
//	         visible, count of ended commits rises, entries change and marks go
//	reader:  read the count of ended commits, open the iterator, read, then remember,
//	         unless a mark is there or the set has changed since the count was read
//	swap:    count of swaps rises to odd, the store swaps, it rises to even; an entry
//	         belongs to the even count that its iterator was opened under
//	first:   a commit that makes no marks counts itself, and then looks whether somebody
//	         has asked; a reader remembers only if before it opened its iterator somebody
//	         had asked and, looked at after that, no such commit was under way
//
// Batch.Commit goes over the records of the batch itself, so no change of a version can
// forget to tell; where marks are made, one of a kind that it does not know panics before
// the store takes it.
// After a failed commit the keys stay busy. The cache begins empty with each process.
//
// # What it does not do
//
// It decides nothing: whether an intent is visible, whether a vote may change,
// whether a read is too old is the business of package shard. It takes no lock
// on keys, draws no timestamp, reads no clock, and does not retry: a failed
// commit is for the caller to stop on. A disk that fails is told to
// Options.Failed, and what met it never returns; see [StopFS].
package storage
