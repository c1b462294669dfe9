package dragon

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// Wire connects a host with others over connections that somebody else opens,
// proves and accepts.
type Wire interface {
	// Dial opens a connection to the host at an address that Options.Resolve
	// returned. snapshot tells the two kinds of traffic apart.
	Dial(ctx context.Context, address string, snapshot bool) (net.Conn, error)
	// Serve says who takes the connections that other hosts opened, each on a
	// goroutine of its own; nil is nobody. A connection is closed when f returns.
	Serve(f func(conn net.Conn, snapshot bool))
}

const (
	// wireBeat is the distance of the bytes by which the receiving side of a
	// connection says that it is alive, wireSilence how long their absence is
	// borne. A connection that died without a word would otherwise take up
	// messages until the kernel's buffers are full, and go on only when it tries
	// again, long after the network is whole.
	wireBeat    = 500 * time.Millisecond
	wireSilence = 5 * wireBeat
	// wireWrite bounds the wait for a host that is alive and does not read.
	wireWrite = 10 * time.Second
	// wireFarewell bounds the wait for the receipt of a snapshot.
	wireFarewell = 10 * time.Second
)

// What the receiving side of a connection says.
const (
	wireAlive byte = 1
	wireDone  byte = 2 // everything up to the end was handled
)

// wireFactory makes a host's end of a wire.
type wireFactory struct {
	wire Wire
	pace *pace
}

var _ config.TransportFactory = wireFactory{}

func (f wireFactory) Create(_ config.NodeHostConfig, m raftio.MessageHandler, c raftio.ChunkHandler) raftio.ITransport {
	w := &wireEnd{wire: f.wire, pace: f.pace, message: m, chunk: c}
	w.mu.conns = make(map[net.Conn]struct{})
	return w
}

func (wireFactory) Validate(address string) bool { return address != "" }

// wireEnd is a host's end: it opens connections for what goes out and reads
// those that others opened.
type wireEnd struct {
	wire    Wire
	pace    *pace
	message raftio.MessageHandler
	chunk   raftio.ChunkHandler
	readers sync.WaitGroup
	mu      struct {
		sync.Mutex
		conns  map[net.Conn]struct{} // that others opened
		closed bool
	}
}

var _ raftio.ITransport = (*wireEnd)(nil)

func (w *wireEnd) Name() string { return "wire" }

func (w *wireEnd) Start() error {
	w.wire.Serve(w.serve)
	return nil
}

// Close ends what others opened and waits for its handlers. Dragonboat has
// closed its own connections before.
func (w *wireEnd) Close() error {
	w.wire.Serve(nil)
	w.mu.Lock()
	w.mu.closed = true
	for c := range w.mu.conns {
		c.Close()
	}
	w.mu.Unlock()
	w.readers.Wait()
	return nil
}

// serve reads a connection that another host opened.
func (w *wireEnd) serve(conn net.Conn, _ bool) {
	w.mu.Lock()
	if w.mu.closed {
		w.mu.Unlock()
		return
	}
	w.mu.conns[conn] = struct{}{}
	w.readers.Add(1)
	w.mu.Unlock()
	defer func() {
		conn.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.mu.conns, conn)
		w.readers.Done()
	}()
	ended := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() { sayAlive(conn, ended) })
	w.read(conn)
	close(ended)
	beating.Wait()
}

// sayAlive tells the sending side that this host lives.
func sayAlive(conn net.Conn, ended chan struct{}) {
	ticker := time.NewTicker(wireBeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ended:
			return
		}
		conn.SetWriteDeadline(time.Now().Add(wireWrite))
		if _, err := conn.Write([]byte{wireAlive}); err != nil {
			conn.Close() // ends read
			return
		}
	}
}

// read hands on what comes, until the connection ends or something on it is
// damaged: the sender connects anew, and sends again what matters.
func (w *wireEnd) read(conn net.Conn) {
	frames := newFrameReader(conn)
	for {
		kind, payload, err := frames.next()
		if err != nil {
			return
		}
		switch kind {
		case frameBatch:
			var batch raftpb.MessageBatch
			if batch.Unmarshal(payload) != nil {
				return
			}
			w.message(batch)
		case frameChunk:
			var chunk raftpb.Chunk
			if chunk.Unmarshal(payload) != nil || !w.chunk(chunk) {
				return
			}
		case frameEnd:
			conn.SetWriteDeadline(time.Now().Add(wireWrite))
			conn.Write([]byte{wireDone})
			return
		}
	}
}

func (w *wireEnd) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	return w.open(ctx, target, false)
}

func (w *wireEnd) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	return w.open(ctx, target, true)
}

func (w *wireEnd) open(ctx context.Context, target string, snapshot bool) (*wireConnection, error) {
	conn, err := w.wire.Dial(ctx, target, snapshot)
	if err != nil {
		return nil, fmt.Errorf("dragon: connect to %s: %w", target, err)
	}
	c := &wireConnection{conn: conn, snapshot: snapshot, pace: w.pace, done: make(chan struct{}), ended: make(chan struct{})}
	// Dragonboat ends ctx when it closes; a write under way must not hold it up.
	c.release = context.AfterFunc(ctx, func() { conn.Close() })
	go c.listen()
	return c, nil
}

// wireConnection sends to one host.
type wireConnection struct {
	conn     net.Conn
	snapshot bool
	pace     *pace // of snapshots
	release  func() bool
	buf      []byte
	done     chan struct{} // closed when the other side has handled everything
	ended    chan struct{} // closed when nothing will be heard any more
}

// listen hears whether the other side is alive and closes the connection when
// it is not.
func (c *wireConnection) listen() {
	defer close(c.ended)
	defer c.conn.Close()
	b := make([]byte, 64)
	for {
		c.conn.SetReadDeadline(time.Now().Add(wireSilence))
		n, err := c.conn.Read(b)
		for _, said := range b[:n] {
			if said == wireDone {
				close(c.done)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *wireConnection) SendMessageBatch(batch raftpb.MessageBatch) error {
	return c.send(frameBatch, batch.SizeUpperLimit(), &batch)
}

func (c *wireConnection) SendChunk(chunk raftpb.Chunk) error {
	return c.send(frameChunk, chunk.Size(), &chunk)
}

func (c *wireConnection) send(kind frameKind, size int, m raftpb.Marshaler) (err error) {
	if c.buf, err = appendFrame(c.buf[:0], kind, size, m); err != nil {
		return err
	}
	err = c.write(c.buf)
	if cap(c.buf) > keptBytes {
		c.buf = nil
	}
	return err
}

// writeBytes is how much must be taken up within wireWrite.
const writeBytes = 256 << 10

func (c *wireConnection) write(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), writeBytes)]
		if c.snapshot {
			c.pace.wait(len(part), c.ended)
		}
		c.conn.SetWriteDeadline(time.Now().Add(wireWrite))
		n, err := c.conn.Write(part)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Close waits, for a snapshot, until the other side has handled it: closed with
// answers unread, a connection may take along what was sent last.
func (c *wireConnection) Close() {
	if c.snapshot && c.write(appendEnd(c.buf[:0])) == nil {
		select {
		case <-c.done:
		case <-c.ended:
		case <-time.After(wireFarewell):
		}
	}
	c.release()
	c.conn.Close()
	<-c.ended
}
