package shard

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// advisoryMachine is a machine in epoch 1 with shorthands.
type advisoryMachine struct {
	*testMachine
	t testing.TB
}

func newAdvisoryMachine(t testing.TB) *advisoryMachine {
	m, err := openTestMachine(newTestEngine(t), 0)
	require.NoError(t, err)
	_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1, Sole: true})
	require.NoError(t, err)
	return &advisoryMachine{m, t}
}

func (m *advisoryMachine) step(op AdvisoryOp, s AdvisorySession, seq uint64, name string) Result {
	r, err := m.do(&Command{Kind: KindAdvisory, Epoch: 1, Advisory: AdvisoryChange{Op: op, Session: s, Seq: seq, Name: name}})
	require.NoError(m.t, err)
	return r
}

// holder is the number of the session that has a lock, 0 if none has.
func (m *advisoryMachine) holder(name string) uint64 {
	if h := m.AdvisoryHolder(name); h != nil {
		return h.Session.Number
	}
	return 0
}

func (m *advisoryMachine) reopen() {
	next, err := openTestMachine(m.engine, 0)
	require.NoError(m.t, err)
	m.testMachine = next
}

// H16: a copy of a GET_LOCK that is applied after the RELEASE_LOCK, after the
// session's end, or after the end of the whole process takes nothing.
func TestAdvisoryLateCopiesTakeNothing(t *testing.T) {
	const life, nextLife = 1<<48 | 1, 1<<48 | 2
	one, two := AdvisorySession{life, 1}, AdvisorySession{life, 2}
	for name, then := range map[string]func(*advisoryMachine){
		"released":     func(m *advisoryMachine) { m.step(AdvisoryRelease, one, 2, "a") },
		"all released": func(m *advisoryMachine) { m.step(AdvisoryReleaseAll, one, 2, "") },
		"session over": func(m *advisoryMachine) { m.step(AdvisoryEnd, one, 2, "") },
		"session over, another one at work": func(m *advisoryMachine) {
			m.step(AdvisoryEnd, one, 2, "")
			m.step(AdvisoryGet, two, 3, "b")
		},
		"gateway silent": func(m *advisoryMachine) { m.step(AdvisoryExpire, AdvisorySession{Gateway: life}, 0, "") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newAdvisoryMachine(t)
			first := m.step(AdvisoryGet, one, 1, "a")
			require.Equal(t, VerdictDone, first.Verdict)
			require.EqualValues(t, 1, m.holder("a"))
			require.Equal(t, VerdictRefused, m.step(AdvisoryGet, one, 1, "a").Verdict, "a copy")
			require.EqualValues(t, 1, m.holder("a"))
			then(m)
			require.Zero(t, m.holder("a"))
			for range 2 {
				m.step(AdvisoryGet, one, 1, "a")
				require.Zero(t, m.holder("a"), "the late copy")
				m.reopen()
			}
		})
	}
	t.Run("former life", func(t *testing.T) {
		m := newAdvisoryMachine(t)
		m.step(AdvisoryGet, one, 1, "a")
		m.step(AdvisorySucceed, AdvisorySession{Gateway: nextLife}, 0, "")
		require.Zero(t, m.holder("a"))
		m.step(AdvisoryGet, one, 100, "a")
		m.step(AdvisorySucceed, AdvisorySession{Gateway: life}, 0, "")
		m.reopen()
		m.step(AdvisoryGet, one, 101, "a")
		require.Zero(t, m.holder("a"))
		m.step(AdvisoryGet, AdvisorySession{nextLife, 9}, 1, "a")
		require.EqualValues(t, 9, m.holder("a"))
	})
}

// Whatever is applied in whatever order: a lock has one holder, each grant's
// token is larger than the one before, and what is read back after a restart is
// what was in memory.
func TestAdvisoryMachineProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newAdvisoryMachine(t)
		tokens := map[string]uint64{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			c := AdvisoryChange{
				Op: rapid.SampledFrom([]AdvisoryOp{AdvisoryGet, AdvisoryGet, AdvisoryGet, AdvisoryRelease, AdvisoryReleaseAll,
					AdvisoryEnd, AdvisoryExpire, AdvisorySucceed}).Draw(rt, "op"),
				Session: AdvisorySession{1<<48 | rapid.Uint64Range(1, 3).Draw(rt, "life"), rapid.Uint64Range(1, 3).Draw(rt, "session")},
				Seq:     rapid.Uint64Range(1, 30).Draw(rt, "seq"),
				Name:    rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name"),
			}
			before := m.AdvisoryHolder(c.Name)
			_, err := m.do(&Command{Kind: KindAdvisory, Epoch: 1, Advisory: c})
			require.NoError(t, err)
			after := m.AdvisoryHolder(c.Name)
			if after != nil && (before == nil || *before != *after) {
				require.Nil(t, before, "taken from its holder")
				require.Greater(t, after.Token, tokens[c.Name])
				tokens[c.Name] = after.Token
			}
		}
		locks, sessions, floors, lives := m.advisories.locks, m.advisories.sessions, m.advisories.floors, m.advisories.lives
		m.reopen()
		require.Equal(t, locks, m.advisories.locks)
		require.Equal(t, sessions, m.advisories.sessions)
		require.Equal(t, floors, m.advisories.floors)
		require.Equal(t, lives, m.advisories.lives)
	})
}
