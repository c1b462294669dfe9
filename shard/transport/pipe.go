package transport

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// silentBeats is how many of its own heartbeats a side sends without hearing
// anything before it gives the other side up. It counts beats and no clock, so
// that a process that was stopped does not blame the others when it goes on.
const silentBeats = 5

// readBytes is the size of the buffer in front of a connection.
const readBytes = 64 << 10

// traffic counts bytes.
type traffic struct{ in, out *atomic.Uint64 }

// pipe carries frames both ways over a connection until one side ends it.
type pipe struct {
	conn net.Conn
	out  *outbox
	beat time.Duration
	// take gets every frame but heartbeats, one at a time. It must not wait for
	// the other side. An error ends the pipe.
	take    func(h header, payload []byte) error
	counted traffic
	heard   atomic.Uint64
	// listening is set while the reader waits for bytes. A reader that has not
	// come to it, for a large frame, is no proof of silence.
	listening atomic.Bool

	mu struct {
		sync.Mutex
		err error // why the pipe ended
	}
}

func newPipe(conn net.Conn, beat time.Duration, counted traffic) *pipe {
	return &pipe{conn: conn, out: newOutbox(), beat: beat, counted: counted}
}

// run serves the pipe and returns why it ended. No goroutine is left then.
func (p *pipe) run() error {
	ended := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { p.end(p.out.write(counting{p})) })
	helpers.Go(func() { p.keepAlive(ended) })
	p.end(p.read())
	close(ended)
	helpers.Wait()
	return p.cause()
}

func (p *pipe) read() error {
	r := bufio.NewReaderSize(counting{p}, readBytes)
	for {
		h, payload, err := readFrame(r)
		if err != nil {
			return err
		}
		if h.kind == frameHeartbeat {
			continue
		}
		if err := p.take(h, payload); err != nil {
			return err
		}
	}
}

// keepAlive says something now and then, and listens whether the other side
// does.
func (p *pipe) keepAlive(ended chan struct{}) {
	ticker := time.NewTicker(p.beat)
	defer ticker.Stop()
	last, silent := p.heard.Load(), 0
	for {
		select {
		case <-ticker.C:
		case <-ended:
			return
		}
		if heard := p.heard.Load(); heard != last || !p.listening.Load() {
			last, silent = heard, 0
		} else if silent++; silent >= silentBeats && !mutated("T3.silence-borne") {
			p.end(errSilent)
			return
		}
		p.out.add(frameHeartbeat, 0, nil) // the pipe has ended if it fails
	}
}

// end closes the pipe. The first reason counts.
func (p *pipe) end(err error) {
	p.mu.Lock()
	if p.mu.err == nil {
		p.mu.err = err
	}
	p.mu.Unlock()
	p.out.close()
	p.conn.Close()
}

func (p *pipe) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// counting is the pipe's connection with its bytes counted.
type counting struct{ *pipe }

func (c counting) Read(b []byte) (int, error) {
	c.listening.Store(true)
	n, err := c.conn.Read(b)
	c.listening.Store(false)
	if n > 0 {
		c.heard.Add(1)
		c.counted.in.Add(uint64(n))
	}
	return n, err
}

// writeBytes is how much is handed to the kernel at once, so that sides that
// read slowly are seen to read at all.
const writeBytes = 256 << 10

func (c counting) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := c.conn.Write(b[written:min(len(b), written+writeBytes)])
		written += n
		c.counted.out.Add(uint64(n))
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
