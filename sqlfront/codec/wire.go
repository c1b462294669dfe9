package codec

import "github.com/dolthub/go-mysql-server/sql"

// What package reduce must know of rows to read single columns out of them.
const (
	WireVarint = wireVarint
	WireNull   = wireNull
	WireBits   = wireBits
	WireMask   = wireMask
)

// Header returns the schema version of a row, and what follows it.
func Header(data []byte) (schema uint64, rest []byte, err error) { return header(data) }

// SkipPayload returns what follows a value of a wire form.
func SkipPayload(wire uint64, b []byte) ([]byte, error) { return skipPayload(wire, b) }

// FromVarint is the value of a column type that is stored as this number.
func FromVarint(t sql.Type, stored uint64) (any, error) {
	k, err := kindOf(t)
	if err != nil {
		return nil, err
	}
	return k.fromVarint(stored)
}
