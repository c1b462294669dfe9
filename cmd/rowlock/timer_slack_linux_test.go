package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTimerSlackIsWidenedOnce follows what a start asks of the system.
func TestTimerSlackIsWidenedOnce(t *testing.T) {
	failed := errors.New("not allowed")
	for _, one := range []struct {
		name                    string
		again                   bool
		alone                   bool // nothing runs beside it
		slack                   int
		unknown, unset, refused error // what asking, setting and running answer
		want                    string
	}{
		{name: "the kernel's", slack: 50_000, want: "slack? set 500000, run, set 50000"}, // back, as here running returns
		{name: "one processor", alone: true, slack: 50_000, want: ""},
		{name: "second time", again: true, slack: 500_000, want: ""},
		{name: "second time, and the system has forgotten", again: true, slack: 50_000, want: ""},
		{name: "chosen by the unit", slack: 1_000_000, want: "slack?"},
		{name: "chosen by the unit, shorter", slack: 1, want: "slack?"},
		{name: "none, for real-time threads", slack: 0, want: "slack?"},
		{name: "cannot be asked", slack: 50_000, unknown: failed, want: "slack?"},
		{name: "cannot be set", slack: 50_000, unset: failed, want: "slack? set 500000"},
		{name: "cannot be run", slack: 50_000, refused: failed, want: "slack? set 500000, run, set 50000"},
	} {
		t.Run(one.name, func(t *testing.T) {
			var did []string
			p := process{
				threads: func() int {
					if one.alone {
						return 1
					}
					return 2
				},
				slack: func() (int, error) { did = append(did, "slack?"); return one.slack, one.unknown },
				setSlack: func(to int) error {
					did = append(did, fmt.Sprintf("set %d", to))
					return one.unset
				},
				exec: func(environ []string) error {
					require.Contains(t, environ, startedAgain+"=1")
					did = append(did, "run")
					return one.refused
				},
			}
			_ = p.widen(one.again)
			require.Equal(t, one.want, strings.Replace(strings.Join(did, ", "), "?, ", "? ", 1))
		})
	}
}

// TestServerHasItsTimerSlack asks a running server's process, which is still the one
// that was started.
func TestServerHasItsTimerSlack(t *testing.T) {
	path := fmt.Sprintf("/proc/%d/timerslack_ns", startServer(t, t.TempDir()).c.Process.Pid)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Skip("slacks of other processes cannot be read:", err)
	}
	slack, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	own, err := thisProcess.slack()
	require.NoError(t, err)
	if own != defaultTimerSlack || thisProcess.threads() < 2 {
		t.Skip("tests run with another slack, or on one processor")
	}
	require.Equal(t, timerSlack, slack)
}

// TestServerIsStartedAsItWas: arguments, environment and standard output are those of
// the first time.
func TestServerIsStartedAsItWas(t *testing.T) {
	s := startServer(t, t.TempDir())
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.c.Process.Pid))
	require.NoError(t, err)
	require.Contains(t, string(environ), asCommand+"=1\x00")
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.c.Process.Pid))
	require.NoError(t, err)
	require.Equal(t, strings.Join(s.c.Args, "\x00")+"\x00", string(arguments))
}
