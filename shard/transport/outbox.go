package transport

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

const (
	// spareBytes is how much of a buffer is kept for the next batch.
	spareBytes = 1 << 20
	// queuedBytes is how much may wait before answers wait themselves.
	queuedBytes = 16 << 20
)

// outbox gathers the frames that go out on a connection. One goroutine writes:
// what came while it wrote goes out together in its next write.
type outbox struct {
	wake chan struct{}
	mu   struct {
		sync.Mutex
		buf    []byte
		put    uint64 // bytes ever put in
		sent   uint64 // bytes of them that were written
		debts  []debt
		closed bool
		room   sync.Cond
	}
}

// debt is what is done once all bytes in front of a mark were written.
type debt struct {
	mark uint64
	do   func()
}

var errOutboxClosed = errors.New("connection is closed")

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1)}
	o.mu.room.L = &o.mu
	return o
}

// add puts a frame in and returns the mark of its end.
func (o *outbox) add(kind frameKind, id uint64, payload []byte) (mark uint64, err error) {
	return o.append(kind, id, payload, false)
}

// addWithRoom waits while too much waits in front of the frame.
func (o *outbox) addWithRoom(kind frameKind, id uint64, payload []byte) error {
	_, err := o.append(kind, id, payload, true)
	return err
}

func (o *outbox) append(kind frameKind, id uint64, payload []byte, wait bool) (uint64, error) {
	var space [headerSize]byte
	head := appendHeader(space[:0], kind, id, payload)
	o.mu.Lock()
	for wait && len(o.mu.buf) > queuedBytes && !o.mu.closed {
		o.mu.room.Wait()
	}
	if o.mu.closed {
		o.mu.Unlock()
		return 0, errOutboxClosed
	}
	first := len(o.mu.buf) == 0
	o.mu.buf = append(append(o.mu.buf, head...), payload...)
	o.mu.put += uint64(headerSize + len(payload))
	mark := o.mu.put
	o.mu.Unlock()
	if first {
		o.ring()
	}
	return mark, nil
}

// ring wakes the writer.
func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// after does something once all in front of the mark was written, or will
// never be.
func (o *outbox) after(mark uint64, do func()) {
	o.mu.Lock()
	if !o.mu.closed && o.mu.sent < mark {
		o.mu.debts = append(o.mu.debts, debt{mark, do})
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	do()
}

// write sends batches until the connection fails or the outbox is closed.
func (o *outbox) write(conn io.Writer) error {
	var batch []byte
	for range o.wake {
		runtime.Gosched() // callers that are ready to run put their frames in first
		if batch = o.swap(batch); batch == nil {
			return errOutboxClosed
		}
		if len(batch) == 0 {
			continue
		}
		if _, err := conn.Write(batch); err != nil {
			return err
		}
		o.written(len(batch))
	}
	return nil
}

// swap takes what waits and leaves the old buffer in its place. It returns nil
// when the outbox is closed.
func (o *outbox) swap(old []byte) []byte {
	if cap(old) > spareBytes || old == nil {
		old = make([]byte, 0, 4<<10)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.closed {
		return nil
	}
	batch := o.mu.buf
	o.mu.buf = old[:0]
	o.mu.room.Broadcast()
	if batch == nil {
		batch = []byte{}
	}
	return batch
}

func (o *outbox) written(n int) {
	o.mu.Lock()
	o.mu.sent += uint64(n)
	var due, left []debt
	for _, d := range o.mu.debts {
		if d.mark <= o.mu.sent {
			due = append(due, d)
		} else {
			left = append(left, d)
		}
	}
	o.mu.debts = left
	o.mu.Unlock()
	for _, d := range due {
		d.do()
	}
}

// close drops what waits and ends write.
func (o *outbox) close() {
	o.mu.Lock()
	if o.mu.closed {
		o.mu.Unlock()
		return
	}
	o.mu.closed = true
	due := o.mu.debts
	o.mu.debts, o.mu.buf = nil, nil
	o.mu.room.Broadcast()
	o.mu.Unlock()
	o.ring()
	for _, d := range due {
		d.do()
	}
}
