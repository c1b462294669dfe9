package txn

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/storage"
)

func TestDecide(t *testing.T) {
	none, aborted, fenced := ballot{}, ballot{answer: answerAborted}, ballot{answer: answerFenced}
	prepared := func(ts storage.Timestamp) ballot { return ballot{answer: answerPrepared, prepare: ts} }
	committed := func(ts storage.Timestamp) ballot { return ballot{answer: answerCommitted, commit: ts} }
	for _, test := range []struct {
		name      string
		ballots   []ballot
		gateway   verdict
		recoverer verdict
		commit    storage.Timestamp
	}{
		{"nobody answered", []ballot{none, none}, verdictPending, verdictPending, 0},
		{"all prepared: the largest", []ballot{prepared(5), prepared(9), prepared(7)}, verdictCommit, verdictCommit, 9},
		{"one silent", []ballot{prepared(5), none}, verdictPending, verdictPending, 0},
		{"one aborted, one silent", []ballot{aborted, none}, verdictAbort, verdictAbort, 0},
		{"one aborted, one prepared", []ballot{prepared(3), aborted}, verdictAbort, verdictAbort, 0},
		{"one resolved already", []ballot{committed(9), none}, verdictCommit, verdictCommit, 9},
		{"one resolved, one prepared below", []ballot{committed(9), prepared(4)}, verdictCommit, verdictCommit, 9},
		{"one phase", []ballot{committed(4)}, verdictCommit, verdictCommit, 4},
		{"collected everywhere", []ballot{fenced, fenced}, verdictUnknown, verdictAbort, 0},
		{"fenced and prepared", []ballot{fenced, prepared(4)}, verdictUnknown, verdictAbort, 0},
		{"fenced and aborted", []ballot{fenced, aborted}, verdictAbort, verdictAbort, 0},
		{"fenced and committed", []ballot{fenced, committed(4)}, verdictCommit, verdictCommit, 4},
		{"fenced and silent", []ballot{fenced, none}, verdictPending, verdictAbort, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, commit := decide(roleGateway, test.ballots)
			require.Equal(t, test.gateway, v, "gateway")
			require.Equal(t, test.commit, commit)
			v, commit = decide(roleRecoverer, test.ballots)
			require.Equal(t, test.recoverer, v, "recoverer")
			require.Equal(t, test.commit, commit)
		})
	}
	require.Panics(t, func() { decide(roleGateway, []ballot{aborted, committed(3)}) })
	require.Panics(t, func() { decide(roleGateway, []ballot{committed(2), committed(3)}) })
}

// Whoever looks at the registers, in whatever order they are written and
// however few of them it has seen, concludes the same or nothing.
func TestDecideAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "participants")
		registers := make([]ballot, n)
		for i := range registers {
			if rapid.Bool().Draw(t, "prepared") {
				registers[i] = ballot{answer: answerPrepared, prepare: storage.Timestamp(rapid.IntRange(1, 9).Draw(t, "ts"))}
			} else {
				registers[i] = ballot{answer: answerAborted}
			}
		}
		outcome, commit := decide(roleRecoverer, registers)
		require.NotEqual(t, verdictPending, outcome)
		// Resolve reaches some of the participants.
		resolved := make([]ballot, n)
		for i, b := range registers {
			resolved[i] = b
			if b.answer == answerPrepared && rapid.Bool().Draw(t, "resolved") {
				resolved[i] = ballot{answer: answerAborted}
				if outcome == verdictCommit {
					resolved[i] = ballot{answer: answerCommitted, commit: commit}
				}
			}
		}
		seen := make([]ballot, n)
		for i := range seen {
			if rapid.Bool().Draw(t, "seen") {
				seen[i] = resolved[i]
			}
		}
		r := rapid.SampledFrom([]role{roleGateway, roleRecoverer}).Draw(t, "role")
		if v, ts := decide(r, seen); v != verdictPending {
			require.Equal(t, outcome, v)
			require.Equal(t, commit, ts)
		}
	})
}
