package wire

import (
	"strings"
)

// LockStrength is how a locking read locks.
type LockStrength uint8

// The strengths of a locking clause.
const (
	LockNone LockStrength = iota
	LockShared
	LockExclusive
)

// LockWait is what a locking read does with a row that another transaction holds.
type LockWait uint8

// The waits of a locking clause: wait, fail at once, leave the row out.
const (
	LockBlock LockWait = iota
	LockNoWait
	LockSkipLocked
)

// LockMarker is a locking clause on its way from the parser to the table. The engine's planner drops locking clauses, but it
// hands a table's AS OF value to the database untouched, so the parser puts the clause there.
type LockMarker struct {
	Strength LockStrength
	Wait     LockWait
	// AsOf is the AS OF value the user wrote on the same table, as text; HasAsOf tells '' from none.
	AsOf    string
	HasAsOf bool
}

// markerPrefix begins every marker. A zero byte cannot begin a point in time that anybody would write.
const markerPrefix = "\x00rowlock:lock:"

// The form of a marker is prefix, strength, wait and, when the user wrote AS OF, a '@' and its text.
const (
	strengthLetters = "nsx"
	waitLetters     = "bns"
)

// Encode returns the AS OF value that carries m.
func (m LockMarker) Encode() string {
	s := markerPrefix + strengthLetters[m.Strength:m.Strength+1] + waitLetters[m.Wait:m.Wait+1]
	if m.HasAsOf {
		s += "@" + m.AsOf
	}
	return s
}

// DecodeLockMarker reads an AS OF value as sql.VersionedDatabase gets it; ok is false when it is not a marker.
func DecodeLockMarker(asOf any) (m LockMarker, ok bool) {
	s, _ := asOf.(string)
	s, ok = strings.CutPrefix(s, markerPrefix)
	if !ok || len(s) < 2 {
		return LockMarker{}, false
	}
	strength, wait := strings.IndexByte(strengthLetters, s[0]), strings.IndexByte(waitLetters, s[1])
	if strength < 0 || wait < 0 {
		return LockMarker{}, false
	}
	m = LockMarker{Strength: LockStrength(strength), Wait: LockWait(wait)}
	if len(s) > 2 {
		if s[2] != '@' {
			return LockMarker{}, false
		}
		m.AsOf, m.HasAsOf = s[3:], true
	}
	return m, true
}
