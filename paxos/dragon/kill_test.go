package dragon_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

// childDir in the environment makes the test binary a process that proposes
// until it is killed.
const childDir = "ROWLOCK_TEST_DRAGON_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if part := os.Getenv(childFault); part != "" {
			failingChild(dir, part)
		}
		child(dir)
	}
	// Pebble leaves this one behind when it cannot lock a directory.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		"github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}

// child says on its standard output what was acknowledged, line by line.
func child(dir string) {
	h, err := dragon.Open(dragon.Options{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	spec := paxos.GroupSpec{Group: 1, Replica: 1, Members: map[paxos.ReplicaID]string{1: h.ID()}}
	g, err := h.Start(spec, paxostest.NewMachine(&paxostest.Disk{}))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		command := fmt.Sprintf("pid %d-%d", os.Getpid(), i)
		if _, err := g.Propose(context.Background(), []byte(command)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("acked", command)
	}
}

// TestKill kills a process that proposes, three times, and then looks for what
// it had acknowledged. The state machine keeps nothing, so everything comes
// back from the log.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for range 3 {
		acked = append(acked, runAndKill(t, dir)...)
	}
	require.Greater(t, len(acked), 300)
	start := time.Now()
	h, err := dragon.Open(dragon.Options{Dir: dir})
	require.NoError(t, err)
	disk := &paxostest.Disk{}
	spec := paxos.GroupSpec{Group: 1, Replica: 1, Members: map[paxos.ReplicaID]string{1: h.ID()}}
	g, err := h.Start(spec, paxostest.NewMachine(disk))
	require.NoError(t, err)
	require.NoError(t, g.ReadBarrier(context.Background()))
	t.Logf("ready %v after the kill, %d entries replayed", time.Since(start), len(disk.Commands()))
	seen := make(map[string]int)
	for _, c := range disk.Commands() {
		seen[c]++
	}
	for _, c := range acked {
		require.Equal(t, 1, seen[c], c)
	}
	require.NoError(t, h.Close())
}

func runAndKill(t *testing.T, dir string) []string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var acked []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		command, ok := strings.CutPrefix(lines.Text(), "acked ")
		require.True(t, ok, lines.Text())
		if acked = append(acked, command); len(acked) == 150 {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	require.Error(t, cmd.Wait(), "killed")
	return acked
}
