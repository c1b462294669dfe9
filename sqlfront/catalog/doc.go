// Package catalog describes what a SQL server knows about its tables, as data:
// descriptors, their encoding at rest, immutable snapshots of all of them, and
// the metadata locks that keep a descriptor in force while it is used.
//
// # What it promises
//
// A Snapshot and everything reachable from it is never modified. Apply makes a
// new one. Every record at rest starts with a format version and ends with a
// CRC-32C; a record that does not check is an error, never a guess.
//
// # What protects what
//
// Nothing here does input or output. Locks has one mutex of its own, never held
// while waiting.
//
// # What it does not do
//
// It does not know transactions, and it does not interpret expressions: the
// defaults, generated values and conditions are the SQL text they were given as.
package catalog
