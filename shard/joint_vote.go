package shard

import (
	"context"
	"sync"
)

// jointVote is a Prepare for a shard of this node that comes with others of its
// transaction, and what came of it: response, or err, as of Replica.Prepare.
type jointVote struct {
	shard   ID
	replica *Replica // nil: there is none here
	request *PrepareRequest

	tenure *tenure
	vote   voteRequest
	begun  begunVote
	wait   func() ([]byte, error) // the vote was sent

	response *VoteResponse
	err      error
}

// castTogether casts votes on this goroutine: all are begun, then those that go to a log
// are sent, at one moment, and then the answers are waited for. Logs that have something
// to write at one moment share one write to disk, and votes that share a log one entry of
// it. A vote that takes something else than its log's answer waits for that on a
// goroutine of its own.
func castTogether(ctx context.Context, votes []jointVote) {
	var slow sync.WaitGroup
	var life context.Context
	for i := range votes {
		v := &votes[i]
		switch v.begin(ctx); {
		case v.begun.command != nil:
			life = v.replica.life
		case v.begun.other != nil || v.begun.closing:
			slow.Go(func() { v.response, v.err = v.replica.withoutVote(ctx, v.tenure, &v.vote, &v.begun) })
		}
	}
	if life != nil {
		sent, cancel := context.WithTimeout(life, proposeTimeout)
		defer cancel()
		sendTogether(sent, votes)
	}
	for i := range votes {
		v := &votes[i]
		if v.wait == nil {
			continue
		}
		result, err := v.replica.result(v.wait())
		if err == nil {
			v.replica.finish(v.tenure, v.begun.p, &v.vote, result)
			v.response, v.err = v.replica.voted(ctx, v.tenure, v.begun.p)
			continue
		}
		slow.Go(func() { v.unanswered(ctx, err) })
	}
	slow.Wait()
}

// begin takes a vote to where it is sent, or to its answer.
func (v *jointVote) begin(ctx context.Context) {
	if v.replica == nil {
		v.err = &Error{Code: NotOwner, Shard: v.shard, Detail: "no replica here"}
		return
	}
	if v.tenure, v.vote, v.err = v.replica.admitPrepare(v.request); v.err != nil {
		return
	}
	v.begun = v.replica.beginVote(ctx, v.tenure, &v.vote)
	v.response, v.err = v.begun.response, v.begun.err
}

// unanswered goes on with a vote whose sending has failed, alone.
func (v *jointVote) unanswered(ctx context.Context, err error) {
	again, cancel := context.WithTimeout(v.replica.life, proposeTimeout)
	defer cancel()
	v.replica.proposed(again, v.tenure, v.begun.p, &v.vote, v.begun.command, Result{}, err)
	v.response, v.err = v.replica.voted(ctx, v.tenure, v.begun.p)
}

// sendTogether sends the votes that have a command.
func sendTogether(ctx context.Context, votes []jointVote) {
	if log := sharedBy(votes); log != nil {
		sendJoint(ctx, log, votes)
	}
	for i := range votes {
		if v := &votes[i]; v.begun.command != nil && v.wait == nil {
			v.send(ctx)
		}
	}
}

// send sends a vote alone.
func (v *jointVote) send(ctx context.Context) {
	v.replica.counters.proposals.Add(1)
	v.wait = submit(ctx, v.replica.c.Group, v.begun.command)
}
