package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/shard"
)

// modelLog is the replicated log of one shard in a modelWorld. What consensus
// may do, it may do at any moment: commit a proposal, commit it again, lose its
// answer, have a replica apply the next entry.
type modelLog struct {
	w     *modelWorld
	shard shard.ID

	mu       sync.Mutex
	entries  []modelEntry
	replicas []*modelGroup
	proposed map[string]int // how often a proposal of this name was made
	voters   int
}

type modelEntry struct {
	command []byte
	origin  *modelProposal // who waits for it; nil for a second copy
}

type modelProposal struct {
	name    string
	from    *modelGroup
	command []byte
	done    chan modelOutcome
	ended   bool
}

type modelOutcome struct {
	result []byte
	err    error
}

// modelGroup is one replica of the log; it is a paxos.Group.
type modelGroup struct {
	log     *modelLog
	index   int
	machine *shard.Machine
	applied int
	waiting map[chan struct{}]int // barriers, by what they wait for
}

func (g *modelGroup) name() string { return fmt.Sprintf("%d%c", g.log.shard, 'A'+g.index) }

// Propose implements paxos.Group.
func (g *modelGroup) Propose(ctx context.Context, command []byte) ([]byte, error) {
	l, stage := g.log, g.log.w.stage
	var c shard.Command
	if err := c.Decode(command); err != nil {
		panic(err)
	}
	p := &modelProposal{from: g, command: command, done: make(chan modelOutcome, 1)}
	l.mu.Lock()
	p.name = fmt.Sprintf("%s of T%d at %s", kindNames[c.Kind], c.Txn.Seq, g.name())
	if c.Kind == shard.KindResolve {
		p.name = fmt.Sprintf("resolve T%d at %s", c.Resolutions[0].Txn.Seq, g.name())
	}
	l.proposed[p.name]++
	p.name = fmt.Sprintf("%s #%d", p.name, l.proposed[p.name])
	l.mu.Unlock()
	free := l.w.free.Load()
	losable := l.w.losses.Load() > 0
	if free {
		l.commit(p)
		for _, r := range l.replicas {
			for l.apply(r) {
			}
		}
	} else {
		stage.Offer("commit "+p.name, func() { l.commit(p) })
		if losable {
			stage.Offer("lose the answer of "+p.name, func() { l.lose(p) })
		}
	}
	select {
	case o := <-p.done:
		return o.result, o.err
	case <-ctx.Done():
		l.mu.Lock()
		p.ended = true
		l.mu.Unlock()
		stage.Withdraw("lose the answer of " + p.name)
		stage.Withdraw("answer " + p.name)
		return nil, fmt.Errorf("%w: %v", paxos.ErrUnknownOutcome, ctx.Err())
	}
}

var kindNames = map[shard.Kind]string{shard.KindBeginEpoch: "begin-epoch", shard.KindOnePC: "one-phase", shard.KindPrepare: "prepare",
	shard.KindResolve: "resolve", shard.KindCloseVote: "close-vote", shard.KindClose: "close"}

// commit puts a proposal into the log.
func (l *modelLog) commit(p *modelProposal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := modelEntry{command: p.command}
	if !p.ended {
		e.origin = p
	}
	l.entries = append(l.entries, e)
	l.offerApply()
	if !l.w.free.Load() && l.w.copies.Add(-1) >= 0 {
		l.w.stage.Offer("commit again "+p.name, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.entries = append(l.entries, modelEntry{command: p.command})
			l.offerApply()
		})
	}
}

// lose tells the proposer that the outcome is unknown. The proposal goes on.
func (l *modelLog) lose(p *modelProposal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w.losses.Add(-1) == 0 {
		l.w.forgetLosses()
	}
	if !p.ended {
		p.ended = true
		l.w.stage.Withdraw("answer " + p.name)
		p.done <- modelOutcome{err: paxos.ErrUnknownOutcome}
	}
}

// offerApply lets every replica that is behind apply its next entry.
func (l *modelLog) offerApply() {
	if l.w.free.Load() {
		return
	}
	for _, g := range l.replicas {
		name := "apply at " + g.name()
		l.w.stage.Withdraw(name)
		if g.applied < len(l.entries) {
			l.w.stage.Offer(name, func() { l.apply(g) })
		}
	}
}

// apply applies the next entry on a replica; false if there is none.
func (l *modelLog) apply(g *modelGroup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.applied == len(l.entries) {
		return false
	}
	e := l.entries[g.applied]
	entries := []paxos.Entry{{Index: paxos.Index(g.applied + 1), Command: append([]byte(nil), e.command...)}}
	l.w.engine.outside(func() {
		if err := g.machine.Apply(entries); err != nil {
			panic(err)
		}
	})
	g.applied++
	for ch, target := range g.waiting {
		if g.applied >= target {
			delete(g.waiting, ch)
			close(ch)
		}
	}
	if p := e.origin; p != nil && p.from == g && !p.ended {
		answer := func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.w.stage.Withdraw("lose the answer of " + p.name)
			if !p.ended {
				p.ended = true
				p.done <- modelOutcome{result: entries[0].Result}
			}
		}
		if l.w.free.Load() {
			p.ended = true
			p.done <- modelOutcome{result: entries[0].Result}
		} else {
			l.w.stage.Offer("answer "+p.name, answer)
		}
	}
	l.offerApply()
	return true
}

// ReadBarrier implements paxos.Group.
func (g *modelGroup) ReadBarrier(ctx context.Context) error {
	g.log.w.stage.At(ctx, "barrier at "+g.name())
	g.log.mu.Lock()
	target := len(g.log.entries)
	if g.applied >= target {
		g.log.mu.Unlock()
		return nil
	}
	if g.log.w.free.Load() {
		g.log.mu.Unlock()
		for g.log.apply(g) {
		}
		return nil
	}
	ch := make(chan struct{})
	g.waiting[ch] = target
	g.log.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The rest of paxos.Group.

func (g *modelGroup) Leader() (paxos.ReplicaID, uint64, bool) { return 1, 1, true }
func (g *modelGroup) Replica() paxos.ReplicaID                { return paxos.ReplicaID(g.index + 1) }
func (g *modelGroup) Applied() paxos.Index                    { return paxos.Index(g.applied) }
func (g *modelGroup) TransferLeadership(paxos.ReplicaID) error {
	return nil
}

// Membership implements paxos.Group.
func (g *modelGroup) Membership(context.Context) (paxos.Membership, error) {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	m := paxos.Membership{Voters: map[paxos.ReplicaID]string{}}
	for i := range g.log.voters {
		m.Voters[paxos.ReplicaID(i+1)] = fmt.Sprint("n", i+1)
	}
	return m, nil
}

var errModel = errors.New("not in the model")

func (g *modelGroup) AddReplica(context.Context, paxos.ReplicaID, string, uint64) error {
	return errModel
}
func (g *modelGroup) AddLearner(context.Context, paxos.ReplicaID, string, uint64) error {
	return errModel
}
func (g *modelGroup) RemoveReplica(context.Context, paxos.ReplicaID, uint64) error { return errModel }
