package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
)

func TestConfigLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rowlock.toml")
	require.NoError(t, os.WriteFile(path, []byte("data = \"from-file\"\nlisten = \"127.0.0.1:1\"\nlock-wait = \"7s\"\nshards = 3\n"), 0o644))
	environ := func() []string {
		return []string{"ROWLOCK_CONFIG=" + path, "ROWLOCK_LISTEN=127.0.0.1:2", "ROWLOCK_SHARDS=5", "ROWLOCK_OF_ANOTHER_TOOL=1", "HOME=/"}
	}
	c, err := load([]string{"--shards", "8"}, environ)
	require.NoError(t, err)
	require.Equal(t, "from-file", c.Data)
	require.Equal(t, "127.0.0.1:2", c.Listen, "the environment wins over the file")
	require.Equal(t, 8, c.Shards, "a flag wins over both")
	require.Equal(t, 7*time.Second, c.LockWait)
	require.Equal(t, 1000, c.MaxConnections, "a default")
}

func TestConfigMistakes(t *testing.T) {
	none := func() []string { return nil }
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "c.toml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	for want, args := range map[string][]string{
		"log-level is \"loud\"":   {"--log-level", "loud"},
		"log-format is \"xml\"":   {"--log-format", "xml"},
		"shards is 0":             {"--shards", "0"},
		"no such file":            {"--config", filepath.Join(dir, "none.toml")},
		"unknown setting \"dta\"": {"--config", file("dta = 'x'\n")},
	} {
		_, err := load(args, none)
		var usage *usageError
		require.ErrorAs(t, err, &usage, want)
		require.ErrorContains(t, err, want)
	}
}

func load(args []string, environ func() []string) (startConfig, error) {
	flags := pflag.NewFlagSet("start", pflag.ContinueOnError)
	startFlags(flags)
	if err := flags.Parse(args); err != nil {
		return startConfig{}, err
	}
	return loadConfig(flags, environ)
}

// Without a lease the library is told so: its 0 is the default.
func TestLeaseSettings(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"": 750 * time.Millisecond, "--lease 2s": 2 * time.Second, "--lease 0": -1, "--lease -1s": -1,
	} {
		c, err := load(strings.Fields(in), func() []string { return nil })
		require.NoError(t, err)
		require.Equal(t, want, c.lease(), in)
	}
	for _, in := range []string{"--lease-drift 0", "--lease-drift 1", "--lease-drift -0.1"} {
		_, err := load(strings.Fields(in), func() []string { return nil })
		require.ErrorContains(t, err, "lease-drift")
	}
}

func TestClientArguments(t *testing.T) {
	for in, want := range map[string]string{
		"sql -psecret -e x":      "sql --password=secret -e x",
		"sql -p -u me":           "sql --ask-password -u me",
		"sql -P 3307 -h host":    "sql -P 3307 -h host",
		"start -pnot":            "start -pnot",
		"sql --password=a -- -p": "sql --password=a -- -p",
	} {
		require.Equal(t, want, strings.Join(clientArguments(strings.Fields(in)), " "))
	}
}

func TestSplitter(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"select 1; select 2;", []string{"select 1", "select 2"}},
		{"select 1", []string{"select 1"}},
		{"select ';'; select \"a;b\", `c;d`;", []string{"select ';'", "select \"a;b\", `c;d`"}},
		{`select 'it''s', 'a\';b';`, []string{`select 'it''s', 'a\';b'`}},
		{"-- no; thing\nselect 1 -- x;\n;\n# y;\n", []string{"-- no; thing\nselect 1 -- x;"}},
		{"/* a;\nb */ select 1;", []string{"/* a;\nb */ select 1"}},
		{"/*!40101 SET x=1 */;", []string{"/*!40101 SET x=1 */"}},
		{"select 5--1;", []string{"select 5--1"}},
		{";;\n;", nil},
		{"-- only a comment", nil},
		{"delimiter //\ncreate procedure p() begin select 1; end//\ndelimiter ;\nselect 2;", []string{"create procedure p() begin select 1; end", "select 2"}},
		{"select 1\\G select 2\\g", []string{"select 1 [vertical]", "select 2"}},
		{"select '\nopen", []string{"select '\nopen"}},
	} {
		s := newSplitter(strings.NewReader(c.in))
		var got []string
		for {
			next, err := s.next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if next.vertical {
				next.text += " [vertical]"
			}
			got = append(got, next.text)
		}
		require.Equal(t, c.want, got, c.in)
	}
}

func TestComplete(t *testing.T) {
	for text, want := range map[string]bool{
		"select 1;": true, "select 1": false, "select 1; select": false, "select ';": false,
		"": true, "-- x": true, "select 1\\G": true, "select '\n';": true,
	} {
		require.Equal(t, want, complete(text), text)
	}
}

func TestGivesRows(t *testing.T) {
	for text, want := range map[string]bool{
		"select 1": true, "(SELECT 1) UNION (SELECT 2)": true, "/* c */ show tables": true, "-- c\nwith x as (select 1) select 1": true,
		"insert into t values (1)": false, "BEGIN": false, "set @a = 1": false, "-- c": false,
	} {
		require.Equal(t, want, givesRows(text), text)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("listen tcp 127.0.0.1:3306: bind: %w", syscall.EADDRINUSE), "127.0.0.1:3306 is in use by another program; choose another address with --listen"},
		{fmt.Errorf("rowlock: open data directory of /d: %w by another process", rowlock.ErrLocked), "open data directory of /d: data directory is in use by another process; is a server running there already?"},
		{fmt.Errorf("mkdir /d: %w", fs.ErrPermission), "no permission to write: mkdir /d: permission denied"},
		{fmt.Errorf("write: %w", syscall.ENOSPC), "the disk is full: write: no space left on device"},
		{fmt.Errorf("x: %w", rowlock.ErrCorrupt), "stored data is damaged: x: data is corrupt"},
		{fmt.Errorf("x: %w", rowlock.ErrFormat), "this release cannot use the data directory: x: data format not supported"},
		{errors.New("two\nlines"), "two lines"},
	} {
		require.Equal(t, c.want, explain(c.err))
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:3306": true, "[::1]:3306": true, "127.8.9.1:1": true,
		"0.0.0.0:3306": false, ":3306": false, "10.1.2.3:3306": false, "[::]:3306": false, "nonsense": false,
	} {
		require.Equal(t, want, loopback(address), address)
	}
}

// Messages from before the file can be opened are not lost, and no file appears
// before the first message.
func TestLateFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l := &lateFile{path: filepath.Join(dir, "server.log")}
	_, err := l.Write([]byte("early\n"))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o755))
	_, err = l.Write([]byte("late\n"))
	require.NoError(t, err)
	l.close()
	text, err := os.ReadFile(l.path)
	require.NoError(t, err)
	require.Equal(t, "early\nlate\n", string(text))
}

func TestHistoryKeepsNoPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	history, err := openHistory(path)
	require.NoError(t, err)
	for _, line := range []string{"select 1;", "create user u identified by 'secret';", "SET PASSWORD = 'secret';"} {
		_, err := history.Write(line)
		require.NoError(t, err)
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "select 1;")
	require.NotContains(t, string(text), "secret")
}

func TestVersionCommand(t *testing.T) {
	command := rootCommand()
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetArgs([]string{"version"})
	require.NoError(t, command.Execute())
	require.Contains(t, out.String(), "rowlock "+version)
}
