package shard

import (
	"time"
)

// AdvisoryOp is what an AdvisoryRequest or a command of kind Advisory does. The
// numbers are part of the formats.
type AdvisoryOp uint8

const (
	// AdvisoryGet takes Name for the session, waiting up to Timeout.
	AdvisoryGet AdvisoryOp = 1
	// AdvisoryRelease gives Name up if the session holds it.
	AdvisoryRelease AdvisoryOp = 2
	// AdvisoryReleaseAll gives up everything that the session holds.
	AdvisoryReleaseAll AdvisoryOp = 3
	// AdvisoryEnd is AdvisoryReleaseAll of a session that is over.
	AdvisoryEnd AdvisoryOp = 4
	// AdvisoryExpire takes everything from a gateway that has fallen silent. The
	// owner decides it; there is no such request.
	AdvisoryExpire AdvisoryOp = 5
	// AdvisorySucceed says that the gateway is a new life of its node: what
	// earlier lives held is free, and none of them can take anything any more.
	AdvisorySucceed AdvisoryOp = 6
	// AdvisoryLook asks who holds Name; AdvisoryList for everything. They are
	// requests only and never reach the log.
	AdvisoryLook AdvisoryOp = 7
	AdvisoryList AdvisoryOp = 8
)

// AdvisorySession names a session that takes advisory locks. Number is never
// used twice by one gateway; a connection that is reset gets a new one.
type AdvisorySession struct{ Gateway, Number uint64 }

// AdvisoryHolder is the grant of an advisory lock.
type AdvisoryHolder struct {
	Session AdvisorySession
	// Connection is what the gateway calls the session towards its clients.
	Connection uint64
	// Token is the index in the system shard's log at which the grant was made:
	// whoever holds the lock later has a larger one.
	Token uint64
	// Since is when the owner proposed the grant, in milliseconds of Unix time.
	Since uint64
}

// AdvisoryChange is what a command of kind Advisory carries.
type AdvisoryChange struct {
	Op         AdvisoryOp
	Session    AdvisorySession
	Connection uint64
	// Seq numbers the session's changes. The state machine ignores one that is
	// not above the last (H16): a copy of a GET_LOCK that arrives late takes
	// nothing.
	Seq   uint64
	Since uint64
	Name  string
}

// AdvisoryRequest is one step of a session with its advisory locks. It goes to
// the system shard.
type AdvisoryRequest struct {
	Op         AdvisoryOp
	Session    AdvisorySession
	Connection uint64
	Seq        uint64
	Name       string
	// Token is that of the grant which the session has already (AdvisoryGet).
	// While it stands, the answer needs no entry in the log.
	Token uint64
	// Timeout bounds the wait of AdvisoryGet: 0 waits for nobody, a negative
	// one for ever.
	Timeout time.Duration
}

// AdvisoryResponse answers an AdvisoryRequest.
type AdvisoryResponse struct {
	// Stale: the request's Seq was not above the last, it did nothing and never
	// will. The same step may be sent again under a higher number.
	Stale bool
	// Holder has Name after the request, nil if nobody has.
	Holder *AdvisoryHolder
	// Released is how many locks were given up.
	Released int
	Locks    []AdvisoryLock // AdvisoryList: by name
}

// AdvisoryLock is a lock that is held, with those who wait for it in their order.
type AdvisoryLock struct {
	Name    string
	Holder  AdvisoryHolder
	Waiters []AdvisoryWaiter
}

// AdvisoryWaiter is a session in the queue of an advisory lock.
type AdvisoryWaiter struct {
	Session    AdvisorySession
	Connection uint64
}

func (d *decoder) advisorySession() AdvisorySession {
	return AdvisorySession{Gateway: d.uint(), Number: d.uint()}
}

func appendAdvisorySession(b []byte, s AdvisorySession) []byte {
	return appendUint(appendUint(b, s.Gateway), s.Number)
}

func (d *decoder) advisoryOp() AdvisoryOp {
	op := AdvisoryOp(d.byte())
	if op == 0 || op > AdvisoryList {
		d.fail()
	}
	return op
}

func appendHolder(b []byte, h *AdvisoryHolder) []byte {
	b = appendUint(appendAdvisorySession(b, h.Session), h.Connection)
	return appendUint(appendUint(b, h.Token), h.Since)
}

func (d *decoder) holder() AdvisoryHolder {
	return AdvisoryHolder{Session: d.advisorySession(), Connection: d.uint(), Token: d.uint(), Since: d.uint()}
}

func appendOptionalHolder(b []byte, h *AdvisoryHolder) []byte {
	if h == nil {
		return append(b, 0)
	}
	return appendHolder(append(b, 1), h)
}

func (d *decoder) optionalHolder() *AdvisoryHolder {
	if !d.bool() {
		return nil
	}
	h := d.holder()
	return &h
}

func (c *AdvisoryChange) appendBinary(b []byte) []byte {
	b = appendUint(appendAdvisorySession(append(b, byte(c.Op)), c.Session), c.Connection)
	return appendString(appendUint(appendUint(b, c.Seq), c.Since), c.Name)
}

func (d *decoder) advisoryChange() AdvisoryChange {
	return AdvisoryChange{Op: d.advisoryOp(), Session: d.advisorySession(), Connection: d.uint(), Seq: d.uint(),
		Since: d.uint(), Name: d.string()}
}

// AppendBinary appends the encoding.
func (m *AdvisoryRequest) AppendBinary(b []byte) []byte {
	b = appendAdvisorySession(append(b, formatVersion, byte(m.Op)), m.Session)
	b = appendString(appendUint(appendUint(b, m.Connection), m.Seq), m.Name)
	return appendUint(appendUint(b, m.Token), uint64(m.Timeout))
}

// Decode reads what AppendBinary wrote.
func (m *AdvisoryRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = AdvisoryRequest{Op: d.advisoryOp(), Session: d.advisorySession(), Connection: d.uint(), Seq: d.uint(),
		Name: d.string(), Token: d.uint(), Timeout: d.duration()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *AdvisoryResponse) AppendBinary(b []byte) []byte {
	b = appendOptionalHolder(appendBool(append(b, formatVersion), m.Stale), m.Holder)
	b = appendUint(appendUint(b, uint64(m.Released)), uint64(len(m.Locks)))
	for i := range m.Locks {
		l := &m.Locks[i]
		b = appendUint(appendHolder(appendString(b, l.Name), &l.Holder), uint64(len(l.Waiters)))
		for _, w := range l.Waiters {
			b = appendUint(appendAdvisorySession(b, w.Session), w.Connection)
		}
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *AdvisoryResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = AdvisoryResponse{Stale: d.bool(), Holder: d.optionalHolder(), Released: d.small()}
	m.Locks = list(&d, func(d *decoder) AdvisoryLock {
		l := AdvisoryLock{Name: d.string(), Holder: d.holder()}
		l.Waiters = list(d, func(d *decoder) AdvisoryWaiter {
			return AdvisoryWaiter{Session: d.advisorySession(), Connection: d.uint()}
		})
		return l
	})
	return d.done()
}
