package process

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		stat string
		want int
	}{
		{"17 (rowlock) S 1 17 17 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 9 0 400 0 0", 281},
		{"17 (a) name) with (brackets) S 1 17 17 0 -1 4194560 100 0 0 0 2 3 0 0 20 0 9 0 400 0 0", 5},
	} {
		got, err := parseTicks(c.stat)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, broken := range []string{"", "17 (rowlock) S 1 2 3", "17 (r) S 1 17 17 0 -1 4194560 100 0 0 0 x 31 0 0"} {
		_, err := parseTicks(broken)
		require.Error(t, err)
	}
}

func TestMemory(t *testing.T) {
	status := "Name:\trowlock\nVmPeak:\t 9000 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t9\n"
	require.Equal(t, Memory{Resident: 1 << 20, Peak: 2 << 20}, parseMemory(status))
	require.Equal(t, Memory{}, parseMemory(""))
}

func TestUsageOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the system has no /proc")
	}
	used, err := CPU(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, time.Duration(0))
	m, err := MemoryOf(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, m.Resident)
	_, err = CPU(-1)
	require.Error(t, err)
}

func TestTimeOfTheMachine(t *testing.T) {
	busy, err := parseMachine("cpu  100 20 3 5000 700 40 5 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	require.NoError(t, err)
	require.Equal(t, 1680*time.Millisecond, busy)
	for _, broken := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu  1 2 x 4 5 6 7 8"} {
		_, err := parseMachine(broken)
		require.Error(t, err)
	}
}
