package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// accept takes connections until Close.
func (t *Transport) accept() {
	for {
		conn, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: others may be closed soon.
			t.log.Error("accept", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.life.Done():
			}
			continue
		}
		select {
		case t.unidentified <- struct{}{}:
			if !t.goWork(func() { t.receive(conn) }) {
				conn.Close()
			}
		default:
			conn.Close()
		}
	}
}

// receive serves one connection.
func (t *Transport) receive(raw net.Conn) {
	defer raw.Close()
	conn, h, err := t.meet(raw)
	<-t.unidentified
	if err != nil {
		if t.life.Err() == nil {
			t.log.Warn("connection refused", "from", raw.RemoteAddr().String(), "error", err)
		}
		return
	}
	addr := addrOf(h.from.Node)
	c, err := t.track(conn, raw, addr)
	if err != nil {
		return
	}
	defer c.Close()
	if h.kind == kindRequests {
		t.answer(c, h)
		return
	}
	if f := t.raft.Load(); f != nil {
		(*f)(c, h.kind == kindSnapshot)
	}
}

// answer serves a connection for requests.
func (t *Transport) answer(c *tracked, h hello) {
	p, err := t.peer(c.addr)
	if err != nil {
		return
	}
	p.nudge() // it is alive
	s := newSession(newPipe(c, t.o.Beat, traffic{&p.in, &p.out}), h.from.Node, t.handle)
	s.served = &p.served
	if err := s.run(); t.life.Err() == nil {
		t.log.Debug("connection of node ended", "node", c.addr, "error", err)
	}
}

// meet encrypts a connection, hears who calls and answers.
func (t *Transport) meet(raw net.Conn) (net.Conn, hello, error) {
	ctx, cancel := context.WithTimeout(t.life, greetLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	conn := raw
	var h hello
	if t.o.TLS != nil {
		encrypted := tls.Server(raw, t.o.TLS.server())
		if err := encrypted.HandshakeContext(ctx); err != nil {
			var plain tls.RecordHeaderError
			if errors.As(err, &plain) {
				turnDown(raw, raw, welcome{versions: t.o.Versions, verdict: plaintext})
			}
			return nil, h, described(err)
		}
		conn = encrypted
	}
	own := t.o.Versions
	b, err := readOpening(conn, helloSize, own)
	if err != nil {
		return nil, h, described(err)
	}
	if b[0] == tlsHandshake {
		turnDown(raw, raw, welcome{versions: t.o.Versions, verdict: plaintext})
		return nil, h, fmt.Errorf("%w: the other side encrypts, this one has no certificate", ErrCertificate)
	}
	strange := h.decode(b, own)
	if strange != nil && !errors.Is(strange, ErrVersion) {
		return nil, h, strange
	}
	if t.isCut(addrOf(h.from.Node)) {
		return nil, h, errCut
	}
	self := t.o.Self()
	w := welcome{versions: own, verdict: self.judge(h, own), from: self}
	if w.verdict != accepted {
		turnDown(conn, raw, w)
		return nil, h, cmp.Or(strange, w.refusal())
	}
	_, err = conn.Write(w.append(nil))
	return conn, h, err
}

// tlsHandshake is the first byte of a side that encrypts.
const tlsHandshake = 22

// turnDown sends a refusal. A connection that is closed with bytes unread would
// take it along, so they are read.
func turnDown(conn, raw net.Conn, w welcome) {
	if _, err := conn.Write(w.append(nil)); err != nil {
		return
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	raw.SetReadDeadline(time.Now().Add(time.Second))
	io.Copy(io.Discard, io.LimitReader(raw, 4<<10))
}
