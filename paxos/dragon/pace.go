package dragon

import (
	"sync"
	"time"
)

// pace spreads what a host sends in snapshots over time, so that moves of replicas
// leave room for everything else. All snapshots of the host share it.
type pace struct {
	rate int64 // bytes per second

	mu   sync.Mutex
	free time.Time // when what was asked for before has gone
}

// reserve takes n bytes and returns how long to wait before they are sent.
func (p *pace) reserve(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return wait
}

// wait waits until n bytes may be sent, or until ended.
func (p *pace) wait(n int, ended <-chan struct{}) {
	if p == nil || p.rate <= 0 {
		return
	}
	if d := p.reserve(time.Now(), n); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ended:
		}
	}
}
