package explore

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two jugs of 5 and 3 measures: 4 measures are found, by the shortest way.
func jugs(want int) *Model[[2]int] {
	return &Model[[2]int]{
		Next: func(s [2]int) ([]Step[[2]int], error) {
			over := min(s[0], 3-s[1])
			back := min(s[1], 5-s[0])
			return []Step[[2]int]{{"fill 5", [2]int{5, s[1]}}, {"fill 3", [2]int{s[0], 3}}, {"empty 5", [2]int{0, s[1]}},
				{"empty 3", [2]int{s[0], 0}}, {"5 to 3", [2]int{s[0] - over, s[1] + over}}, {"3 to 5", [2]int{s[0] + back, s[1] - back}}}, nil
		},
		Broken: func(s [2]int) string {
			if s[0] == want {
				return "found"
			}
			return ""
		},
	}
}

func TestAll(t *testing.T) {
	_, err := jugs(4).All(100)
	var v *Violation
	require.ErrorAs(t, err, &v)
	require.Equal(t, []string{"fill 5", "5 to 3", "empty 3", "5 to 3", "fill 5", "5 to 3"}, v.Trace)
	n, err := jugs(6).All(100)
	require.NoError(t, err)
	require.Equal(t, 16, n)
	_, err = jugs(6).All(10)
	require.ErrorContains(t, err, "more than 10 states")
}

func TestWalk(t *testing.T) {
	require.Error(t, jugs(4).Walk(rand.New(rand.NewPCG(Seed(t), 0)), 1000, 100))
	require.NoError(t, jugs(6).Walk(rand.New(rand.NewPCG(Seed(t), 0)), 10, 100))
}
