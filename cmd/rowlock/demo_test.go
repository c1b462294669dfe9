package main

import (
	"path/filepath"
	"testing"

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
	out := demo("CREATE DATABASE d;\nCREATE TABLE d.t (id INT PRIMARY KEY);\nINSERT INTO d.t VALUES (41);\n\\kill 2\nUPDATE d.t SET id = id + 1;\n\\nodes\n\\restart 2\n\\nowhere\n\\kill 9\nquit\n")
	require.Contains(t, out, "node 2  killed")
	require.Contains(t, out, "nowhere is no command")
	require.Contains(t, out, "there is no node 9")
	out = demo("SELECT id + 1000 FROM d.t;\n\\add\n\\cut 1 4\n\\mend 1 4\n\\nodes\n")
	require.Contains(t, out, "1042")
	require.Contains(t, out, "node 4  running")
}
