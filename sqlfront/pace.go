package sqlfront

import "time"

// pace is how fast work goes on beside the statements of others: how many rows one
// step takes, and how long to rest after it. Steps are short, so that nobody waits
// long behind one. A step that took long though it was small had to share the
// machines, or their disks, with others, and the work stands back. The zero value is
// the beginning.
type pace struct{ size int }

const (
	leastStep, mostStep = 2048, 16384
	stepTime            = 250 * time.Millisecond
	longestRest         = time.Second
)

// rows is how many rows the next step takes.
func (p *pace) rows() int { return max(p.size, leastStep) }

// did takes in how long a step took, and says how long to rest.
func (p *pace) did(rows int, took time.Duration) time.Duration {
	switch size := p.rows(); {
	case rows < leastStep: // it says nothing about the next one
		return 0
	case took < stepTime/2:
		p.size = min(2*size, mostStep)
	case took > stepTime:
		p.size = max(size/2, leastStep)
		return min(took/4, longestRest)
	}
	return 0
}
