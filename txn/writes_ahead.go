package txn

// WritesAhead reports whether the transaction can change rows that are newer
// than its snapshot: under REPEATABLE READ without SnapshotIsolation, once a
// plain read has fixed the snapshot. Then a row that it wrote may be one that
// its snapshot does not have, or has under other index entries.
func (t *Txn) WritesAhead() bool {
	if mutated("1.6.writes-ahead-unseen") {
		return false
	}
	return t.o.Isolation == RepeatableRead && !t.o.SnapshotIsolation && t.snapshot != 0
}
