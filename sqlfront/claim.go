package sqlfront

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// Writers take metadata locks on their own node only, so that they cost no message.
// What LOCK TABLES and FLUSH TABLES WITH READ LOCK take has to hold on every node:
// a claim. The session's server asks each other server to hold the same locks in
// its name, node by node in the order of their ids, and renews that each second. A
// server that is not asked for claimLease drops them; the session that has them
// knows before, because its server counts from when it asked.
//
// Two sessions that claim at the same time meet on the first node, so they cannot
// wait for each other. A step that is not granted soon gives everything back and
// begins again: what is held on one node must not be in the way of what another
// node waits for.
const (
	claimLease = 10 * time.Second
	claimRenew = time.Second
	// claimStep bounds the wait on one node while others are held.
	claimStep = 2 * time.Second
	// claimPoll bounds one question of whether a node has granted.
	claimPoll = 500 * time.Millisecond
)

// claim is what a session of this server has locked on all nodes.
type claim struct {
	id uint64

	mu struct {
		sync.Mutex
		requests []catalog.Request
		version  uint64               // of requests
		granted  map[uint64]time.Time // by node, when the last question was asked that it answered
		lost     string               // why, "" while it holds
	}
}

// claimRequest asks a server to hold locks for a session of another one, or
// whether it does. The same one may be asked any number of times.
type claimRequest struct {
	id       uint64
	version  uint64
	requests []catalog.Request
	wait     time.Duration
	renewal  bool // the claim was granted before: do not begin anew
}

// claimResult is what a claimRequest comes to. The numbers are part of the format.
type claimResult byte

const (
	claimGranted claimResult = 1
	claimWaits   claimResult = 2
	claimUnknown claimResult = 3 // a renewal of what was dropped
)

func (c *claim) request(wait time.Duration) claimRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return claimRequest{id: c.id, version: c.mu.version, requests: slices.Clone(c.mu.requests), wait: wait}
}

// heard notes a node's answer to a question that was asked at asked.
func (c *claim) heard(node uint64, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.granted[node] = asked
}

// forget leaves a node out that is down: it serves nobody, and learns of the claim
// when it is back.
func (c *claim) forget(node uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.granted, node)
}

// lose says that another node may have let go.
func (c *claim) lose(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.lost == "" {
		c.mu.lost = why
	}
}

