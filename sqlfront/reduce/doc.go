// Package reduce makes little of many rows where the rows are: it counts them, adds
// columns up, finds the smallest and the largest, by groups, of those rows that satisfy
// a condition.
//
// A gateway writes a [Program], sends it to the owners of the shards with a span of
// keys, and merges what comes back ([Merge]). An owner feeds a [Fold] with the rows of
// its part of the span, as they are stored, and sends its result.
//
// # What is promised
//
// The merged result of any division of the rows into parts, in any order of the parts,
// is that of all rows together. Where this cannot be had it says so: a sum of floats
// depends on the order of the additions as soon as one of them rounds, so that sums whose
// terms exceed 2^53 in all, without their signs, are [Merge.Exact] no longer, and whoever
// asked adds the rows up himself.
//
// Groups come in the order of the smallest key among their rows: the order in which a
// scan by key meets them.
//
// A program, and a result, is versioned and refused if it is not understood completely.
// Programs from anywhere are bounded in size and depth; a Fold says how large its result
// has become, so that an owner can end a page.
//
// # What it does not do
//
// It knows columns by id and by the form in which package codec stores them. It knows no
// SQL types, no collations, no names, and nothing of shards, transactions or versions of
// rows. It reads no clock, disk or network. It converts nothing: a comparison is one of
// integers, or of points in time, with a constant of the same kind.
package reduce
