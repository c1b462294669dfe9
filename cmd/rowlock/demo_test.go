package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A demo is used, broken and begun again on what it kept.
func TestDemo(t *testing.T) {
	t.Parallel()
	keep := filepath.Join(t.TempDir(), "kept")
	demo := func(script string) string {
		stdout, stderr, code := run(t, script, "demo", "--nodes", "3", "--keep", keep)
		require.Zero(t, code, stdout+stderr)
		return stdout + stderr
	}
	// What is begun while a node dies may be rolled back (1213) and is begun again.
	again := strings.Repeat("REPLACE INTO d.t VALUES (1, 42);\n", 5)
	out := demo("CREATE DATABASE d;\nCREATE TABLE d.t (id INT PRIMARY KEY, n INT);\nINSERT INTO d.t VALUES (1, 41);\n\\kill 2\n" + again + "\\nodes\n\\restart 2\n\\nowhere\n\\kill 9\nquit\n")
	require.Contains(t, out, "node 2  killed")
	require.Contains(t, out, "nowhere is no command")
	require.Contains(t, out, "there is no node 9")
	out = demo("SELECT n + 1000 FROM d.t;\n\\add\n\\cut 1 4\n\\mend 1 4\n\\nodes\n")
	require.Contains(t, out, "1042")
	require.Contains(t, out, "node 4  running")
}

// conversation is a command whose answers are waited for.
type conversation struct {
	t    *testing.T
	c    *exec.Cmd
	in   io.Writer
	said chan string // lines
	all  strings.Builder
}

func converse(t *testing.T, args ...string) *conversation {
	c := command(t, args...)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	c.Stderr = c.Stdout
	require.NoError(t, c.Start())
	talk := &conversation{t: t, c: c, in: in, said: make(chan string, 10_000)}
	go func() {
		defer close(talk.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			talk.said <- lines.Text()
		}
	}()
	return talk
}

// end leaves the command and wants it to have gone well.
func (c *conversation) end() {
	c.t.Helper()
	c.say("quit")
	for line := range c.said {
		fmt.Fprintln(&c.all, line)
	}
	require.NoError(c.t, c.c.Wait(), c.all.String())
}

func (c *conversation) say(line string) { fmt.Fprintln(c.in, line) }

// hear waits for a line with a text in it.
func (c *conversation) hear(text string) {
	c.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-c.said:
			require.True(c.t, ok, "it has ended and not said %q: %s", text, &c.all)
			fmt.Fprintln(&c.all, line)
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			c.t.Fatalf("it does not say %q: %s", text, &c.all)
		}
	}
}

// Every command does what it says: who is cut off is out of reach until it is mended,
// and a node that was removed says that it has stopped.
func TestDemoCommands(t *testing.T) {
	t.Parallel()
	c := converse(t, "demo", "--nodes", "3")
	c.hear("node 3  running")
	c.say("help")
	c.hear("\\mend A B")
	c.say("\\add")
	c.hear("done after")
	c.say("\\cut 2 3")
	c.hear("done after")
	// What node 2 cannot tell of node 3 itself it is told by others: nothing is lost.
	c.say("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2), (3);")
	c.hear("3 rows affected")
	c.say("\\mend 2 3")
	c.hear("done after")
	c.say("\\kill 2")
	c.hear("done after")
	c.say("\\cut 1 2")
	c.hear("both nodes must run")
	c.say("\\restart 2")
	c.hear("done after")
	c.say("CALL rowlock.leave_node(4);")
	c.hear("ok")
	for asked := 0; !strings.Contains(c.all.String(), "node4 stopped by itself"); asked++ {
		require.Less(t, asked, 1000, "node 4 does not end: %s", &c.all)
		c.say("CALL rowlock.remove_node(4);")
		c.say(fmt.Sprintf("SELECT 'asked %d times';", asked))
		c.hear(fmt.Sprintf("asked %d times", asked))
		time.Sleep(100 * time.Millisecond)
	}
	require.Contains(t, c.all.String(), "the node was removed from its cluster")
	c.say("\\nodes")
	c.hear("node 4  stopped")
	c.say("SELECT SUM(id) + 1000 FROM d.t;")
	c.hear("1006")
	c.end()
}
