package sqlfront

import (
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// fastPlans are the statements that a server has seen, by what their meaning depends
// on besides their text. Of those that are not ours it is known that they are not.
//
// There are at most maxFastPlans. Who needs room gives up the statement that the hand
// of a clock finds first that nobody has asked for since it came by: a flood of texts
// that come once gives up nothing but itself.
type fastPlans struct {
	mu     sync.RWMutex
	scopes map[scopeKey]*fastScope // those that have statements
	ring   []*fastEntry            // all statements
	hand   int
}

const maxFastPlans = 8192

// fastScope has the statements of one scope.
type fastScope struct {
	of    *fastPlans
	key   scopeKey
	lists [2]map[string]*fastEntry // by shape; of prepared statements, by text
}

// fastEntry is a place in the ring.
type fastEntry struct {
	scope *fastScope
	shape string
	list  int
	plan  *fastPlan // nil: not ours
	used  atomic.Bool
}

const (
	byShape = iota
	byText
)

// scope finds the statements of one kind of session. One that nobody knows yet, or no
// longer, has none; put takes care of that.
func (p *fastPlans) scope(key scopeKey) *fastScope {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if scope := p.scopes[key]; scope != nil {
		return scope
	}
	return &fastScope{of: p, key: key}
}

func (s *fastScope) text(shape []byte) (*fastPlan, bool) {
	s.of.mu.RLock()
	e := s.lists[byShape][string(shape)]
	s.of.mu.RUnlock()
	return e.found()
}

func (s *fastScope) prepared(text string) (*fastPlan, bool) {
	s.of.mu.RLock()
	e := s.lists[byText][text]
	s.of.mu.RUnlock()
	return e.found()
}

func (e *fastEntry) found() (*fastPlan, bool) {
	if e == nil {
		return nil, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.plan, true
}

// put notes a statement. It returns the scope in which it is found from now on, and
// the plan that is there, which another session may have put.
func (p *fastPlans) put(scope *fastScope, shape string, list int, plan *fastPlan) (*fastScope, *fastPlan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.scopes[scope.key]; now != nil {
		scope = now
	}
	if e := scope.lists[list][shape]; e != nil {
		return scope, e.plan
	}
	e := &fastEntry{scope: scope, shape: shape, list: list, plan: plan}
	if len(p.ring) < maxFastPlans {
		p.ring = append(p.ring, e)
	} else {
		p.ring[p.giveUpLocked()] = e
	}
	if scope.lists[list] == nil {
		scope.lists[list] = map[string]*fastEntry{}
	}
	scope.lists[list][shape] = e
	if p.scopes == nil {
		p.scopes = map[scopeKey]*fastScope{}
	}
	p.scopes[scope.key] = scope
	return scope, plan
}

// giveUpLocked makes room in the ring and returns its place. A scope goes with its
// last statement; sessions that still have it find nothing in it.
func (p *fastPlans) giveUpLocked() int {
	for {
		at := p.hand
		p.hand = (p.hand + 1) % len(p.ring)
		e := p.ring[at]
		if e.used.Swap(false) {
			continue
		}
		s := e.scope
		delete(s.lists[e.list], e.shape)
		if len(s.lists[byShape])+len(s.lists[byText]) == 0 {
			delete(p.scopes, s.key)
		}
		return at
	}
}

// forget gives up what statements mean to tables that are not in a snapshot.
func (p *fastPlans) forget(now *catalog.Snapshot) {
	if mutated("0070.old-table") {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, e := range p.ring {
		if e.plan == nil {
			continue
		}
		b := e.plan.bound.Load()
		if b == nil || b.info == nil {
			continue
		}
		if schema := now.Schema(b.schema); schema == nil || schema.Table(b.table) != b.info.desc {
			e.plan.bound.CompareAndSwap(b, nil)
		}
	}
}

// fastPlan is a statement, and what it means in the schema as it was last seen.
type fastPlan struct {
	statement *fastpath.Statement
	plain     bool // wire.PlainSelect says so of the text
	bound     atomic.Pointer[boundRead]
}
