package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Server answers encoded requests with the replicas of a node.
type Server struct {
	// Replica returns the node's replica of a shard, nil if it has none.
	Replica func(ID) *Replica

	node *Node // for what is asked of nodes, not of replicas

	requests struct { // being served
		sync.Mutex
		sync.WaitGroup
		closed bool
		last   int
		cancel map[int]context.CancelFunc
	}
}

// begin lets a request in, with a context that ends with the service.
func (s *Server) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	s.requests.Lock()
	defer s.requests.Unlock()
	if s.requests.closed {
		return nil, nil, &Error{Code: NotOwner, Detail: "the node is closed"}
	}
	ctx, cancel := context.WithCancel(ctx)
	s.requests.last++
	number := s.requests.last
	if s.requests.cancel == nil {
		s.requests.cancel = make(map[int]context.CancelFunc)
	}
	s.requests.cancel[number] = cancel
	s.requests.Add(1)
	return ctx, func() {
		cancel()
		s.requests.Lock()
		delete(s.requests.cancel, number)
		s.requests.Unlock()
		s.requests.Done()
	}, nil
}

// close refuses requests from here on and waits for those that are being served:
// afterwards nobody reads the engine on behalf of another node.
func (s *Server) close() {
	s.requests.Lock()
	s.requests.closed = true
	for _, cancel := range s.requests.cancel {
		cancel()
	}
	s.requests.Unlock()
	s.requests.Wait()
}

// Serve carries an encoded request out and returns the encoded response. It
// never panics on malformed requests and never returns nil.
func (s *Server) Serve(ctx context.Context, request []byte) []byte {
	var e envelope
	if err := e.decode(request); err != nil {
		return encodeError(nil, unreadable(err))
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return encodeError(nil, err)
	}
	defer end()
	if e.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	q := newRequest(e.method)
	if err := q.Decode(e.body); err != nil {
		return encodeError(nil, unreadable(fmt.Errorf("method %d: %w", e.method, err)))
	}
	return encoded(s.dispatch(ctx, e.method, e.shard, q))
}

// encoded is what is answered to a request that was carried out.
func encoded(response Message, err error) []byte {
	if err != nil {
		return encodeError(nil, err)
	}
	return encodeResponse(response)
}

// encodeResponse makes room for all of an answer with rows at once.
func encodeResponse(m Message) []byte {
	size := 64
	if sized, ok := m.(interface{ size() int }); ok {
		size = sized.size()
	}
	return m.AppendBinary(append(make([]byte, 0, 2+size), formatVersion, statusOK))
}

// unreadable is the answer to what cannot be decoded. Nothing was done, and the caller
// can tell: it may be a newer release, which asked without Node.Active.
func unreadable(err error) error {
	return &Error{Code: BadRequest, Detail: fmt.Sprintf("%v; this node speaks version %s", err, Supported())}
}

func encodeError(b []byte, err error) []byte {
	var e *Error
	if errors.As(err, &e) {
		return e.AppendBinary(append(b, formatVersion, statusError))
	}
	return append(append(b, formatVersion, statusOther), err.Error()...)
}

// decodeResponse reads what Serve returned into m.
func decodeResponse(b []byte, m Message) error {
	if len(b) < 2 || b[0] != formatVersion {
		return errFormat
	}
	switch b[1] {
	case statusOK:
		return m.Decode(b[2:])
	case statusError:
		e := &Error{}
		if err := e.Decode(b[2:]); err != nil {
			return err
		}
		return e
	case statusOther:
		return errors.New(string(b[2:]))
	}
	return errFormat
}

