package txn

import (
	"context"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Advisory are one session's advisory locks (GET_LOCK). They live on the system
// shard and outlive transactions. Its methods are for one goroutine at a time.
//
// How often the session took a lock is counted here; the shard knows only who
// has it. A lock that was lost, because this process was silent for longer than
// its lease, is noticed by its token: from then on it is not held.
type Advisory struct {
	c          *Coordinator
	session    shard.AdvisorySession
	connection uint64
	held       map[string]*advisoryHold
	used       bool // something was sent that may have taken a lock
}

// stalePause is how long Get waits before it asks again with a new number.
const stalePause = 100 * time.Millisecond

type advisoryHold struct {
	token uint64
	count int
}

// AdvisoryRelease is what RELEASE_LOCK found.
type AdvisoryRelease uint8

// The findings.
const (
	AdvisoryReleased AdvisoryRelease = iota + 1
	AdvisoryNotMine
	AdvisoryNotHeld // by nobody
)

// Advisory returns the advisory locks of a new session. connection is what
// others see as its holder.
func (c *Coordinator) Advisory(connection uint64) *Advisory {
	return &Advisory{c: c, connection: connection, held: map[string]*advisoryHold{},
		session: shard.AdvisorySession{Gateway: c.cfg.Gateway, Number: c.advisorySeq.Add(1)}}
}

// request numbers a step. One counter serves all sessions of the process, so
// that the numbers of a session are above those of every session before it.
func (a *Advisory) request(op shard.AdvisoryOp, name string) *shard.AdvisoryRequest {
	return &shard.AdvisoryRequest{Op: op, Session: a.session, Connection: a.connection, Seq: a.c.advisorySeq.Add(1), Name: name}
}

// Get takes a lock, once more if the session has it. It waits up to wait, for
// ever if that is negative, and reports whether the lock was got. Errors:
// Deadlock, Interrupted, Unavailable; after one the lock is not held, or not
// once more.
func (a *Advisory) Get(ctx context.Context, name string, wait time.Duration) (bool, error) {
	a.used = true
	began, left := time.Now(), wait
	for {
		request := a.request(shard.AdvisoryGet, name)
		request.Timeout, request.Token = left, a.token(name)
		response, err := a.c.router.Advisory(ctx, request)
		switch {
		case err != nil:
			return false, a.failed(ctx, name, err)
		case response.Stale:
			if wait > 0 {
				left = max(wait-time.Since(began), 0)
			}
			// A life of this node that another one has taken the place of stays stale.
			if err := sleep(ctx, stalePause); err != nil {
				return false, convert(ctx, err, storage.TxnID{}, shard.System)
			}
			continue
		case response.Holder == nil || response.Holder.Session != a.session:
			delete(a.held, name)
			return false, nil
		}
		hold := a.held[name]
		if hold == nil || hold.token != response.Holder.Token {
			hold = &advisoryHold{token: response.Holder.Token}
			a.held[name] = hold
		}
		hold.count++
		return true, nil
	}
}

// token is that of the grant which the session knows of, 0 if it knows of none.
func (a *Advisory) token(name string) uint64 {
	if hold := a.held[name]; hold != nil {
		return hold.token
	}
	return 0
}

// failed ends a Get whose outcome is not known: what it may have taken, or may
// take yet, is given up under a higher number. A lock that the session had
// before stays.
func (a *Advisory) failed(ctx context.Context, name string, err error) error {
	failure := convert(ctx, err, storage.TxnID{}, shard.System)
	if ctx.Err() != nil && failure.Code != Bug {
		failure = &Error{Code: Interrupted, Shard: shard.System, Err: ctx.Err()}
	}
	if failure.Code != Deadlock && a.held[name] == nil {
		a.c.insist(a.request(shard.AdvisoryRelease, name))
	}
	return failure
}

// Release gives a lock up once.
func (a *Advisory) Release(ctx context.Context, name string) (AdvisoryRelease, error) {
	holder, err := a.holder(ctx, name)
	if err != nil {
		return 0, err
	}
	hold := a.held[name]
	if hold == nil || holder == nil || holder.Token != hold.token {
		delete(a.held, name)
		if holder == nil {
			return AdvisoryNotHeld, nil
		}
		return AdvisoryNotMine, nil
	}
	if hold.count--; hold.count > 0 {
		return AdvisoryReleased, nil
	}
	delete(a.held, name)
	request := a.request(shard.AdvisoryRelease, name)
	if _, err := a.c.router.Advisory(ctx, request); err != nil {
		a.c.insist(request)
		return 0, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return AdvisoryReleased, nil
}

// ReleaseAll gives up everything and returns how often locks had been taken.
func (a *Advisory) ReleaseAll(ctx context.Context) (int, error) {
	n := 0
	for _, hold := range a.held {
		n += hold.count
	}
	if n == 0 {
		return 0, nil
	}
	clear(a.held)
	request := a.request(shard.AdvisoryReleaseAll, "")
	if _, err := a.c.router.Advisory(ctx, request); err != nil {
		a.c.insist(request)
		return 0, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return n, nil
}

// Token returns the fencing token of a lock: the place in the system shard's
// log at which it was granted to this session. held is false if the session
// does not have it any more.
func (a *Advisory) Token(ctx context.Context, name string) (token uint64, held bool, err error) {
	hold := a.held[name]
	if hold == nil {
		return 0, false, nil
	}
	holder, err := a.holder(ctx, name)
	if err != nil {
		return 0, false, err
	}
	if holder == nil || holder.Token != hold.token {
		delete(a.held, name)
		return 0, false, nil
	}
	return hold.token, true, nil
}

// Holder returns the connection that has a lock.
func (a *Advisory) Holder(ctx context.Context, name string) (connection uint64, held bool, err error) {
	holder, err := a.holder(ctx, name)
	if err != nil || holder == nil {
		return 0, false, err
	}
	return holder.Connection, true, nil
}

func (a *Advisory) holder(ctx context.Context, name string) (*shard.AdvisoryHolder, error) {
	response, err := a.c.router.Advisory(ctx, &shard.AdvisoryRequest{Op: shard.AdvisoryLook, Name: name})
	if err != nil {
		return nil, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return response.Holder, nil
}

// End gives up everything because the session is over. It returns at once; the
// message is sent until it is answered.
func (a *Advisory) End() {
	if !a.used {
		return
	}
	a.used = false
	clear(a.held)
	a.c.insist(a.request(shard.AdvisoryEnd, ""))
}

// insist sends a release in the background until it is answered. Should this
// process end before, its lease does the same.
func (c *Coordinator) insist(request *shard.AdvisoryRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return
	}
	c.work.Go(func() {
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			ctx, cancel := context.WithTimeout(c.life, cleanupPatience)
			_, err := c.router.Advisory(ctx, request)
			cancel()
			if err == nil || c.life.Err() != nil {
				return
			}
			c.log.Debug("release advisory locks", "session", request.Session, "error", err)
			select {
			case <-time.After(wait):
			case <-c.life.Done():
				return
			}
		}
	})
}

// AdvisoryInfo is one advisory lock for the views.
type AdvisoryInfo struct {
	Name                string
	Gateway, Connection uint64
	Token               uint64
	Since               time.Time
	Waiters             []uint64 // connections in the order of the queue
}

// AdvisoryLocks lists all advisory locks by name.
func (c *Coordinator) AdvisoryLocks(ctx context.Context) ([]AdvisoryInfo, error) {
	response, err := c.router.Advisory(ctx, &shard.AdvisoryRequest{Op: shard.AdvisoryList})
	if err != nil {
		return nil, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	infos := make([]AdvisoryInfo, len(response.Locks))
	for i, l := range response.Locks {
		infos[i] = AdvisoryInfo{Name: l.Name, Gateway: l.Holder.Session.Gateway, Connection: l.Holder.Connection,
			Token: l.Holder.Token, Since: time.UnixMilli(int64(l.Holder.Since))}
		for _, w := range l.Waiters {
			infos[i].Waiters = append(infos[i].Waiters, w.Connection)
		}
	}
	return infos, nil
}
