package dragon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Snapshots together keep to the rate, whoever sends; what was not used is not saved up.
func TestPace(t *testing.T) {
	start := time.Unix(1000, 0)
	p := &pace{rate: 1000}
	require.Zero(t, p.reserve(start, 500), "the first goes at once")
	require.Equal(t, 500*time.Millisecond, p.reserve(start, 1000), "and is paid for by the next")
	require.Equal(t, 1500*time.Millisecond, p.reserve(start, 100))
	require.Equal(t, 600*time.Millisecond, p.reserve(start.Add(time.Second), 100))
	later := start.Add(time.Hour)
	require.Zero(t, p.reserve(later, 2000))
	require.Equal(t, 2*time.Second, p.reserve(later, 1))
}

// Who waits for its turn goes when its connection ends; without a rate nobody waits.
func TestPaceEnds(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	p := &pace{rate: 1}
	p.wait(1<<40, ended)
	p.wait(1, ended)
	(*pace)(nil).wait(1, nil)
	(&pace{}).wait(1<<40, nil)
}