func newRequest(m method) Message {
	switch m {
	case methodTimestamp:
		return &TimestampRequest{}
	case methodRead:
		return &ReadRequest{}
	case methodLock:
		return &LockRequest{}
	case methodOnePC:
		return &OnePCRequest{}
	case methodPrepare:
		return &PrepareRequest{}
	case methodResolve:
		return &ResolveRequest{}
	case methodCloseVote:
		return &CloseVoteRequest{}
	case methodRelease:
		return &ReleaseRequest{}
	case methodRenew:
		return &RenewRequest{}
	case methodUndecided:
		return &UndecidedRequest{}
	case methodLocks:
		return &LocksRequest{}
	case methodRaiseFence:
		return &FenceRequest{}
	case methodRaiseSchema:
		return &SchemaRequest{}
	case methodCollect:
		return &CollectRequest{}
	case methodOldest:
		return &OldestRequest{}
	case methodAdvisory:
		return &AdvisoryRequest{}
	case methodStage:
		return &StageRequest{}
	case methodTakeOver:
		return &TakeOverRequest{}
	case methodLookVote:
		return &LookVoteRequest{}
	case methodWaits:
		return &WaitsRequest{}
	case methodSequence:
		return &SequenceRequest{}
	case methodClose:
		return &CloseRequest{}
	case methodRegister, methodJoin:
		return &RegisterRequest{}
	case methodHeartbeat:
		return &HeartbeatRequest{}
	case methodSetting:
		return &SettingRequest{}
	case methodSeat:
		return &SeatRequest{}
	case methodPing:
		return &PingRequest{}
	case methodStart:
		return &StartRequest{}
	case methodService:
		return &ServiceRequest{}
	case methodState:
		return &StateRequest{}
	case methodLoads:
		return &LoadsRequest{}
	case methodReadMany:
		return &ReadManyRequest{}
	case methodReduce:
		return &ReduceRequest{}
	case methodReadFiltered:
		return &FilteredRead{}
	case methodBundle:
		return &bundle{}
	case methodTakeOverTogether:
		return &TakeOverTogetherRequest{}
	}
	panic(fmt.Sprintf("shard: method %d", m))
}

// dispatch tells the requests to a node, or to several of its replicas, from those to
// one.
func (s *Server) dispatch(ctx context.Context, m method, id ID, q Message) (Message, error) {
	switch m {
	case methodJoin, methodStart, methodService, methodState, methodLoads:
		if s.node == nil {
			return nil, &Error{Code: BadRequest, Shard: id, Detail: "no member of a cluster"}
		}
		return s.node.serve(ctx, q)
	case methodReadMany:
		return s.readMany(ctx, q.(*ReadManyRequest))
	case methodBundle:
		return s.bundle(ctx, q.(*bundle))
	case methodTakeOverTogether:
		return s.takeOverTogether(ctx, q.(*TakeOverTogetherRequest))
	}
	return s.Dispatch(ctx, id, q)
}

// Dispatch carries a decoded request out.
func (s *Server) Dispatch(ctx context.Context, id ID, q Message) (Message, error) {
	r := s.Replica(id)
	if r == nil {
		return nil, &Error{Code: NotOwner, Shard: id, Detail: "no replica here"}
	}
	switch q := q.(type) {
	case *TimestampRequest:
		t, err := r.Timestamps(ctx, uint64(max(q.Count, 1)))
		return &TimestampResponse{First: t}, err
	case *SequenceRequest:
		return r.Sequence(ctx, q)
	case *ReadRequest:
		return r.Read(ctx, q)
	case *ReduceRequest:
		return s.reduce(ctx, r, q)
	case *FilteredRead:
		return s.readFiltered(ctx, r, q)
	case *LockRequest:
		return r.Lock(ctx, q)
	case *OnePCRequest:
		return r.OnePC(ctx, q)
	case *PrepareRequest:
		return r.Prepare(ctx, q)
	case *ResolveRequest:
		return &Done{}, r.Resolve(ctx, q)
	case *CloseVoteRequest:
		return r.CloseVote(ctx, q)
	case *ReleaseRequest:
		return &Done{}, r.Release(q)
	case *RenewRequest:
		return &Done{}, r.Renew(q)
	case *UndecidedRequest:
		votes, err := r.Undecided(q.OlderThan)
		return &UndecidedResponse{Votes: votes}, err
	case *LocksRequest:
		infos, err := r.Locks()
		return &LocksResponse{Locks: infos}, err
	case *FenceRequest:
		return &Done{}, r.RaiseFence(ctx, q.Below)
	case *SchemaRequest:
		return &Done{}, r.RaiseSchema(ctx, q.Table, q.Version)
	case *CloseRequest:
		return &Done{}, r.CloseUpTo(ctx, q.At)
	case *CollectRequest:
		return &Done{}, r.Collect(ctx, q.Below)
	case *OldestRequest:
		return r.Oldest()
	case *AdvisoryRequest:
		return r.Advisory(ctx, q)
	case *StageRequest:
		return &Done{}, r.Stage(ctx, q)
	case *TakeOverRequest:
		return &Done{}, r.TakeOver(ctx, q)
	case *LookVoteRequest:
		return r.LookVote(ctx, q)
	case *WaitsRequest:
		return r.ReportWaits(q)
	case *PingRequest:
		_, err := r.current()
		return &Done{}, err
	}
	if s.node != nil {
		return s.node.serveShard(ctx, r, q)
	}
	panic(fmt.Sprintf("shard: request %T", q))
}
