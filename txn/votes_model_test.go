package txn

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// votesModel is one transaction on two shards: the real state machines, the real
// decision, a coordinator that may stop anywhere, recoverers, a garbage
// collector, and a new owner of a shard. Messages are never used up: each may
// arrive at any moment, any number of times, in any order.
type votesModel struct {
	*registers
	txn        storage.TxnID
	recoverers int
	epochs     uint64 // how many owners shard 0 may have
	shards     int    // 2, or 1: a commit in one phase
}

// votesState is a state of the model.
type votesState struct {
	shards  [2]int // of registers
	epoch   uint64 // of shard 0; shard 1 stays in epoch 1
	applied [2]int // how often the writes were applied
	ended   [2]storage.VoteState

	gateway  voter
	told     told
	recovery [2]voter
}

// voter is who collects ballots and decides.
type voter struct {
	asked   bool
	ballots [2]ballot
	verdict verdict
	commit  storage.Timestamp
}

// told is what the client was answered.
type told uint8

const (
	toldNothing told = iota
	toldCommitted
	toldAborted
	toldUnknown
)

const votesStart = 10

func newVotesModel(t *testing.T, recoverers int, epochs uint64) *votesModel {
	return &votesModel{registers: newRegisters(t), txn: storage.TxnID{Start: votesStart, Gateway: 1, Seq: 1},
		recoverers: recoverers, epochs: epochs, shards: 2}
}

func (m *votesModel) explore() *explore.Model[votesState] {
	return &explore.Model[votesState]{First: votesState{epoch: 1}, Next: m.next, Broken: m.broken}
}

// votesWalk collects the steps out of a state.
type votesWalk struct {
	m     *votesModel
	from  votesState
	steps []explore.Step[votesState]
	err   error
}

func (m *votesModel) next(s votesState) ([]explore.Step[votesState], error) {
	w := &votesWalk{m: m, from: s}
	for i := range m.shards {
		w.prepares(i)
		w.outcomes(i)
		w.garbage(i)
	}
	w.owner()
	w.votes("gateway", roleGateway, func(s *votesState) *voter { return &s.gateway })
	for r := range m.recoverers {
		w.votes(fmt.Sprint("recoverer ", r), roleRecoverer, func(s *votesState) *voter { return &s.recovery[r] })
	}
	return w.steps, w.err
}

// step applies a command to a shard and lets its answer change the state.
func (w *votesWalk) step(name string, i int, c *shard.Command, then func(*votesState, shard.Result)) {
	s := w.from
	if c.Kind != shard.KindBeginEpoch && c.Epoch == 0 {
		c.Epoch = w.epoch(i)
	}
	before := w.m.states[s.shards[i]].seen[w.m.txn]
	state, result, err := w.m.apply(s.shards[i], c)
	if err != nil {
		w.err = fmt.Errorf("%s: %w", name, err)
		return
	}
	s.shards[i] = state
	after := w.m.states[state].seen[w.m.txn]
	if after != before && (before == storage.VotePrepared || after == storage.VoteCommitted) {
		s.ended[i] = after
		if after == storage.VoteCommitted {
			s.applied[i]++
		}
	}
	if then != nil {
		then(&s, result)
	}
	w.steps = append(w.steps, explore.Step[votesState]{Name: name, To: s})
}

func (w *votesWalk) epoch(i int) uint64 {
	if i == 0 {
		return w.from.epoch
	}
	return 1
}

func (w *votesWalk) prepare(i int, epoch uint64) *shard.Command {
	// Each owner chooses a timestamp of its own.
	at := storage.Timestamp(votesStart + 2 + 3*int(epoch) + i)
	c := &shard.Command{Kind: shard.KindPrepare, Epoch: epoch, Txn: w.m.txn, At: at, Hash: 7, Participants: []shard.ID{0, 1},
		Writes: []shard.Write{{Key: storage.Key("k"), Value: []byte("v")}}}
	if w.m.shards == 1 {
		c.Kind, c.Participants = shard.KindOnePC, nil
	}
	return c
}

// prepares delivers the Prepare, from any owner there was so far, and the
// CloseVote of an owner that finds the locks lost.
func (w *votesWalk) prepares(i int) {
	for e := uint64(1); e <= w.epoch(i); e++ {
		w.step(fmt.Sprintf("prepare in epoch %d applies at %d", e, i), i, w.prepare(i, e), nil)
	}
	w.step(fmt.Sprintf("the owner of %d finds locks lost", i), i, &shard.Command{Kind: shard.KindCloseVote, Txn: w.m.txn}, nil)
}

// outcomes delivers the Resolve of everybody who has decided.
func (w *votesWalk) outcomes(i int) {
	voters := append([]voter{w.from.gateway}, w.from.recovery[:]...)
	for _, v := range voters {
		switch v.verdict {
		case verdictCommit, verdictAbort:
			w.step(fmt.Sprintf("resolve %s %d applies at %d", v.verdict, v.commit, i), i,
				&shard.Command{Kind: shard.KindResolve, Resolutions: []shard.Resolution{{Txn: w.m.txn, Commit: v.commit}}}, nil)
		}
	}
}

