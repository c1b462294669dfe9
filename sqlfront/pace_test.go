package sqlfront

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a pace does after steps that take so many milliseconds: rows, and the rest
// before them.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name  string
		took  []int
		steps string
	}{
		{"it grows while steps are short", []int{10, 20, 30, 40, 50}, "4096/0 8192/0 16384/0 16384/0 16384/0"},
		{"it stays where steps are as long as they should be", []int{10, 130, 200, 250}, "4096/0 4096/0 4096/0 4096/0"},
		{"it shrinks and rests where they are long", []int{10, 10, 400, 300}, "4096/0 8192/0 4096/100 2048/75"},
		{"it has an end", []int{400, 60000}, "2048/100 2048/1000"},
	} {
		var p pace
		var steps []string
		for _, took := range c.took {
			rest := p.did(p.rows(), time.Duration(took)*time.Millisecond)
			steps = append(steps, fmt.Sprintf("%d/%d", p.rows(), rest.Milliseconds()))
		}
		require.Equal(t, c.steps, strings.Join(steps, " "), c.name)
	}
	var p pace
	require.Zero(t, p.did(3, time.Minute), "the end of a part says nothing")
	require.Equal(t, leastStep, p.rows())
}