// check is nil while all nodes hold what the session has locked.
func (c *claim) check(now time.Time) error {
	if c == nil || mutated("0054.loss-untold") {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, asked := range c.mu.granted {
		if c.mu.lost == "" && now.Sub(asked) > claimLease {
			c.mu.lost = fmt.Sprintf("node %d was not reached for %v", node, claimLease)
		}
	}
	if c.mu.lost == "" {
		return nil
	}
	return mysql.NewSQLError(warnMissing, "HY000", "The tables are not locked any more: %s", c.mu.lost)
}

// claims are those of this server's sessions, and those that it holds for others.
type claims struct {
	sync.Mutex
	last    uint64
	own     map[uint64]*claim
	foreign map[claimKey]*foreignClaim
	closed  bool
}

type claimKey struct{ node, id uint64 }

func newClaims() *claims {
	// Numbers of an earlier life may still be held elsewhere.
	return &claims{last: uint64(time.Now().UnixNano()), own: map[uint64]*claim{}, foreign: map[claimKey]*foreignClaim{}}
}

// lockEverywhere takes all requests for h, here and on every other node, or none.
// The claim is nil if there are no others.
func (s *Server) lockEverywhere(ctx context.Context, h *catalog.Holder, requests []catalog.Request, timeout time.Duration) (*claim, error) {
	if s.config.Peers == nil {
		return nil, s.catalog.locks.AcquireAll(ctx, h, requests, timeout)
	}
	c := s.claims.open(requests)
	deadline := time.Now().Add(timeout)
	for {
		err := s.tryEverywhere(ctx, c, h, min(time.Until(deadline), claimStep))
		if err == nil {
			s.claims.hold(c)
			return c, nil
		}
		s.catalog.locks.ReleaseAll(h)
		s.unclaim(c)
		if !errors.Is(err, catalog.ErrLockTimeout) {
			return nil, err
		}
		c = s.claims.open(requests)
		pause := time.NewTimer(time.Duration(20+rand.N(80)) * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, catalog.ErrLockTimeout
		}
	}
}

// tryEverywhere is one attempt, which waits on each node up to step.
func (s *Server) tryEverywhere(ctx context.Context, c *claim, h *catalog.Holder, step time.Duration) error {
	nodes := append(s.others(), Peer{ID: s.config.Node, Up: true})
	slices.SortFunc(nodes, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	for _, p := range nodes {
		var err error
		switch {
		case p.ID == s.config.Node:
			err = s.catalog.locks.AcquireAll(ctx, h, c.request(0).requests, step)
		case p.Up && !mutated("0054.others-unasked"):
			err = s.claimAt(ctx, c, p.ID, step)
		}
		if err != nil {
			return err
		}
	}
	return c.check(time.Now())
}

// claimAt asks one node until it has granted, or step is over.
func (s *Server) claimAt(ctx context.Context, c *claim, node uint64, step time.Duration) error {
	deadline := time.Now().Add(step)
	for {
		asked := time.Now()
		q := &peerRequest{kind: askClaim, claim: c.request(min(step, claimPoll))}
		a, err := s.ask(ctx, node, q)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.config.Logger.Warn("lock tables on another node", "node", node, "error", err)
			return mysql.NewSQLError(warnMissing, "HY000", "Node %d does not answer; the tables are not locked", node)
		case a.claimed == claimGranted && mutated("0054.lease-from-the-answer"):
			c.heard(node, time.Now())
			return nil
		case a.claimed == claimGranted:
			c.heard(node, asked)
			return nil
		case time.Now().After(deadline):
			return catalog.ErrLockTimeout
		}
	}
}

func (c *claims) open(requests []catalog.Request) *claim {
	c.Lock()
	defer c.Unlock()
	c.last++
	opened := &claim{id: c.last}
	opened.mu.requests, opened.mu.granted = requests, map[uint64]time.Time{}
	return opened
}

func (c *claims) hold(held *claim) {
	c.Lock()
	defer c.Unlock()
	c.own[held.id] = held
}

// unclaim lets the other nodes go on. It does not wait for them: they would find
// out by themselves.
func (s *Server) unclaim(c *claim) {
	if c == nil {
		return
	}
	s.claims.Lock()
	delete(s.claims.own, c.id)
	s.claims.Unlock()
	for _, p := range s.others() {
		if p.Up {
			s.background.Go(func() {
				_, _ = s.ask(context.Background(), p.ID, &peerRequest{kind: askUnclaim, claim: claimRequest{id: c.id}})
			})
		}
	}
}

// change is for tables that were renamed or dropped under LOCK TABLES.
func (s *Server) changeClaim(ctx context.Context, c *claim, requests []catalog.Request) {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.mu.requests = requests
	c.mu.version++
	c.mu.Unlock()
	s.renewClaim(ctx, c)
}

// tendClaims renews what sessions here have locked elsewhere, and drops what is
// held for others who do not renew.
func (s *Server) tendClaims(ctx context.Context) {
	tick := time.NewTicker(claimRenew)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.claims.Lock()
		own := make([]*claim, 0, len(s.claims.own))
		for _, c := range s.claims.own {
			own = append(own, c)
		}
		s.claims.Unlock()
		var renewals sync.WaitGroup
		for _, c := range own {
			renewals.Go(func() { s.renewClaim(ctx, c) })
		}
		renewals.Wait()
		s.dropLapsedClaims(time.Now())
	}
}

// renewClaim asks all nodes at once. One that had granted and does not know the
// claim has dropped it; one that is new begins to hold it.
func (s *Server) renewClaim(ctx context.Context, c *claim) {
	var asked sync.WaitGroup
	for _, p := range s.others() {
		if !p.Up {
			c.forget(p.ID)
			continue
		}
		asked.Go(func() {
			at := time.Now()
			q := &peerRequest{kind: askClaim, claim: c.request(0)}
			c.mu.Lock()
			_, q.claim.renewal = c.mu.granted[p.ID]
			c.mu.Unlock()
			a, err := s.ask(ctx, p.ID, q)
			switch {
			case err != nil || a.claimed == claimWaits:
			case a.claimed == claimUnknown:
				c.lose(fmt.Sprintf("node %d let go", p.ID))
			default:
				c.heard(p.ID, at)
			}
		})
	}
	asked.Wait()
}
