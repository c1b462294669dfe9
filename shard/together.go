package shard

import (
	"context"
	"slices"
	"sync"
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
	jobs   []votes
}

// votes are a job: those for the shards of this node or another, or one that finds its
// way alone.
type votes struct {
	here  bool
	addr  NodeAddr
	votes []*ShardVote
}

// Together divides the Prepares into jobs, which must all be done at the same time,
// each on a goroutine of its own. The first is the one for this node, if there is one.
func (r *Router) Together(all []ShardVote) *Together {
	t := &Together{router: r}
	here := make([]*ShardVote, 0, len(all))
	for i := range all {
		v := &all[i]
		if r.Here(v.Shard) {
			here = append(here, v)
		} else if addr, ok := r.joinable(v.Shard); ok {
			t.assign(addr, v)
		} else {
			t.jobs = append(t.jobs, votes{votes: []*ShardVote{v}})
		}
	}
	if len(here) > 0 {
		t.jobs = slices.Insert(t.jobs, 0, votes{here: true, votes: here})
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
	case j.here:
		t.here(ctx, j.votes)
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

// here has the owners on this node cast their votes. Where the owner is another by now
// the vote goes there, alone.
func (t *Together) here(ctx context.Context, votes []*ShardVote) {
	all := make([]jointVote, len(votes))
	for i, v := range votes {
		all[i] = jointVote{shard: v.Shard, replica: t.router.local(v.Shard), request: v.Request}
	}
	castTogether(ctx, all)
	var again sync.WaitGroup
	for i, v := range votes {
		if v.Response, v.Err = all[i].response, all[i].err; CodeOf(v.Err) == NotOwner {
			again.Go(func() {
				v.Response, v.Err = callFor[VoteResponse](ctx, t.router, v.Shard, methodPrepare, v.Request)
			})
		}
	}
	again.Wait()
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
