package main

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// sample is a small run. Its seed is printed.
func sample(t *testing.T) settings {
	t.Helper()
	seed := explore.Seed(t)
	return settings{transactions: 400, sessions: 8, lists: 16, length: 20, shards: 4, examples: 1, seed: seed}
}

// node serves an empty database.
func node(t *testing.T) (dsn string) {
	t.Helper()
	n, err := rowlock.Open(t.Context(), rowlock.Options{Dir: t.TempDir(), Shards: 4})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close(context.Background())) })
	address, err := n.ListenMySQL("127.0.0.1:0")
	require.NoError(t, err)
	return "root@tcp(" + address.String() + ")/"
}

func runs(t *testing.T, s settings) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), s, &out)
	t.Log(out.String())
	require.NoError(t, err)
}

// Lists at every level: nothing that the level excludes, and under InnoDB's
// rules the lost updates that these allow.
func TestListAppend(t *testing.T) {
	s := sample(t)
	s.dsn, s.modes, s.levels = node(t), []string{"append"}, levelNames()
	s.lists, s.transactions = 8, 500
	runs(t, s)
}

func TestRegister(t *testing.T) {
	s := sample(t)
	s.dsn, s.modes, s.levels = node(t), []string{"register"}, levelNames()
	runs(t, s)
}

// The loads with an invariant, at every level at which it is promised.
func TestInvariants(t *testing.T) {
	s := sample(t)
	s.dsn, s.levels = node(t), levelNames()
	s.modes = slices.DeleteFunc(modeNames(), func(name string) bool { return name == "append" || name == "register" })
	s.transactions = 200
	runs(t, s)
}

// A server that is killed leaves unknown outcomes, and nothing that a level
// excludes.
func TestKilledServer(t *testing.T) {
	s := sample(t)
	s.binary = filepath.Join(t.TempDir(), "rowlock")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-tags=gms_pure_go", "-o", s.binary, "github.com/rowlockdb/rowlock/cmd/rowlock")
	text, err := build.CombinedOutput()
	require.NoError(t, err, string(text))
	s.modes, s.levels = []string{"append", "bank"}, []string{serializable, repeatableRead}
	s.kill, s.transactions = time.Second, 200
	runs(t, s)
}

// Each load finds what it is for: it is run where its promise does not hold.
func TestLoadsFindFaults(t *testing.T) {
	s := sample(t)
	s.dsn, s.lists, s.transactions = node(t), 4, 500
	target, err := s.open(t.Context())
	require.NoError(t, err)
	defer target.close()
	weak := func(name string, model history.Model) level {
		l := levels[slices.Index(levelNames(), name)]
		l.model, l.must = model, nil
		return l
	}
	wrong := func(mode string, l level, make func(*execution) load) string {
		r := newRun(s, target, mode, l)
		require.NoError(t, r.carryOut(t.Context(), make(r)))
		t.Logf("%s, %s: %s; %d findings", mode, l.title, r.found, len(r.wrong))
		return strings.Join(r.wrong, "\n")
	}
	require.Contains(t, wrong("append", weak(repeatableRead, history.StrictSerializable), newAppends), history.G2Item)
	require.Contains(t, wrong("append", weak(innodb, history.StrongSnapshotIsolation), newAppends), history.GSingle)
	require.Contains(t, wrong("register", weak(readCommitted, history.StrongSnapshotIsolation), newRegisters), history.GSingle)
	require.Contains(t, wrong("bank", weak(innodb, history.ReadCommitted), func(r *execution) load {
		return &bank{execution: r, writesBack: true}
	}), "a sum is")
	require.Contains(t, wrong("unique", weak(repeatableRead, history.ReadCommitted), func(r *execution) load {
		return &notUnique{unique{execution: r, values: map[int64]*wanted{}}}
	}), "inserts succeeded")
	require.Contains(t, wrong("monotonic", weak(innodb, history.ReadCommitted), func(r *execution) load {
		return &notMonotonic{newMonotonic(r).(*monotonic)}
	}), "step")
}

// notUnique lacks the index.
type notUnique struct{ unique }

func (l *notUnique) tables() []string {
	return []string{"CREATE TABLE names (id BIGINT PRIMARY KEY, name VARCHAR(40) NOT NULL, KEY by_name (name))"}
}

// notMonotonic lets the steps be entered twice.
type notMonotonic struct{ *monotonic }

func (l *notMonotonic) tables() []string {
	return append([]string{"CREATE TABLE steps (n BIGINT NOT NULL, session INT NOT NULL)"},
		slices.DeleteFunc(l.monotonic.tables(), func(s string) bool { return strings.Contains(s, "TABLE steps") })...)
}

func TestInvariantsFindFaults(t *testing.T) {
	r := newRun(sample(t), nil, "", levels[0])
	numbers := newAutoincrement(r).(*autoincrement)
	numbers.enter(1, 7, history.Committed)
	numbers.enter(4, 7, history.Aborted)
	_, wrong := numbers.verdict()
	require.Equal(t, []string{"7 was given twice"}, wrong)

	require.Equal(t, "row 1 is 5 and 6 (true), row 2 is 5 and 0 (false), row 3 is only in the second",
		differ(map[int32]int32{1: 5, 2: 5}, map[int32]int32{1: 6, 3: 1}))
	a := int32(5)
	require.True(t, (&row{may: []*int32{nil, &a}}).allows(5, true))
	require.True(t, (&row{may: []*int32{nil, &a}}).allows(0, false))
	require.False(t, (&row{may: []*int32{&a}}).allows(0, false))
	require.False(t, (&row{may: []*int32{&a}}).allows(6, true))
}

func TestParseList(t *testing.T) {
	list, err := parseList([]byte(",1,22,3"))
	require.NoError(t, err)
	require.Equal(t, []int32{1, 22, 3}, list)
	list, err = parseList(nil)
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = parseList([]byte(",1,,3"))
	require.Error(t, err)
}

func TestUnknownNames(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), settings{modes: []string{"x"}}, nil), `no load "x"`)
	require.ErrorContains(t, run(t.Context(), settings{levels: []string{"x"}}, nil), `no level "x"`)
}
