package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirectories(t *testing.T) {
	require.Equal(t, []string{"./locks", "./storage/keycodec"},
		directories("storage/keycodec/b_test.go\nlocks/a_test.go\nstorage/keycodec/a_test.go"))
	require.Equal(t, []string{"./."}, directories("a_test.go"))
	require.Empty(t, directories(""))
	require.Equal(t, filepath.Join("bin", "storage_keycodec.test"), program(side{bin: "bin"}, "./storage/keycodec"))
}

// TestTurns: each package runs once a round on each side that has it, in its own
// directory, and the side that comes first changes.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	order := filepath.Join(dir, "order")
	sides := make([]side, 2)
	for i, name := range []string{"before", "now"} {
		sides[i] = side{name: name, root: filepath.Join(dir, name), bin: filepath.Join(dir, name, "bin"), file: filepath.Join(dir, name+".txt")}
		require.NoError(t, os.MkdirAll(sides[i].bin, 0o755))
		for _, p := range []string{"./a", "./b"} {
			require.NoError(t, os.MkdirAll(filepath.Join(sides[i].root, p), 0o755))
			script := "#!/bin/sh\necho " + name + " $(basename $PWD) >>" + order + "\necho $2\n"
			require.NoError(t, os.WriteFile(program(sides[i], p), []byte(script), 0o755))
		}
	}
	s := settings{count: 2, bench: "Get"}
	require.NoError(t, s.measure(context.Background(), sides, [][]string{{"./a"}, {"./a", "./b"}}))
	got, err := os.ReadFile(order)
	require.NoError(t, err)
	require.Equal(t, "before a\nnow a\nnow b\nnow a\nbefore a\nnow b\n", string(got))
	got, err = os.ReadFile(sides[0].file)
	require.NoError(t, err)
	require.Equal(t, "-test.bench=Get\n-test.bench=Get\n", string(got))
}
