package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFaults is the short form of `make cluster-test`: it asserts that nothing is
// lost, and prints the times.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for a minute")
	}
	binary := filepath.Join(t.TempDir(), "rowlock")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "gms_pure_go", "-o", binary, "../../cmd/rowlock")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	chosen := []string{faults[0].name, "all killed at once", "paused 1 s", "cut off, both ways", "fsync error"}
	s := settings{binary: binary, mode: "faults", nodes: 3, shards: 4, accounts: 200, sessions: 2,
		warm: 2 * time.Second, short: true, verbose: true, seed: 1, chosen: chosen, autopsy: t.TempDir()}
	require.NoError(t, run(ctx, s, t.Output()))
}
