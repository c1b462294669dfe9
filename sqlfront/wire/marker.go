package wire

import (
	"time"

	"github.com/dolthub/go-mysql-server/sql"
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

// LockMarker is a locking clause on its way from the parser to the table. It travels as the table's AS OF value.
type LockMarker struct {
	Strength LockStrength
	Wait     LockWait
	// AsOf is the text of a literal AS OF the user wrote on the same table; HasAsOf tells '' from none.
	AsOf    string
	HasAsOf bool
}

// Encode returns the AS OF value that carries m.
func (m LockMarker) Encode() string { return "" }

// DecodeLockMarker reads an AS OF value as the table gets it; ok is false when it is not a marker.
func DecodeLockMarker(asOf any) (m LockMarker, ok bool) { return LockMarker{}, false }

// AsOfTime reads an AS OF value (not a marker) as a point in time: a time, or a date and time in text form.
func AsOfTime(ctx *sql.Context, asOf any) (time.Time, error) { return time.Time{}, nil }
