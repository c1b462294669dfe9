package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// probes write to one row of each data shard, again and again.
type probes struct {
	cluster *process.Cluster
	rows    map[int]int // shard → id of its row
	pools   []*sql.DB   // by node
	spared  atomic.Int64
	running sync.WaitGroup
	end     context.CancelFunc

	writing sync.RWMutex // held for reading by who writes
	mu      sync.Mutex
	tries   map[int][]try // by shard, oldest first
}

// try is one write.
type try struct {
	begun, ended time.Time
	err          error
}

// candidates are so many rows that every shard has one.
const candidates = 300

func newProbes(ctx context.Context, c *process.Cluster, shards int) (*probes, error) {
	p := &probes{cluster: c, rows: map[int]int{}, tries: map[int][]try{}}
	for _, n := range c.Nodes {
		pool, err := process.OpenMany(n.SQL(), 2*shards)
		if err != nil {
			return nil, err
		}
		p.pools = append(p.pools, pool)
	}
	var values []string
	var ids []int
	for i := range candidates {
		id := i * process.Apart
		values = append(values, fmt.Sprintf("(%d, 0)", id))
		ids = append(ids, id)
	}
	for _, s := range []string{"CREATE DATABASE probe", "CREATE TABLE probe.t (id INT PRIMARY KEY, n BIGINT NOT NULL)",
		"INSERT INTO probe.t VALUES " + strings.Join(values, ", ")} {
		if _, err := p.pools[0].ExecContext(ctx, s); err != nil {
			return nil, fmt.Errorf("%.60s: %w", s, err)
		}
	}
	places, err := process.Place(ctx, p.pools[0], "probe.t", ids)
	if err != nil {
		return nil, err
	}
	for id, shard := range places {
		p.rows[shard] = id
	}
	if len(p.rows) != shards {
		return nil, fmt.Errorf("%d rows lie on %d of %d shards", candidates, len(p.rows), shards)
	}
	return p, nil
}

// start begins to write to every shard, by any node but the spared one.
func (p *probes) start(ctx context.Context) {
	ctx, p.end = context.WithCancel(ctx)
	for shard := range p.rows {
		p.running.Go(func() { p.run(ctx, shard) })
	}
}

func (p *probes) stop() {
	p.end()
	p.running.Wait()
	for _, pool := range p.pools {
		pool.Close()
	}
}

// pause lets no probe write until the returned function is called.
func (p *probes) pause() (resume func()) {
	p.writing.Lock()
	return p.writing.Unlock
}

// spare keeps the probes away from a node, because it is about to die; 0 is none.
func (p *probes) spare(node int) { p.spared.Store(int64(node)) }

func (p *probes) run(ctx context.Context, shard int) {
	for i := shard; ctx.Err() == nil; i++ {
		node := i % len(p.pools)
		if int64(node+1) == p.spared.Load() {
			continue
		}
		p.writing.RLock()
		t := try{begun: time.Now()}
		t.err = p.write(ctx, shard, node)
		t.ended = time.Now()
		p.writing.RUnlock()
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.tries[shard] = append(p.tries[shard], t)
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *probes) write(ctx context.Context, shard, node int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	_, err := p.pools[node].ExecContext(ctx, fmt.Sprintf("UPDATE probe.t SET n = n + 1 WHERE id = %d", p.rows[shard]))
	return err
}

// after is the time from a moment to the end of the first write of a shard that
// began after it and succeeded; false if there is none yet.
func (p *probes) after(shard int, at time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.tries[shard]) - 1; i >= 0; i-- {
		if t := p.tries[shard][i]; t.begun.Before(at) {
			return p.firstSince(shard, i+1, at)
		}
	}
	return p.firstSince(shard, 0, at)
}

func (p *probes) firstSince(shard, i int, at time.Time) (time.Duration, bool) {
	for _, t := range p.tries[shard][i:] {
		if t.err == nil {
			return t.ended.Sub(at), true
		}
	}
	return 0, false
}

// failures are the errors of a shard's writes that ended after a moment.
func (p *probes) failures(shard int, at time.Time) []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i := len(p.tries[shard]) - 1; i >= 0 && p.tries[shard][i].ended.After(at); i-- {
		if err := p.tries[shard][i].err; err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// awaitAll waits until every one of the shards has taken a write that began after
// a moment, and returns the times.
func (p *probes) awaitAll(ctx context.Context, shards []int, at time.Time, limit time.Duration) (map[int]time.Duration, error) {
	times := map[int]time.Duration{}
	for len(times) < len(shards) {
		for _, s := range shards {
			if d, ok := p.after(s, at); ok {
				times[s] = d
			}
		}
		if time.Since(at) > limit {
			return times, fmt.Errorf("after %v %d of %d shards take writes", limit, len(times), len(shards))
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return times, err
		}
	}
	return times, nil
}
