package explore

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Step leads from one state to the next.
type Step[S comparable] struct {
	Name string
	To   S
}

// Model is what is explored.
type Model[S comparable] struct {
	First S
	// Next lists the steps out of a state. An error ends the search: the code
	// under test did something that no step may lead to.
	Next func(S) ([]Step[S], error)
	// Broken says what is wrong with a state, "" if nothing is.
	Broken func(S) string
}

// Violation is a broken state and how it was reached.
type Violation struct {
	What  string
	Trace []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s, after\n\t%s", v.What, strings.Join(v.Trace, "\n\t"))
}

// origin is how a state was first reached.
type origin[S comparable] struct {
	from S
	step string
}

// All visits every state and returns how many there are. It gives up beyond
// limit states: a model that is larger than its author thought shows nothing.
func (m *Model[S]) All(limit int) (int, error) {
	origins := map[S]origin[S]{m.First: {}}
	queue := []S{m.First}
	for n := 0; n < len(queue); n++ {
		s := queue[n]
		if what := m.Broken(s); what != "" {
			return n, m.violation(origins, s, what)
		}
		if len(queue) > limit {
			return n, fmt.Errorf("more than %d states", limit)
		}
		steps, err := m.Next(s)
		if err != nil {
			return n, m.violation(origins, s, err.Error())
		}
		for _, next := range steps {
			if _, known := origins[next.To]; !known {
				origins[next.To] = origin[S]{s, next.Name}
				queue = append(queue, next.To)
			}
		}
	}
	return len(queue), nil
}

func (m *Model[S]) violation(origins map[S]origin[S], s S, what string) *Violation {
	v := &Violation{What: what}
	for s != m.First {
		o := origins[s]
		v.Trace = append([]string{o.step}, v.Trace...)
		s = o.from
	}
	return v
}

// Walk takes random paths of at most length steps each.
func (m *Model[S]) Walk(rng *rand.Rand, paths, length int) error {
	for range paths {
		s := m.First
		var trace []string
		for range length {
			steps, err := m.Next(s)
			if err != nil {
				return &Violation{err.Error(), trace}
			}
			if len(steps) == 0 {
				break
			}
			next := steps[rng.IntN(len(steps))]
			s, trace = next.To, append(trace, next.Name)
			if what := m.Broken(s); what != "" {
				return &Violation{what, trace}
			}
		}
	}
	return nil
}
