package transport

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// session is a connection on which another node sends requests.
type session struct {
	*pipe
	base   context.Context // knows the caller; never ends
	handle func() func(context.Context, []byte) []byte
	served *atomic.Uint64

	running struct {
		sync.Mutex
		cancels map[uint64]context.CancelFunc
	}
	handlers sync.WaitGroup
}

type callerKey struct{}

// Caller tells a handler which node asks; 0 is one that has no id yet.
func Caller(ctx context.Context) uint64 {
	node, _ := ctx.Value(callerKey{}).(uint64)
	return node
}

func newSession(p *pipe, from uint64, handle func() func(context.Context, []byte) []byte) *session {
	s := &session{pipe: p, base: context.WithValue(context.Background(), callerKey{}, from), handle: handle}
	s.running.cancels = make(map[uint64]context.CancelFunc)
	p.take = s.takeRequest
	return s
}

// run serves the session until it ends, then ends the contexts of its handlers
// and waits for them.
func (s *session) run() error {
	err := s.pipe.run()
	s.running.Lock()
	for _, cancel := range s.running.cancels {
		if !mutated("T3.handlers-left") {
			cancel()
		}
	}
	s.running.Unlock()
	s.handlers.Wait()
	return err
}

// takeRequest is the pipe's take.
func (s *session) takeRequest(h header, payload []byte) error {
	switch h.kind {
	case frameRequest:
		ctx, ok := s.begin(h.id)
		if !ok {
			return fmt.Errorf("%w: request %d twice", ErrProtocol, h.id)
		}
		s.served.Add(1)
		s.handlers.Add(1)
		go s.serve(ctx, h.id, payload)
	case frameCancel:
		s.running.Lock()
		cancel := s.running.cancels[h.id]
		s.running.Unlock()
		if cancel != nil {
			cancel()
		}
	default:
		return fmt.Errorf("%w: frame of kind %d from a side that asks", ErrProtocol, h.kind)
	}
	return nil
}

// begin makes the context of a handler; false if the number is in use.
func (s *session) begin(id uint64) (context.Context, bool) {
	s.running.Lock()
	defer s.running.Unlock()
	if s.running.cancels[id] != nil {
		return nil, false
	}
	ctx, cancel := context.WithCancel(s.base)
	s.running.cancels[id] = cancel
	return ctx, true
}

// serve answers one request. An answer that cannot be sent is dropped: the
// caller has gone.
func (s *session) serve(ctx context.Context, id uint64, request []byte) {
	defer s.handlers.Done()
	kind, response := s.respond(ctx, request)
	s.running.Lock()
	cancel := s.running.cancels[id]
	delete(s.running.cancels, id)
	s.running.Unlock()
	cancel()
	s.out.addWithRoom(kind, id, response)
}

func (s *session) respond(ctx context.Context, request []byte) (frameKind, []byte) {
	handle := s.handle()
	if handle == nil {
		return frameRefusal, []byte("it is starting or stopping")
	}
	response := handle(ctx, request)
	if len(response) > MaxMessage {
		return frameRefusal, fmt.Appendf(nil, "the response has %d bytes", len(response))
	}
	return frameResponse, response
}