// votes lets somebody who collects ballots take one, and decide.
func (w *votesWalk) votes(name string, r role, of func(*votesState) *voter) {
	v := *of(&w.from)
	if v.verdict == verdictCommit || v.verdict == verdictAbort || r == roleGateway && w.from.told != toldNothing {
		return
	}
	if r == roleRecoverer && !v.asked && !w.prepared() {
		return // nobody recovers what nobody has met
	}
	for i := range w.m.shards {
		if v.ballots[i].answer != answerNone {
			continue
		}
		take := func(s *votesState, result shard.Result) {
			of(s).asked = true
			if answer, ok := answerTo(result); ok {
				of(s).ballots[i] = ballotOf(answer)
			}
		}
		if r == roleGateway {
			w.step(fmt.Sprintf("%s gets an answer to prepare from %d", name, i), i, w.prepare(i, w.epoch(i)), take)
		}
		w.step(fmt.Sprintf("%s closes the vote of %d", name, i), i, &shard.Command{Kind: shard.KindCloseVote, Txn: w.m.txn}, take)
	}
	w.decide(name, r, of)
}

func (w *votesWalk) decide(name string, r role, of func(*votesState) *voter) {
	s := w.from
	v := of(&s)
	var err error
	if v.verdict, v.commit, err = w.m.decide(r, v.ballots); err != nil {
		w.err = err
	}
	if v.verdict == verdictPending {
		return
	}
	if r == roleGateway {
		s.told = map[verdict]told{verdictCommit: toldCommitted, verdictAbort: toldAborted, verdictUnknown: toldUnknown}[v.verdict]
	}
	w.steps = append(w.steps, explore.Step[votesState]{Name: fmt.Sprintf("%s decides: %s %d", name, v.verdict, v.commit), To: s})
}

// decide is the protocol's. It panics at ballots that contradict each other.
func (m *votesModel) decide(r role, ballots [2]ballot) (v verdict, commit storage.Timestamp, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	v, commit = decide(r, ballots[:m.shards])
	return v, commit, nil
}

func (w *votesWalk) prepared() bool {
	for i := range 2 {
		if w.m.states[w.from.shards[i]].seen[w.m.txn] == storage.VotePrepared {
			return true
		}
	}
	return false
}

// garbage raises the fence and removes markers. The collector asks whether a
// vote is open anywhere; that the fence is raised is the state machine's to see.
func (w *votesWalk) garbage(i int) {
	w.step(fmt.Sprintf("the fence of %d is raised", i), i, &shard.Command{Kind: shard.KindRaiseFence, Below: votesStart + 1}, nil)
	if !w.prepared() {
		w.step(fmt.Sprintf("markers of %d are collected", i), i, &shard.Command{Kind: shard.KindCollectVotes, Below: votesStart + 1, Limit: 9}, nil)
	}
}

// owner lets the next owner of shard 0 begin.
func (w *votesWalk) owner() {
	if w.from.epoch == w.m.epochs {
		return
	}
	w.step(fmt.Sprintf("epoch %d begins", w.from.epoch+1), 0,
		&shard.Command{Kind: shard.KindBeginEpoch, Epoch: w.from.epoch, Node: 1 + w.from.epoch, Process: 1 + w.from.epoch},
		func(s *votesState, r shard.Result) { s.epoch++ })
}

// broken says which promise a state breaks.
func (m *votesModel) broken(s votesState) string {
	committed, aborted := false, false
	for i := range 2 {
		committed = committed || s.ended[i] == storage.VoteCommitted
		aborted = aborted || s.ended[i] == storage.VoteAborted
		if s.applied[i] > 1 || m.states[s.shards[i]].data["k"] > 1 {
			return fmt.Sprintf("the writes were applied to shard %d twice", i)
		}
	}
	switch {
	case committed && aborted:
		return "one shard committed and the other aborted"
	case s.told == toldCommitted && aborted:
		return "the client was told COMMITTED, and a shard aborted"
	case s.told == toldAborted && committed:
		return "the client was told ABORTED, and a shard committed"
	}
	if !committed {
		return ""
	}
	for i := range m.shards {
		if s.applied[i] == 0 && m.states[s.shards[i]].seen[m.txn] != storage.VotePrepared {
			return fmt.Sprintf("committed, and nothing on shard %d can be any more", i)
		}
	}
	return ""
}

// TestVotesModel visits every state.
func TestVotesModel(t *testing.T) {
	for _, test := range []struct {
		name       string
		recoverers int
		epochs     uint64
	}{{"two recoverers", 2, 1}, {"a recoverer and a new owner", 1, 2}} {
		t.Run(test.name, func(t *testing.T) {
			m := newVotesModel(t, test.recoverers, test.epochs)
			n, err := m.explore().All(2_000_000)
			require.NoError(t, err)
			t.Logf("%d states, %d of the state machine", n, len(m.states))
		})
	}
}

// TestVotesModelWalk takes random paths through more: two recoverers and three
// owners.
func TestVotesModelWalk(t *testing.T) {
	m := newVotesModel(t, 2, 3)
	rng := rand.New(rand.NewPCG(explore.Seed(t), 0))
	require.NoError(t, m.explore().Walk(rng, 500, 60))
}

// TestOnePhaseModel: a commit on one shard, retried at a new owner, applies once
// and its client is told what happened.
func TestOnePhaseModel(t *testing.T) {
	m := newVotesModel(t, 0, 3)
	m.shards = 1
	n, err := m.explore().All(2_000_000)
	require.NoError(t, err)
	t.Logf("%d states, %d of the state machine", n, len(m.states))
}
