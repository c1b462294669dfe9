package shard

import (
	"context"
	"errors"
	"math"
	"sync"
)

// ReadManyBytes is how many bytes of rows, about, one answer of a ReadManyRequest has
// at most, beside its last read. What does not fit in is left out.
const ReadManyBytes = DefaultByteLimit

// ShardRead is a snapshot read on one shard, and what came of it: Response, or Err.
type ShardRead struct {
	Shard    ID
	Request  *ReadRequest
	Response *ReadResponse
	Err      error
}

// ReadManyRequest asks a node for reads on shards that it is believed to own. Each is
// done as if it had come in a message of its own.
type ReadManyRequest struct{ Parts []ReadPart }

// ReadPart is the same read on several shards.
type ReadPart struct {
	Shards  []ID
	Request ReadRequest
}

// ReadManyResponse has an answer for each shard of each part, in their order.
type ReadManyResponse struct{ Answers []ReadAnswer }

// ReadAnswer is what one read came to: Response, or Err, or neither if it was left
// out, which says nothing about its rows.
type ReadAnswer struct {
	Response *ReadResponse
	Err      error
}

// ReadMany carries out reads on several shards, each as Read would, with one message
// to each node instead of one for each shard. It returns when all have an answer.
func (r *Router) ReadMany(ctx context.Context, reads []ShardRead) {
	m := &manyReads{router: r, ctx: ctx}
	var here []*ShardRead
	for i := range reads {
		q := &reads[i]
		if local := r.local(q.Shard); local != nil && !r.encode {
			here = append(here, q)
		} else if !m.assign(q) {
			m.alone(q)
		}
	}
	for i := range m.nodes {
		g := &m.nodes[i]
		if i == len(m.nodes)-1 && len(here) == 0 {
			m.ask(g)
			continue
		}
		m.work.Go(func() { m.ask(g) })
	}
	m.together(here)
	m.work.Wait()
}

// manyReads is one ReadMany.
type manyReads struct {
	router *Router
	ctx    context.Context
	nodes  []nodeReads
	work   sync.WaitGroup
}

// nodeReads go to one node.
type nodeReads struct {
	addr  NodeAddr
	reads []*ShardRead
}

// assign puts a read with the others for its node; false if it must go alone.
func (m *manyReads) assign(q *ShardRead) bool {
	node := m.router.server.node
	if node == nil || !node.Active(VersionReadMany) && !mutated("0068.gate") {
		return false
	}
	addr, err := m.router.likely(q.Shard)
	if err != nil {
		return false
	}
	for i := range m.nodes {
		if m.nodes[i].addr == addr {
			m.nodes[i].reads = append(m.nodes[i].reads, q)
			return true
		}
	}
	m.nodes = append(m.nodes, nodeReads{addr, []*ShardRead{q}})
	return true
}

// alone hands a read to Read, which knows whom to ask next and for how long.
func (m *manyReads) alone(q *ShardRead) {
	m.work.Go(func() { q.Response, q.Err = m.router.Read(m.ctx, q.Shard, q.Request) })
}

// together carries out reads on shards that this node owns.
func (m *manyReads) together(here []*ShardRead) {
	if len(here) > 1 {
		reads := make([]hereRead, 0, len(here))
		for _, q := range here {
			reads = append(reads, hereRead{replica: m.router.server.Replica(q.Shard), q: q.Request})
		}
		readHere(m.ctx, reads, math.MaxInt, relaySlow)
		left := here[:0]
		for i, q := range here {
			if q.Response, q.Err = reads[i].response, reads[i].err; q.Response == nil && q.Err == nil {
				left = append(left, q)
			}
		}
		here = left
	}
	if len(here) > 0 {
		inRelay(m.ctx, len(here), func(ctx context.Context, i int) { m.readHere(ctx, here[i]) })
	}
}

func (m *manyReads) readHere(ctx context.Context, q *ShardRead) {
	local := m.router.local(q.Shard)
	if local == nil {
		m.alone(q)
		return
	}
	if q.Response, q.Err = local.Read(ctx, q.Request); CodeOf(q.Err) == NotOwner {
		m.alone(q)
	}
}

// ask sends a node its reads. Those that another node may answer, and all of them if
// the message fails, are repeated alone: a read can be.
func (m *manyReads) ask(g *nodeReads) {
	r := m.router
	if len(g.reads) == 1 {
		q := g.reads[0]
		q.Response, q.Err = r.Read(m.ctx, q.Shard, q.Request)
		return
	}
	response := &ReadManyResponse{}
	err := r.callNode(m.ctx, g.addr, System, methodReadMany, requestOf(g.reads), response)
	failed := err != nil || len(response.Answers) != len(g.reads)
	for i, q := range g.reads {
		switch {
		case failed && m.ctx.Err() != nil:
			q.Err = m.ctx.Err()
		case failed:
			if r.elsewhere(q.Shard, methodRead, err) {
				r.mistaken(q.Shard, g.addr, err, []NodeAddr{g.addr})
			}
			m.alone(q)
		default:
			m.take(g.addr, q, response.Answers[i])
		}
	}
}

