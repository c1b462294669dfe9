package shard

import (
	"context"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// Together takes the Prepares of one transaction to the shards of this node so
// that their votes reach the logs at one moment. Logs that have something to
// write at one moment share one write to disk; a vote that comes while the first
// is being written waits for a second.
//
// Each Prepare may be called from its own goroutine. A vote waits until all the
// others have come as far, or have turned out not to go to a log.
type Together struct {
	router *Router

	mu struct {
		sync.Mutex
		expected int // Prepares that may still bring a vote
		votes    []*jointVote
	}
}

// jointVote is one Prepare's place among the others. nil is a vote that goes
// alone.
type jointVote struct {
	together *Together
	settled  bool // it has brought its vote, or will not; its goroutine's alone

	group   paxos.Submitter
	ctx     context.Context
	command []byte
	sent    chan struct{} // closed when the vote is sent and wait is set
	wait    func() ([]byte, error)
}

// Together expects n Prepares, no more and no less.
func (r *Router) Together(n int) *Together {
	t := &Together{router: r}
	t.mu.expected = n
	return t
}

// Prepare is Router.Prepare.
func (t *Together) Prepare(ctx context.Context, s ID, q *PrepareRequest) (*VoteResponse, error) {
	v := &jointVote{together: t}
	defer v.leave()
	if local := t.router.local(s); local != nil && !t.router.encode {
		response, err := local.prepare(ctx, q, v)
		v.leave()
		if CodeOf(err) != NotOwner {
			return response, err
		}
	}
	v.leave()
	return callFor[VoteResponse](ctx, t.router, s, methodPrepare, q)
}

// leave says that no vote will come: the others do not wait for it.
func (v *jointVote) leave() {
	if v == nil || v.settled {
		return
	}
	v.settled = true
	v.together.settle(nil)
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
	v.together.settle(v)
	<-v.sent
	return r.result(v.wait())
}

// settle counts one of the expected, and sends the votes once there are no more
// to come.
func (t *Together) settle(v *jointVote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.expected--
	if v != nil {
		t.mu.votes = append(t.mu.votes, v)
	}
	if t.mu.expected > 0 {
		return
	}
	for _, v := range t.mu.votes {
		v.wait = v.group.Submit(v.ctx, v.command)
	}
	for _, v := range t.mu.votes {
		close(v.sent)
	}
	t.mu.votes = nil
}
