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
	// largeBytes is the size from which a frame is copied into a buffer of its
	// own, without holding the others up.
	largeBytes = 64 << 10
	// queuedBytes is how much may wait before answers wait themselves.
	queuedBytes = 16 << 20
)

// outbox gathers the frames that go out on a connection. One goroutine writes:
// what came while it wrote goes out together in its next write.
type outbox struct {
	wake chan struct{}
	mu   struct {
		sync.Mutex
		queue  [][]byte // of frames; small ones share buffers
		open   bool     // the last buffer takes more small frames
		spare  []byte
		put    uint64 // bytes ever put in
		sent   uint64 // bytes of them that were written
		taken  uint64 // bytes of them that the writer has taken
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
	var own []byte
	if len(payload) >= largeBytes {
		own = append(append(make([]byte, 0, headerSize+len(payload)), head...), payload...)
	}
	o.mu.Lock()
	for wait && o.mu.put-o.mu.taken > queuedBytes && !o.mu.closed {
		o.mu.room.Wait()
	}
	if o.mu.closed {
		o.mu.Unlock()
		return 0, errOutboxClosed
	}
	first := len(o.mu.queue) == 0
	if own != nil {
		o.mu.queue, o.mu.open = append(o.mu.queue, own), false
	} else {
		o.share(head, payload)
	}
	o.mu.put += uint64(headerSize + len(payload))
	mark := o.mu.put
	o.mu.Unlock()
	if first {
		o.ring()
	}
	return mark, nil
}

// share puts a small frame into the last buffer.
func (o *outbox) share(head, payload []byte) {
	if !o.mu.open {
		o.mu.queue, o.mu.open = append(o.mu.queue, o.mu.spare[:0]), true
		o.mu.spare = nil
	}
	last := &o.mu.queue[len(o.mu.queue)-1]
	*last = append(append(*last, head...), payload...)
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
	var batches [][]byte
	for range o.wake {
		runtime.Gosched() // callers that are ready to run put their frames in first
		batches = o.take(batches)
		if batches == nil {
			return errOutboxClosed
		}
		for i, batch := range batches {
			if _, err := conn.Write(batch); err != nil {
				return err
			}
			o.written(len(batch))
			o.keep(batch)
			batches[i] = nil
		}
	}
	return nil
}

// take returns what waits and leaves an emptied list in its place. It returns
// nil when the outbox is closed.
func (o *outbox) take(emptied [][]byte) [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.closed {
		return nil
	}
	taken := o.mu.queue
	if taken == nil {
		taken = [][]byte{}
	}
	o.mu.queue, o.mu.open, o.mu.taken = emptied[:0], false, o.mu.put
	o.mu.room.Broadcast()
	return taken
}

// keep saves a buffer for frames to come.
func (o *outbox) keep(buffer []byte) {
	if cap(buffer) > spareBytes {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if cap(o.mu.spare) < cap(buffer) {
		o.mu.spare = buffer
	}
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
	o.mu.debts, o.mu.queue = nil, nil
	o.mu.room.Broadcast()
	o.mu.Unlock()
	o.ring()
	for _, d := range due {
		d.do()
	}
}
