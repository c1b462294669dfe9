package sqlfront

import (
	"context"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// foreignClaim is what this server holds for a session of another one. Its fields
// are under the mutex of claims, except the holder, which belongs to the goroutine
// that follows the list of requests.
type foreignClaim struct {
	holder   catalog.Holder
	requests []catalog.Request
	version  uint64
	seen     time.Time
	granted  bool
	settled  chan struct{} // closed when the present version is granted or given up
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the goroutine of the latest version is over
}

// holdClaim answers a claimRequest of another server.
func (s *Server) holdClaim(ctx context.Context, from uint64, q *claimRequest) claimResult {
	key := claimKey{from, q.id}
	s.claims.Lock()
	f := s.claims.foreign[key]
	if s.claims.closed || f == nil && q.renewal {
		s.claims.Unlock()
		return claimUnknown
	}
	if f == nil || q.version > f.version {
		f = s.followLocked(key, f, q)
	}
	f.seen = time.Now()
	settled, granted := f.settled, f.granted
	s.claims.Unlock()
	if granted || q.wait == 0 {
		return claimOf(granted)
	}
	timer := time.NewTimer(min(q.wait, claimPoll))
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
	case <-ctx.Done():
	}
	s.claims.Lock()
	defer s.claims.Unlock()
	return claimOf(f.granted)
}

func claimOf(granted bool) claimResult {
	if granted {
		return claimGranted
	}
	return claimWaits
}

// followLocked makes the claim hold what its newest list says: a goroutine gives
// up what is not on it any more and waits for what is new.
func (s *Server) followLocked(key claimKey, f *foreignClaim, q *claimRequest) *foreignClaim {
	before := func() {}
	if f == nil {
		f = &foreignClaim{}
		f.holder.From(key.node)
		s.claims.foreign[key] = f
	} else {
		cancel, ended := f.cancel, f.ended
		before = func() { cancel(); <-ended }
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.requests, f.version, f.granted = slices.Clone(q.requests), q.version, false
	f.cancel, f.settled, f.ended = cancel, make(chan struct{}), make(chan struct{})
	settled, ended, version := f.settled, f.ended, f.version
	s.background.Go(func() {
		defer close(ended)
		before()
		s.catalog.locks.Keep(&f.holder, q.requests)
		err := s.catalog.locks.AcquireAll(ctx, &f.holder, f.holder.Missing(q.requests), time.Hour)
		s.claims.Lock()
		f.granted = f.version == version && err == nil
		s.claims.Unlock()
		close(settled)
	})
	return f
}

// dropClaim gives up what is held for a session of another server.
func (s *Server) dropClaim(key claimKey) {
	s.claims.Lock()
	f := s.claims.foreign[key]
	delete(s.claims.foreign, key)
	s.claims.Unlock()
	if f == nil {
		return
	}
	f.cancel()
	<-f.ended
	s.catalog.locks.ReleaseAll(&f.holder)
}

// dropLapsedClaims drops what nobody has renewed.
func (s *Server) dropLapsedClaims(now time.Time) {
	s.claims.Lock()
	var lapsed []claimKey
	for key, f := range s.claims.foreign {
		if now.Sub(f.seen) > claimLease {
			lapsed = append(lapsed, key)
		}
	}
	s.claims.Unlock()
	for _, key := range lapsed {
		s.config.Logger.Warn("table locks of another node's session are dropped: it was not heard of", "node", key.node)
		s.dropClaim(key)
	}
}

// dropAllClaims ends the waits for others when the server closes.
func (s *Server) dropAllClaims() {
	s.claims.Lock()
	s.claims.closed = true
	var all []claimKey
	for key := range s.claims.foreign {
		all = append(all, key)
	}
	s.claims.Unlock()
	for _, key := range all {
		s.dropClaim(key)
	}
}

// learnClaims asks the other servers what their sessions have locked, before this
// one has sessions.
func (s *Server) learnClaims(ctx context.Context) {
	for _, p := range s.others() {
		if !p.Up || mutated("0054.starter-does-not-ask") {
			continue
		}
		a, err := s.ask(ctx, p.ID, &peerRequest{kind: askClaims})
		if err != nil {
			s.config.Logger.Warn("ask for locked tables", "node", p.ID, "error", err)
			continue
		}
		for i := range a.claims {
			s.holdClaim(ctx, p.ID, &a.claims[i])
		}
	}
}

// ownClaims lists what the sessions of this server have locked.
func (s *Server) ownClaims() (list []claimRequest) {
	s.claims.Lock()
	defer s.claims.Unlock()
	for _, c := range s.claims.own {
		list = append(list, c.request(claimPoll))
	}
	return list
}