func (m *manyReads) take(addr NodeAddr, q *ShardRead, a ReadAnswer) {
	if m.router.elsewhere(q.Shard, methodRead, a.Err) {
		m.router.mistaken(q.Shard, addr, a.Err, []NodeAddr{addr})
		m.alone(q)
		return
	}
	var e *Error
	switch {
	case a.Err == nil && a.Response == nil && mutated("0068.left-out-is-empty"):
		q.Response = &ReadResponse{}
	case a.Err == nil && a.Response == nil:
		m.alone(q)
	case a.Err != nil && !errors.As(a.Err, &e) && m.ctx.Err() != nil:
		q.Err = m.ctx.Err()
	default:
		q.Response, q.Err = a.Response, a.Err
	}
}

// requestOf puts reads into one message; neighbours with the same request share it.
func requestOf(reads []*ShardRead) *ReadManyRequest {
	m := &ReadManyRequest{}
	var last *ReadRequest
	for _, q := range reads {
		if q.Request != last {
			m.Parts = append(m.Parts, ReadPart{Request: *q.Request})
			last = q.Request
		}
		p := &m.Parts[len(m.Parts)-1]
		p.Shards = append(p.Shards, q.Shard)
	}
	return m
}

// readMany answers reads on shards of this node.
func (s *Server) readMany(ctx context.Context, m *ReadManyRequest) (*ReadManyResponse, error) {
	type read struct {
		shard   ID
		request *ReadRequest
	}
	var reads []read
	for i := range m.Parts {
		for _, id := range m.Parts[i].Shards {
			reads = append(reads, read{id, &m.Parts[i].Request})
		}
	}
	if len(reads) == 0 {
		return nil, &Error{Code: BadRequest, Detail: "no reads"}
	}
	response := &ReadManyResponse{Answers: make([]ReadAnswer, len(reads))}
	var room sync.Mutex
	left := ReadManyBytes
	here := make([]hereRead, len(reads))
	for i, q := range reads {
		here[i] = hereRead{replica: s.Replica(q.shard), q: q.request}
	}
	readHere(ctx, here, left, relaySlow)
	open := make([]int, 0, len(reads))
	for i := range here {
		answer := ReadAnswer{Response: here[i].response, Err: here[i].err}
		if response.Answers[i] = answer; answer.open() {
			open = append(open, i)
		}
		left -= answer.size()
	}
	if len(open) == 0 {
		return response, nil
	}
	inRelay(ctx, len(open), func(ctx context.Context, i int) {
		i = open[i]
		room.Lock()
		full := left <= 0
		room.Unlock()
		if full {
			return
		}
		answer := s.readOne(ctx, reads[i].shard, reads[i].request)
		room.Lock()
		defer room.Unlock()
		if left <= 0 {
			return // others have filled it meanwhile
		}
		left -= answer.size()
		response.Answers[i] = answer
	})
	return response, nil
}

// readOne is the whole of a ReadRequest of its own.
func (s *Server) readOne(ctx context.Context, id ID, q *ReadRequest) ReadAnswer {
	response, err := s.Dispatch(ctx, id, q)
	if err != nil {
		return ReadAnswer{Err: err}
	}
	return ReadAnswer{Response: response.(*ReadResponse)}
}

// open tells whether the read has no answer.
func (a *ReadAnswer) open() bool { return a.Response == nil && a.Err == nil }

func (a *ReadAnswer) size() int {
	if a.Response == nil {
		return 0
	}
	return a.Response.size()
}

// size is about the number of bytes of the encoding.
func (m *ReadResponse) size() int {
	n := 8 + len(m.Resume)
	for i := range m.Rows {
		n += 16 + len(m.Rows[i].Key) + len(m.Rows[i].Value)
	}
	return n
}

func (m *ReadManyResponse) size() int {
	n := 8
	for i := range m.Answers {
		n += 2 + m.Answers[i].size()
	}
	return n
}

// AppendBinary appends the encoding.
func (m *ReadManyRequest) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Parts)))
	for i := range m.Parts {
		b = m.Parts[i].Request.appendFields(appendIDs(b, m.Parts[i].Shards))
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *ReadManyRequest) Decode(b []byte) error {
	d := newDecoder(b)
	m.Parts = list(&d, func(d *decoder) ReadPart {
		p := ReadPart{Shards: d.ids()}
		p.Request.decodeFields(d)
		return p
	})
	return d.done()
}

// What stands in front of an answer in a ReadManyResponse.
const (
	answerLeftOut = iota
	answerRows
	answerError
	answerText
)

// AppendBinary appends the encoding.
func (m *ReadManyResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Answers)))
	for i := range m.Answers {
		a := &m.Answers[i]
		var e *Error
		switch {
		case a.Response != nil:
			b = a.Response.appendFields(append(b, answerRows))
		case a.Err == nil:
			b = append(b, answerLeftOut)
		case errors.As(a.Err, &e):
			b = e.appendFields(append(b, answerError))
		default:
			b = appendString(append(b, answerText), a.Err.Error())
		}
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *ReadManyResponse) Decode(b []byte) error {
	d := newDecoder(b)
	m.Answers = list(&d, (*decoder).answer)
	return d.done()
}

func (d *decoder) answer() (a ReadAnswer) {
	switch d.byte() {
	case answerLeftOut:
	case answerRows:
		a.Response = &ReadResponse{}
		a.Response.decodeFields(d)
	case answerError:
		e := &Error{}
		e.decodeFields(d)
		a.Err = e
	case answerText:
		a.Err = errors.New(d.string())
	default:
		d.unknown()
	}
	return a
}
