package main

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// asCommand makes this test binary behave as the command.
const asCommand = "ROWLOCK_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), asCommand+"=1")
	return c
}

// run runs the command to its end.
func run(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := command(t, args...)
	c.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// server is a running `rowlock start`.
type server struct {
	c    *exec.Cmd
	out  *bufio.Reader
	host string
	port string
}

var readyLine = regexp.MustCompile(`ready for connections on (127\.\d+\.\d+\.\d+):(\d+)`)

func startServer(t *testing.T, dir string, more ...string) *server {
	t.Helper()
	return serverOf(t, command(t, append([]string{"start", "--data", dir, "--listen", "127.0.0.1:0", "--shards", "2"}, more...)...))
}

func serverOf(t *testing.T, c *exec.Cmd) *server {
	t.Helper()
	pipe, err := c.StdoutPipe()
	require.NoError(t, err)
	var errs bytes.Buffer
	c.Stderr = &errs
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	require.NoError(t, err, "stderr: %s", &errs)
	m := readyLine.FindStringSubmatch(line)
	require.NotNil(t, m, "first line: %q, stderr: %s", line, &errs)
	return &server{c, out, m[1], m[2]}
}

// stop interrupts the server and waits for its end.
func (s *server) stop(t *testing.T) string {
	t.Helper()
	require.NoError(t, s.c.Process.Signal(syscall.SIGTERM))
	var rest strings.Builder
	s.out.WriteTo(&rest)
	require.NoError(t, s.c.Wait())
	return rest.String()
}

// A server starts, is used through the command's own client, stops cleanly, and
// has everything when it starts again.
func TestStartSQLStop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, dir)
	client := []string{"sql", "-h", "127.0.0.1", "-P", s.port, "-u", "root"}

	_, errs, code := run(t, "CREATE DATABASE shop; USE shop;\nCREATE TABLE t (id INT PRIMARY KEY, name TEXT);\nINSERT INTO t VALUES (1, 'a\tb'), (2, NULL);\n", client...)
	require.Zero(t, code, errs)
	out, errs, code := run(t, "", append(client, "-D", "shop", "-e", "SELECT * FROM t ORDER BY id")...)
	require.Zero(t, code, errs)
	require.Equal(t, "id\tname\n1\ta\\tb\n2\tNULL\n", out)
	out, _, code = run(t, "", append(client, "--table", "-e", "SELECT id FROM shop.t WHERE id = 1")...)
	require.Zero(t, code)
	require.Contains(t, out, "+----+\n| id |\n+----+\n|  1 |\n+----+\n1 row in set")
	_, errs, code = run(t, "SELECT * FROM shop.none; SELECT 1;", client...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "ERROR 1146 (42S02)")

	_, errs, code = run(t, "", "start", "--data", dir, "--listen", "127.0.0.1:0")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "is a server running there already?")
	require.Equal(t, 1, strings.Count(errs, "\n"), "one sentence: %q", errs)

	rest := s.stop(t)
	require.Contains(t, rest, "mysql -h 127.0.0.1 -P "+s.port+" -u root")
	require.Contains(t, rest, dir)
	require.True(t, strings.HasSuffix(rest, "stopped\n"), rest)

	again := startServer(t, dir)
	out, errs, code = run(t, "", "sql", "-P", again.port, "-e", "SELECT COUNT(*) FROM shop.t")
	require.Zero(t, code, errs)
	require.Contains(t, out, "\n2\n")
	again.stop(t)
}

// Each refusal is one sentence, and leaves nothing behind.
func TestStartRefusals(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	folder := t.TempDir()
	occupied := filepath.Join(folder, "occupied")
	require.NoError(t, os.Mkdir(occupied, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(occupied, "thesis.tex"), nil, 0o644))
	blocked := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o644))

	for want, args := range map[string][]string{
		"is in use by another program":        {"--data", filepath.Join(folder, "a"), "--listen", busy.Addr().String()},
		"root has no password":                {"--data", filepath.Join(folder, "b"), "--listen", "0.0.0.0:0", "--shards", "1"},
		"it holds thesis.tex but no IDENTITY": {"--data", occupied, "--listen", "127.0.0.1:0"},
		"not a directory":                     {"--data", filepath.Join(blocked, "x"), "--listen", "127.0.0.1:0"},
		"unknown flag: --dta; see":            {"--dta", "x"},
	} {
		_, errs, code := run(t, "", append([]string{"start"}, args...)...)
		require.NotZero(t, code, want)
		require.Contains(t, errs, want)
		require.Equal(t, 1, strings.Count(errs, "\n"), "one sentence: %q", errs)
	}
	require.NoDirExists(t, filepath.Join(folder, "a"), "a port in use is found before the directory is made")
	entries, err := os.ReadDir(occupied)
	require.NoError(t, err)
	for _, e := range entries {
		require.Contains(t, []string{"thesis.tex", "LOCK"}, e.Name())
	}
}

// The sqllogictest command runs scripts on a node of its own, says what differs,
// and ends with the counts.
func TestSQLLogicTest(t *testing.T) {
	folder := t.TempDir()
	good, bad := filepath.Join(folder, "good.slt"), filepath.Join(folder, "bad.slt")
	require.NoError(t, os.WriteFile(good, []byte("statement ok\nCREATE TABLE t (a INT PRIMARY KEY, b TEXT)\n\nstatement count 2\nINSERT INTO t VALUES (1, 'x'), (2, '')\n\nquery IT rowsort\nSELECT * FROM t\n----\n1\nx\n2\n(empty)\n\nskipif mysql\nstatement ok\nnothing\n"), 0o644))
	out, errs, code := run(t, "", "sqllogictest", "--shards", "2", good)
	require.Zero(t, code, errs)
	require.True(t, strings.HasSuffix(out, "\n3 passed, 0 failed, 1 skipped\n"), out)

	require.NoError(t, os.WriteFile(bad, []byte("query I\nSELECT 1\n----\n2\n"), 0o644))
	junit, js := filepath.Join(folder, "r.xml"), filepath.Join(folder, "r.json")
	out, _, code = run(t, "", "sqllogictest", "--shards", "2", "--junit", junit, "--json", js, folder)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, bad+":1: line 1 of the result differs")
	require.True(t, strings.HasSuffix(out, "\n3 passed, 1 failed, 1 skipped\n"), out)
	require.FileExists(t, junit)
	require.FileExists(t, js)

	_, errs, code = run(t, "", "sqllogictest", "--shards", "2", "--rewrite", bad)
	require.Equal(t, exitFailed, code, errs)
	text, err := os.ReadFile(bad)
	require.NoError(t, err)
	require.Equal(t, "query I\nSELECT 1\n----\n1\n", string(text))

	_, errs, code = run(t, "", "sqllogictest", filepath.Join(folder, "none"))
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "no script at")
}

// The repository's own scripts pass on a node in the process.
func TestScripts(t *testing.T) {
	out, errs, code := run(t, "", "sqllogictest", "--shards", "3", filepath.Join("..", "..", "sqllogictest", "testdata", "scripts"))
	require.Zero(t, code, "%s%s", errs, out)
	require.Contains(t, out, " 0 failed, ")
}
