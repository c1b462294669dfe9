package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every mutation that the code knows has a line, every line has one in the code
// and a test that exists. `make mutations` runs them.
func TestListAgreesWithTheCode(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	list, err := readList("mutations.txt")
	require.NoError(t, err)
	found, err := problems(root, list)
	require.NoError(t, err)
	require.Empty(t, found)
}

// Every rule of sections 1.4 and 1.5 and each of H1 to H16 is broken by a
// mutation. H12 asks of a read timestamp what R6 does, and more.
func TestEveryRuleIsBroken(t *testing.T) {
	list, err := readList("mutations.txt")
	require.NoError(t, err)
	broken := map[string]bool{}
	for i := range list {
		broken[list[i].rule()] = true
	}
	broken["R6"] = broken["H12"]
	rules := []string{"1.4"}
	for i := range 6 {
		rules = append(rules, fmt.Sprint("R", i+1))
	}
	for i := range 16 {
		rules = append(rules, fmt.Sprint("H", i+1))
	}
	for _, rule := range rules {
		require.True(t, broken[rule], "no mutation breaks %s", rule)
	}
}

func TestParseLine(t *testing.T) {
	m, err := parseLine("H9.stage-after-vote | shard | TestA|TestB/x | Stage is taken after the vote")
	require.NoError(t, err)
	require.Equal(t, "H9", m.rule())
	require.Equal(t, "TestA|TestB/x", m.tests)
	require.False(t, m.hangs)
	m, err = parseLine("2.3.heaviest | locks | TestA | something")
	require.NoError(t, err)
	require.Equal(t, "2.3", m.rule())
	m, err = parseLine("R2.x | locks | TestA | something | hangs")
	require.NoError(t, err)
	require.True(t, m.hangs)
	for _, bad := range []string{"H9.x | shard | TestA", "H9 | shard | TestA | what", "H9.x | shard | Test( | what", "H9.x | shard | TestA | what | often"} {
		_, err := parseLine(bad)
		require.Error(t, err, bad)
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		out      string
		by, seed string
		late     bool
	}{
		"a failure": {"=== RUN   TestA\n    a_test.go:1: seed 7\n--- PASS: TestA\n=== RUN   TestB\n    seed 8\n    seed 9\n--- FAIL: TestB (0s)\n    seed 11\n", "TestB", "9", false},
		"no seed":   {"=== RUN   TestA\n    seed 7\n--- PASS: TestA\n=== RUN   TestB\n--- FAIL: TestB (0s)\n", "TestB", "-", false},
		"a panic":   {"=== RUN   TestA\n=== RUN   TestA/x\n    seed 7\npanic: boom\n", "TestA", "7", false},
		"no end":    {"=== RUN   TestA\n    seed 7\npanic: test timed out after 2m0s\n", "TestA", "7", true},
	} {
		t.Run(name, func(t *testing.T) {
			o := judge([]byte(c.out), false)
			require.Equal(t, c.by, o.by)
			require.Equal(t, c.seed, o.seed)
			require.Equal(t, c.late, o.late)
		})
	}
}
