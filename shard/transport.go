package shard

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// NodeAddr is where a node answers requests.
type NodeAddr string

// ErrNotSent is in a Transport's error when nothing of the request has left this
// node.
var ErrNotSent = errors.New("shard: the request was not sent")

// Transport carries encoded requests to other nodes and brings their encoded
// responses back. An error says nothing about whether the request was carried
// out.
type Transport interface {
	Call(ctx context.Context, to NodeAddr, request []byte) (response []byte, err error)
}

// method numbers the requests of the Router. The numbers are part of the wire
// format.
type method uint8

const (
	methodTimestamp method = 1 + iota
	methodRead
	methodLock
	methodOnePC
	methodPrepare
	methodResolve
	methodCloseVote
	methodRelease
	methodRenew
	methodUndecided
	methodLocks
	methodRaiseFence
	methodRaiseSchema
	methodCollect
	methodOldest
	methodAdvisory
	methodStage
	methodTakeOver
	methodWaits
	methodRegister
	methodHeartbeat
	methodSetting
	methodSeat
	methodPing
	methodJoin
	methodStart
	methodService
	methodState
	methodLookVote
	methodSequence
	methodClose
	methodLoads
	methodReadMany
	methodReduce
	methodReadFiltered
	methodBundle
	methodTakeOverTogether
	methods // how many there are, plus one
)

// envelope is what surrounds a request: version byte, method, shard, the time
// the caller will wait in milliseconds (0: no limit), and the message.
type envelope struct {
	method  method
	shard   ID
	timeout time.Duration
	body    []byte
}

func (e *envelope) appendHeader(b []byte) []byte {
	b = appendUint(append(b, formatVersion, byte(e.method)), uint64(e.shard))
	return appendUint(b, uint64(e.timeout.Milliseconds()))
}

func (e *envelope) decode(b []byte) error {
	d := newDecoder(b)
	*e = envelope{method: method(d.byte()), shard: ID(d.uint())}
	ms := d.uint()
	if d.newer || !d.bad && e.method >= methods {
		return fmt.Errorf("method %d: %w", e.method, errNewer)
	}
	if d.bad || e.method == 0 || ms > uint64(24*time.Hour/time.Millisecond) {
		return errFormat
	}
	e.timeout, e.body = time.Duration(ms)*time.Millisecond, d.b
	return nil
}

// A response is the version byte, a status, and the message (statusOK), an
// Error (statusError), or text (statusOther).
const (
	statusOK    = 0
	statusError = 1
	statusOther = 2
)
