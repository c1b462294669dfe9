package shard

import (
	"context"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/locks"
)

const (
	// reportAge is how long a wait lasts before it is reported: most end sooner.
	reportAge = 10 * time.Millisecond
	// reportEvery is the pace of reports. A cycle is confirmed by the second one
	// after it closed, and its verdict comes with the third.
	reportEvery = 50 * time.Millisecond
	// reportPatience bounds one report.
	reportPatience = time.Second
)

// reporter tells the detector about the waits of one node and carries its
// verdicts out.
type reporter struct {
	id       uint64
	replicas func() []*Replica // whose waits are this node's
	send     func(context.Context, *WaitsRequest) (*WaitsResponse, error)
	now      func() time.Time

	mu struct {
		sync.Mutex // one report at a time; held across the call on purpose
		sequence   uint64
		epoch      uint64 // of the last answer
		seen       uint64
		silent     bool // the last report was empty and has arrived
	}
}

// report makes one report. A node without waits says so once.
func (p *reporter) report(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &WaitsRequest{Reporter: p.id, Epoch: p.mu.epoch, Seen: p.mu.seen}
	for _, r := range p.replicas() {
		q.Waits = append(q.Waits, r.longWaits(p.now())...)
	}
	if len(q.Waits) == 0 && p.mu.silent {
		return nil
	}
	p.mu.sequence++
	q.Sequence = p.mu.sequence
	p.mu.silent = false
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	response, err := p.send(ctx, q)
	if err != nil {
		return err
	}
	p.mu.epoch, p.mu.seen, p.mu.silent = response.Epoch, response.Step, len(q.Waits) == 0
	for _, v := range response.Verdicts {
		for _, r := range p.replicas() {
			if r.c.Shard == v.Shard {
				r.breakWait(v, p.now())
			}
		}
	}
	return nil
}

// longWaits lists the waits at this owner that are worth reporting.
func (r *Replica) longWaits(now time.Time) (waits []ReportedWait) {
	t := r.serving.Load()
	if t == nil {
		return nil
	}
	for _, w := range t.table.Waits() {
		if age := now.Sub(w.Since); age >= reportAge {
			info := waitInfo(r.c.Shard, w)
			info.Since = age
			waits = append(waits, ReportedWait{LockInfo: info, Epoch: t.epoch, ID: w.ID})
		}
	}
	return waits
}

// breakWait carries a verdict out, if its wait is still there (H4).
func (r *Replica) breakWait(v WaitVerdict, now time.Time) bool {
	t := r.serving.Load()
	if t == nil || t.epoch != v.Epoch && !mutated("H4.verdict-of-another-epoch") || len(v.Members) == 0 {
		return false
	}
	d := locks.Deadlock{Time: now, Victim: ownerOf(v.Members[0].Txn)}
	for _, m := range v.Members {
		w := locks.WaitInfo{Table: tableName(m.Shard), Owner: ownerOf(m.Txn), Mode: m.Mode, Span: locks.Span{Lo: m.Lo, Hi: m.Hi},
			Statement: m.Statement, Weight: m.Weight, Since: now.Add(-m.Since), Connection: m.Connection}
		for _, b := range m.BlockedBy {
			w.Blockers = append(w.Blockers, ownerOf(b))
		}
		d.Members = append(d.Members, w)
	}
	return t.table.Break(v.ID, d)
}

// ReportWaits takes a node's report in. Only the system shard's owner can.
func (r *Replica) ReportWaits(q *WaitsRequest) (*WaitsResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	if r.c.Shard != System {
		return nil, r.bad("waits are reported to the system shard")
	}
	t.waits.Lock()
	defer t.waits.Unlock()
	if t.waits.detector == nil {
		t.waits.detector = newDetector(t.epoch)
	}
	return t.waits.take(q, r.c.Clock()), nil
}

// forget: there is no other node whose waits this one's could close a cycle with.
func (p *reporter) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.silent = true
}

// told tells whether the detector knows that this node has no waits, or nothing of it.
func (p *reporter) told() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.silent || p.mu.sequence == 0
}

// watchWaits reports as long as somebody waits for a lock, and stands still until
// somebody does: idle nodes have better things to do.
func (n *Node) watchWaits() {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		if n.graph.Waiting() == 0 && n.reporter.told() {
			ticker.Stop()
			select {
			case <-n.graph.Begun():
			case <-n.life.Done():
				return
			}
			ticker.Reset(reportEvery)
		}
		select {
		case <-ticker.C:
			n.reportWaits(n.life)
		case <-n.life.Done():
			return
		}
	}
}

// reportWaits makes one report. Where all shards have this node alone, its own graph
// sees every wait.
func (n *Node) reportWaits(ctx context.Context) {
	if n.router.directory.alone(n.addr()) {
		n.reporter.forget()
		return
	}
	if err := n.reporter.report(ctx); err != nil && ctx.Err() == nil {
		n.c.Logger.Debug("report lock waits", "error", err)
	}
}

func (n *Node) newReporter() *reporter {
	return &reporter{id: n.process, now: time.Now,
		replicas: n.local.all,
		send: func(ctx context.Context, q *WaitsRequest) (*WaitsResponse, error) {
			return callFor[WaitsResponse](ctx, n.router, System, methodWaits, q)
		}}
}

// alone tells whether no other node has a replica of any shard.
func (d *Directory) alone(self NodeAddr) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, members := range d.mu.members {
		for _, m := range members {
			if m != self {
				return false
			}
		}
	}
	return true
}
