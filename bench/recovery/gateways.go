package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// cluster is one node's shards on disk, for gateways of our own.
type cluster struct {
	node   *shard.Node
	tokens map[shard.ID]ring.Token
	close  []func()
}

func openCluster(ctx context.Context, dir string) (*cluster, error) {
	c := &cluster{tokens: map[shard.ID]ring.Token{}}
	quiet := slog.New(slog.DiscardHandler)
	engine, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "data"), Logger: quiet})
	if err != nil {
		return c, err
	}
	c.close = append(c.close, func() { engine.Close() })
	host, err := dragon.Open(dragon.Options{Dir: filepath.Join(dir, "log"), Logger: quiet})
	if err != nil {
		return c, err
	}
	c.close = append(c.close, func() { host.Close() })
	c.node, err = shard.Open(ctx, shard.Config{NodeID: 1, Engine: engine, Host: host, Shards: wide, Logger: quiet})
	if err != nil {
		return c, err
	}
	c.close = append(c.close, func() { c.node.Close(context.Background()) })
	for i := 0; len(c.tokens) < wide; i++ {
		token := ring.TokenOf(fmt.Appendf(nil, "%d", i))
		c.tokens[c.node.Router().Shard(token)] = token
	}
	return c, nil
}

func (c *cluster) shut() {
	for i := len(c.close) - 1; i >= 0; i-- {
		c.close[i]()
	}
}

// silent is a gateway that stops at a place: every step it reaches afterwards and
// every message it sends waits until the end, and no answer reaches it.
type silent struct {
	txn.Router
	place
	end <-chan struct{}

	mu      sync.Mutex
	counts  map[txn.Step]int
	stopped chan struct{}
	at      time.Time
}

func (g *silent) reached(step txn.Step, _ storage.TxnID) {
	g.mu.Lock()
	g.counts[step]++
	if !g.isStopped() && step == g.step && g.counts[step] == max(g.n, 1) {
		g.at = time.Now()
		close(g.stopped)
	}
	hold := g.isStopped() || g.step == txn.StepVote && step == txn.StepPrepare && g.counts[step] > g.n
	g.mu.Unlock()
	if hold {
		<-g.end
	}
}

func (g *silent) isStopped() bool {
	select {
	case <-g.stopped:
		return true
	default:
		return false
	}
}

// Renew and the rest are lost once the gateway has stopped.
func (g *silent) Renew(ctx context.Context, s shard.ID, q *shard.RenewRequest) error {
	if g.isStopped() {
		return context.Canceled
	}
	return g.Router.Renew(ctx, s, q)
}

// Undecided fails: a dead gateway recovers nothing.
func (g *silent) Undecided(context.Context, shard.ID, time.Duration) ([]shard.UndecidedVote, error) {
	return nil, context.Canceled
}

// Resolve goes nowhere once the gateway has stopped.
func (g *silent) Resolve(ctx context.Context, s shard.ID, q *shard.ResolveRequest) error {
	if g.isStopped() {
		return context.Canceled
	}
	return g.Router.Resolve(ctx, s, q)
}

// gateways stops a gateway at each place while another wants its rows.
func gateways(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "rowlock-recovery-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := openCluster(ctx, dir)
	defer c.shut()
	if err != nil {
		return fmt.Errorf("gateways: %w", err)
	}
	end := make(chan struct{})
	defer close(end)
	var running sync.WaitGroup
	list := places(wide)
	results := make([]result, len(list))
	other := txn.New(txn.Config{Router: c.node.Router(), Gateway: 9<<48 | 1})
	defer other.Close(ctx)
	for i, p := range list {
		if p.step == answered { // the same as the first Resolve: nobody has to be told here
			p = place{p.shards, txn.StepResolve, 1}
		}
		running.Go(func() {
			r := result{place: list[i], limit: resolveLimit}
			if p.noneVoted() {
				r.limit = lapseLimit
			}
			r.committed, r.took, r.err = c.abandon(ctx, p, uint64(100+i)<<48|1, other, end)
			results[i] = r
		})
	}
	running.Wait()
	return report("gateways: one stops, another wants the rows", results)
}

// abandon runs a commit whose gateway stops at p, and takes the rows over.
func (c *cluster) abandon(ctx context.Context, p place, id uint64, other *txn.Coordinator, end <-chan struct{}) (committed bool, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var keys []txn.Key
	for s := range p.shards {
		keys = append(keys, txn.At(c.tokens[shard.ID(s+1)], storage.Key(fmt.Sprintf("%x", id))))
	}
	if _, err := exchange(ctx, other, keys, "old"); err != nil {
		return false, 0, err
	}
	g := &silent{Router: c.node.Router(), place: p, end: end, counts: map[txn.Step]int{}, stopped: make(chan struct{})}
	co := txn.New(txn.Config{Router: g, Gateway: id, Reached: g.reached})
	go exchange(context.WithoutCancel(ctx), co, keys, "new")
	select {
	case <-g.stopped:
	case <-ctx.Done():
		return false, 0, fmt.Errorf("the step is never reached")
	}
	got, err := exchange(ctx, other, keys, "next")
	took = time.Since(g.at)
	if err != nil {
		return false, took, err
	}
	for _, v := range got {
		if v != got[0] {
			return false, took, fmt.Errorf("applied in part: %q", got)
		}
	}
	return got[0] == "new", took, nil
}

// exchange overwrites rows in one transaction and returns what was there.
func exchange(ctx context.Context, co *txn.Coordinator, keys []txn.Key, value string) ([]string, error) {
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	if err != nil {
		return nil, err
	}
	values := make([]string, len(rows))
	for i, r := range rows {
		values[i] = string(r.Value)
		if err := tx.Put(keys[i], []byte(value)); err != nil {
			return nil, err
		}
	}
	return values, tx.Commit(ctx)
}
