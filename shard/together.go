package shard

import (
	"context"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// ShardVote is one shard's Prepare, and what came of it: Response, or Err, as of
// Router.Prepare.
type ShardVote struct {
	Shard    ID
	Request  *PrepareRequest
	Response *VoteResponse
	Err      error
}

// Together takes the Prepares of one transaction to its shards: those on this node
// reach the logs at one moment, those on another go there in one message, and reach
// its logs at one moment.
type Together struct {
	router *Router
	joint  *joint
	jobs   []votes
}

// votes are a job: those for the shards of another node, or one, for a shard of this
// node if it has a seat.
type votes struct {
	addr  NodeAddr
	votes []*ShardVote
	seat  *jointVote
}

// Together divides the Prepares into jobs, which must all be done at the same time,
// each on a goroutine of its own.
func (r *Router) Together(all []ShardVote) *Together {
	t := &Together{router: r}
	var here []*ShardVote
	for i := range all {
		v := &all[i]
		if r.local(v.Shard) != nil && !r.encode {
			here = append(here, v)
		} else if addr, ok := r.joinable(v.Shard); ok {
			t.assign(addr, v)
		} else {
			t.jobs = append(t.jobs, votes{votes: []*ShardVote{v}})
		}
	}
	t.joint = newJoint(len(here))
	for _, v := range here {
		t.jobs = append(t.jobs, votes{votes: []*ShardVote{v}, seat: t.joint.seat()})
	}
	return t
}

// assign puts a Prepare with the others for its node.
func (t *Together) assign(addr NodeAddr, v *ShardVote) {
	for i := range t.jobs {
		if j := &t.jobs[i]; j.addr == addr {
			j.votes = append(j.votes, v)
			return
		}
	}
	t.jobs = append(t.jobs, votes{addr: addr, votes: []*ShardVote{v}})
}

// Jobs is how many there are.
func (t *Together) Jobs() int { return len(t.jobs) }

// Do does one of the jobs.
func (t *Together) Do(ctx context.Context, i int) {
	j := &t.jobs[i]
	switch {
	case j.seat != nil:
		t.here(ctx, j.seat, j.votes[0])
	case len(j.votes) == 1:
		t.alone(ctx, j.votes[0])
	default:
		t.there(ctx, j)
	}
}

// alone hands a Prepare to Router.Prepare, which knows whom to ask next and for how
// long.
func (t *Together) alone(ctx context.Context, v *ShardVote) {
	v.Response, v.Err = t.router.Prepare(ctx, v.Shard, v.Request)
}

func (t *Together) here(ctx context.Context, seat *jointVote, v *ShardVote) {
	defer seat.leave()
	local := t.router.local(v.Shard)
	if local == nil {
		seat.leave()
		t.alone(ctx, v)
		return
	}
	v.Response, v.Err = local.prepare(ctx, v.Request, seat)
	seat.leave()
	if CodeOf(v.Err) == NotOwner {
		v.Response, v.Err = callFor[VoteResponse](ctx, t.router, v.Shard, methodPrepare, v.Request)
	}
}

// there sends Prepares to another node. One that this node did not carry out goes
// alone; one without an answer is not known to have been carried out or not, and is
// the caller's to find out.
func (t *Together) there(ctx context.Context, j *votes) {
	b := &bundle{parts: make([]bundled, len(j.votes))}
	responses := make([]Message, len(j.votes))
	for i, v := range j.votes {
		b.parts[i] = bundled{method: methodPrepare, shard: v.Shard, body: v.Request.AppendBinary(nil)}
		v.Response, v.Err = &VoteResponse{}, nil
		responses[i] = v.Response
	}
	var again sync.WaitGroup
	for i, err := range t.router.sendBundle(ctx, j.addr, b, responses) {
		v := j.votes[i]
		if err == nil {
			continue
		}
		v.Response, v.Err = nil, err
		if t.router.elsewhere(v.Shard, methodPrepare, err) || mutated("0086.lost-votes-go-again") {
			t.router.mistaken(v.Shard, j.addr, err, []NodeAddr{j.addr})
			again.Go(func() { t.alone(ctx, v) })
		}
	}
	again.Wait()
}

// joint brings votes to the logs of this node at one moment. Logs that have something
// to write at one moment share one write to disk; a vote that comes while the first
// is being written waits for a second. A vote waits until all the others have come as
// far, or have turned out not to go to a log.
type joint struct {
	mu struct {
		sync.Mutex
		expected int // Prepares that may still bring a vote
		votes    []*jointVote
	}
}

// jointVote is one Prepare's place among the others. nil is a vote that goes
// alone.
type jointVote struct {
	joint   *joint
	settled bool // it has brought its vote, or will not; its goroutine's alone

	group   paxos.Submitter
	ctx     context.Context
	command []byte
	sent    chan struct{} // closed when the vote is sent and wait is set
	wait    func() ([]byte, error)
}

// newJoint expects n Prepares, no more and no less.
func newJoint(n int) *joint {
	j := &joint{}
	j.mu.expected = n
	return j
}

// seat is the place of one of them.
func (j *joint) seat() *jointVote { return &jointVote{joint: j} }

// leave says that no vote will come: the others do not wait for it.
func (v *jointVote) leave() {
	if v == nil || v.settled {
		return
	}
	v.settled = true
	v.joint.settle(nil)
}

// propose proposes the vote's command with those of the others.
func (v *jointVote) propose(ctx context.Context, r *Replica, command []byte) (Result, error) {
	group, ok := r.c.Group.(paxos.Submitter)
	if v == nil || !ok || v.settled {
		v.leave()
		return r.propose(ctx, command)
	}
	r.counters.proposals.Add(1)
	v.settled = true
	v.group, v.ctx, v.command, v.sent = group, ctx, command, make(chan struct{})
	v.joint.settle(v)
	<-v.sent
	return r.result(v.wait())
}

// settle counts one of the expected, and sends the votes once there are no more
// to come.
func (j *joint) settle(v *jointVote) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.expected--
	if v != nil {
		j.mu.votes = append(j.mu.votes, v)
	}
	if j.mu.expected > 0 {
		return
	}
	for _, v := range j.mu.votes {
		v.wait = v.group.Submit(v.ctx, v.command)
	}
	for _, v := range j.mu.votes {
		close(v.sent)
	}
	j.mu.votes = nil
}
