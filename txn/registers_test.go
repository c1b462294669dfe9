package txn

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// registers is the real state machine of a shard as a function: from a state and
// a command to the next state and the answer. States are numbers; each is known
// by the shortest list of commands that leads to it, and is produced again by
// applying these to an empty space. Two lists that leave the same records lead
// to the same state.
type registers struct {
	engine *storage.Engine
	spaces uint64
	states []registerState
	bySum  map[uint64]int
	steps  map[registerStep]registerAnswer
}

type registerState struct {
	log  [][]byte
	seen map[storage.TxnID]storage.VoteState
	data map[string]int // versions of each key
}

type registerStep struct {
	state   int
	command string
}

type registerAnswer struct {
	state  int
	result shard.Result
}

func newRegisters(t *testing.T) *registers {
	e, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	g := &registers{engine: e, bySum: map[uint64]int{}, steps: map[registerStep]registerAnswer{}}
	a, err := g.produce(nil, (&shard.Command{Kind: shard.KindBeginEpoch, Node: 1, Process: 1}).AppendBinary(nil))
	require.NoError(t, err)
	require.Equal(t, 0, a.state)
	return g
}

// apply applies a command to a state.
func (g *registers) apply(state int, c *shard.Command) (int, shard.Result, error) {
	b := c.AppendBinary(nil)
	step := registerStep{state, string(b)}
	a, known := g.steps[step]
	if !known {
		var err error
		if a, err = g.produce(g.states[state].log, b); err != nil {
			return 0, shard.Result{}, err
		}
		g.steps[step] = a
	}
	return a.state, a.result, nil
}

// produce applies a command to the state that a log leads to, twice: to a state
// machine that has lived through the log, and to one that has loaded what the
// log left. They must agree.
func (g *registers) produce(log [][]byte, command []byte) (registerAnswer, error) {
	var answers [2]registerAnswer
	for i := range answers {
		g.spaces++
		space := g.engine.Space(g.spaces)
		m := shard.NewMachine(space, g.engine.Sync, 1)
		if err := applyAll(m, log, 1); err != nil {
			return answers[i], err
		}
		if i == 1 {
			m = shard.NewMachine(space, g.engine.Sync, 1)
		}
		entries := []paxos.Entry{{Index: paxos.Index(len(log) + 1), Command: command}}
		if _, err := m.Open(); err != nil {
			return answers[i], err
		}
		if err := m.Apply(entries); err != nil {
			return answers[i], err
		}
		if err := answers[i].result.Decode(append([]byte(nil), entries[0].Result...)); err != nil {
			return answers[i], err
		}
		sum, err := space.Checksum()
		if err != nil {
			return answers[i], err
		}
		state, known := g.bySum[sum]
		if !known {
			state = len(g.states)
			g.bySum[sum] = state
			s, err := observe(space)
			if err != nil {
				return answers[i], err
			}
			s.log = append(append([][]byte(nil), log...), command)
			g.states = append(g.states, s)
		}
		answers[i].state = state
	}
	if fmt.Sprint(answers[0]) != fmt.Sprint(answers[1]) {
		return answers[0], fmt.Errorf("a reopened state machine differs: %v, %v", answers[0], answers[1])
	}
	return answers[0], nil
}

func applyAll(m *shard.Machine, log [][]byte, first paxos.Index) error {
	if _, err := m.Open(); err != nil {
		return err
	}
	entries := make([]paxos.Entry, len(log))
	for i := range log {
		entries[i] = paxos.Entry{Index: first + paxos.Index(i), Command: log[i]}
	}
	if len(entries) == 0 {
		return nil
	}
	return m.Apply(entries)
}

// observe reads what invariants look at.
func observe(space *storage.Space) (registerState, error) {
	s := registerState{seen: map[storage.TxnID]storage.VoteState{}, data: map[string]int{}}
	snap := space.Snapshot()
	defer snap.Close()
	err := snap.Votes(func(id storage.TxnID, v storage.Vote) error {
		s.seen[id] = v.State
		return nil
	})
	if err != nil {
		return s, err
	}
	for at := storage.Timestamp(1); at < 64; at++ {
		it := snap.Scan(storage.ScanOptions{At: at, NoIntents: true})
		for it.Next() {
			if it.Read().Commit == at {
				s.data[string(it.Key())]++
			}
		}
		if err := it.Close(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// answerTo is what a replica makes of the state machine's answer.
func answerTo(r shard.Result) (*shard.VoteResponse, bool) {
	switch r.Verdict {
	case shard.VerdictVote:
		return &shard.VoteResponse{State: r.Vote.State, Prepare: r.Vote.Prepare, Commit: r.Vote.Commit}, true
	case shard.VerdictFenced:
		return &shard.VoteResponse{Fenced: true}, true
	}
	return nil, false // NotOwner and the like: no answer
}
