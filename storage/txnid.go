package storage

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// TxnIDSize is the length in bytes of an encoded [TxnID].
const TxnIDSize = 24

// TxnID names a transaction: its start timestamp, the incarnation of the
// gateway that began it, and the gateway's own counter. It is comparable with
// ==; the zero value names no transaction.
type TxnID struct {
	Start   Timestamp
	Gateway uint64
	Seq     uint64
}

// IsZero reports whether id names no transaction.
func (id TxnID) IsZero() bool { return id == TxnID{} }

// Compare orders ids by start, gateway, counter; it returns -1, 0 or +1. The
// order is that of the encoded bytes.
func (id TxnID) Compare(other TxnID) int {
	return cmp.Or(
		cmp.Compare(id.Start, other.Start),
		cmp.Compare(id.Gateway, other.Gateway),
		cmp.Compare(id.Seq, other.Seq),
	)
}

// String shows the id as start-gateway-counter in hexadecimal.
func (id TxnID) String() string {
	return fmt.Sprintf("%x-%x-%x", uint64(id.Start), id.Gateway, id.Seq)
}

// ParseTxnID reads what String wrote.
func ParseTxnID(text string) (TxnID, bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 3 {
		return TxnID{}, false
	}
	var n [3]uint64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseUint(part, 16, 64); err != nil {
			return TxnID{}, false
		}
	}
	return TxnID{Start: Timestamp(n[0]), Gateway: n[1], Seq: n[2]}, true
}

// Append adds the 24-byte encoding, which sorts bytewise like Compare.
func (id TxnID) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(id.Start))
	dst = binary.BigEndian.AppendUint64(dst, id.Gateway)
	return binary.BigEndian.AppendUint64(dst, id.Seq)
}

// DecodeTxnID reads an id from the front of b and returns what follows it.
func DecodeTxnID(b []byte) (id TxnID, rest []byte, err error) {
	if len(b) < TxnIDSize {
		return TxnID{}, nil, corruptf("transaction id of %d bytes", len(b))
	}
	id.Start = Timestamp(binary.BigEndian.Uint64(b))
	id.Gateway = binary.BigEndian.Uint64(b[8:])
	id.Seq = binary.BigEndian.Uint64(b[16:])
	return id, b[TxnIDSize:], nil
}
