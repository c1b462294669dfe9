// Package logstore is the durable log of every replica group of a node: a
// Dragonboat raftio.ILogDB on one Pebble instance.
//
// One instance for all groups means one write-ahead log, so that groups which
// commit at the same moment share an fsync. That, and not syncing what need
// not be synced, is the reason why Rowlock has a log store of its own.
//
// # What it promises
//
//   - A list of updates given to SaveRaftState is stored whole or not at all.
//   - When SaveRaftState returns, every entry, term, vote and snapshot record
//     in it survives a power cut.
//   - An update that moves only the commit index is written but not synced. It
//     lies in the write-ahead log before everything that is written later, so
//     a later entry is never there without it.
//   - Entries that overwrite a suffix of the log remove the rest of the suffix
//     in the same batch. An entry of a lost suffix is never seen again.
//   - After the first failed write nothing is acknowledged any more: every
//     later call returns the first error. An fsync that failed once must not
//     be believed the second time.
//
// # Layout
//
// A key is a kind byte, the group and the replica as eight bytes big endian
// each, and for entries the index as eight more. A value starts with a version
// byte. The store as a whole carries a version under the key "!format"; a store
// of another version is refused.
//
//	!format  version of the store
//	b        bootstrap record: the replica exists here
//	e        entry, one per index
//	n        the newest snapshot record
//	s        term, vote and commit index
//
// The last index of a log is that of its last entry. Nothing else records it.
//
// # Files
//
// The write-ahead log's files have all their blocks, with zeros or an older log in
// them, before anything is written to them: an fsync is then one write (spareFS).
//
// # What protects what
//
// Pebble orders the batches. The cache of what is stored (one small record per
// replica) has a mutex, which is not held across a write. Dragonboat calls
// SaveRaftState for one group from one goroutine only; everything else may run
// beside it.
package logstore
