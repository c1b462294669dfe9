package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	require.Equal(t, timerSlack, slackOf(t, startServer(t, t.TempDir())))
}

// TestServerKeepsItsTimerSlack: the environment can say that the slack is to stay.
func TestServerKeepsItsTimerSlack(t *testing.T) {
	t.Setenv(chosenSlack, "keep")
	require.Equal(t, defaultTimerSlack, slackOf(t, startServer(t, t.TempDir())))
}

func slackOf(t *testing.T, s *server) int {
	t.Helper()
	own, err := thisProcess.slack()
	require.NoError(t, err)
	if own != defaultTimerSlack || thisProcess.threads() < 2 {
		t.Skip("tests run with another slack, or on one processor")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", s.c.Process.Pid))
	if err != nil {
		t.Skip("slacks of other processes cannot be read:", err)
	}
	slack, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return slack
}

// TestServerKeepsItsName: one that was started by a link is called as the link is.
func TestServerKeepsItsName(t *testing.T) {
	c := command(t, "start", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--shards", "2")
	link := filepath.Join(t.TempDir(), "mydbd")
	require.NoError(t, os.Symlink(c.Path, link))
	c.Path, c.Args[0] = link, link
	s := serverOf(t, c)
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.c.Process.Pid))
	require.NoError(t, err)
	require.Equal(t, "mydbd\n", string(name))
}

// TestProgramFile: what is run again is this program, by the name that it was started
// by where that is known.
func TestProgramFile(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	t.Chdir(filepath.Dir(self))
	folder := t.TempDir()
	link, wrong := filepath.Join(folder, "link"), filepath.Join(folder, "wrong")
	require.NoError(t, os.Symlink(self, link))
	require.NoError(t, os.Symlink("/bin/sh", wrong))
	t.Setenv("PATH", folder)
	for started, want := range map[string]string{
		self:                        self,
		"./" + filepath.Base(self):  self,
		link:                        link,
		"link":                      link, // found by the path
		wrong:                       self,
		"wrong":                     self,
		"-rowlock":                  self, // as login shells are called
		"":                          self,
		filepath.Join(folder, "no"): self,
	} {
		got, err := programFile(started)
		require.NoError(t, err, "%q", started)
		require.Equal(t, want, got, "%q", started)
	}
	require.NoError(t, sameBuild(link))
	require.Error(t, sameBuild("/bin/sh"), "what the system names may be a loader")
	goTool := filepath.Join(runtime.GOROOT(), "bin", "go")
	if _, err := os.Stat(goTool); err == nil {
		require.ErrorContains(t, sameBuild(goTool), "another program")
	}
	require.Error(t, sameBuild(filepath.Join(folder, "no")))
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
