package shard_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

const (
	accounts = 12
	balance  = 100
)

// place puts account i on one of the four shards.
func place(i int) (shard.ID, storage.Key) {
	return shard.ID(i%4 + 1), storage.Key(fmt.Sprintf("account %d", i))
}

// client is a coordinator in miniature: what package txn does, without its
// comforts.
type client struct {
	router  *shard.Router
	gateway uint64
	open    *registry
	rng     *rand.Rand
}

// registry knows the open transactions of a gateway, for its renewals.
type registry struct {
	sync.Mutex
	seq  uint64
	open map[storage.TxnID]bool
}

func (r *registry) begin(start storage.Timestamp, gateway uint64) storage.TxnID {
	r.Lock()
	defer r.Unlock()
	r.seq++
	id := storage.TxnID{Start: start, Gateway: gateway, Seq: r.seq}
	r.open[id] = true
	return id
}

func (r *registry) end(id storage.TxnID) {
	r.Lock()
	defer r.Unlock()
	delete(r.open, id)
}

func (r *registry) renewal(gateway uint64) *shard.RenewRequest {
	r.Lock()
	defer r.Unlock()
	q := &shard.RenewRequest{Gateway: gateway, Cut: r.seq, Oldest: storage.MaxTimestamp}
	for id := range r.open {
		q.Open, q.Oldest = append(q.Open, id), min(q.Oldest, id.Start)
	}
	return q
}

var errAborted = errors.New("aborted")

// transfer moves money between two accounts. It returns nil if committed,
// errAborted if certainly not, and any other error if it does not know.
func (c *client) transfer(ctx context.Context, from, to int) error {
	start, err := c.router.Timestamp(ctx)
	if err != nil {
		return errAborted
	}
	id := c.open.begin(start, c.gateway)
	defer c.open.end(id)
	requests := map[shard.ID]*shard.OnePCRequest{}
	amount := c.rng.IntN(5) + 1
	for _, leg := range []struct{ account, change int }{{from, -amount}, {to, amount}} {
		s, k := place(leg.account)
		q := requests[s]
		if q == nil {
			q = &shard.OnePCRequest{Txn: id}
			requests[s] = q
		}
		granted, err := c.router.Lock(ctx, s, &shard.LockRequest{Txn: id, Token: q.Token, Mode: shard.LockExclusive, Keys: []storage.Key{k}, Read: true})
		if err != nil || (!q.Token.IsZero() && granted.Token != q.Token) {
			c.release(ctx, id, requests)
			return errAborted
		}
		q.Token = granted.Token
		value := int64(binary.BigEndian.Uint64(granted.Rows[0].Value)) + int64(leg.change)
		q.Writes = append(q.Writes, shard.Write{Key: k, Value: binary.BigEndian.AppendUint64(nil, uint64(value))})
	}
	floor, err := c.router.Timestamp(ctx)
	if err != nil {
		c.release(ctx, id, requests)
		return errAborted
	}
	for _, q := range requests {
		q.Floor = floor
	}
	return c.commit(ctx, id, requests)
}

func (c *client) release(ctx context.Context, id storage.TxnID, requests map[shard.ID]*shard.OnePCRequest) {
	for s := range requests {
		_ = c.router.Release(ctx, s, &shard.ReleaseRequest{Txn: id})
	}
}

func (c *client) commit(ctx context.Context, id storage.TxnID, requests map[shard.ID]*shard.OnePCRequest) error {
	if len(requests) == 1 {
		for s, q := range requests {
			vote, err := c.router.OnePC(ctx, s, q)
			if err != nil {
				vote, err = c.router.CloseVote(ctx, s, &shard.CloseVoteRequest{Txn: id})
			}
			switch {
			case err != nil || vote.Fenced:
				return fmt.Errorf("unknown: %w", err)
			case vote.State == storage.VoteCommitted:
				return nil
			}
			return errAborted
		}
	}
	var participants []shard.ID
	for s := range requests {
		participants = append(participants, s)
	}
	var wg sync.WaitGroup
	for s, q := range requests {
		if c.rng.IntN(20) == 0 {
			continue // this coordinator forgets to ask, and recovers
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, _ = c.router.Prepare(ctx, s, &shard.PrepareRequest{OnePCRequest: *q, Participants: participants})
		}()
	}
	wg.Wait()
	if c.rng.IntN(20) == 0 {
		return errors.New("the coordinator dies")
	}
	return recoverTxn(ctx, c.router, id, participants)
}

// recoverTxn closes every vote and applies the outcome.
func recoverTxn(ctx context.Context, r *shard.Router, id storage.TxnID, participants []shard.ID) error {
	var commit storage.Timestamp
	aborted := false
	for _, s := range participants {
		vote, err := r.CloseVote(ctx, s, &shard.CloseVoteRequest{Txn: id})
		if err != nil {
			return fmt.Errorf("unknown: %w", err)
		}
		aborted = aborted || vote.Fenced || vote.State == storage.VoteAborted
		commit = max(commit, vote.Prepare, vote.Commit)
	}
	if aborted {
		commit = 0
	}
	for _, s := range participants {
		if err := r.Resolve(ctx, s, &shard.ResolveRequest{Txn: id, Commit: commit}); err != nil {
			return fmt.Errorf("unknown: %w", err)
		}
	}
	if aborted {
		return errAborted
	}
	return nil
}

// total reads all accounts at one snapshot.
func total(ctx context.Context, r *shard.Router, at storage.Timestamp) (int64, error) {
	var sum int64
	for s := shard.ID(1); s <= 4; s++ {
		for {
			response, err := r.Read(ctx, s, &shard.ReadRequest{At: at, Span: &shard.Span{}, Limit: 100})
			var e *shard.Error
			if errors.As(err, &e) && e.Code == shard.Undecided {
				_ = recoverTxn(ctx, r, e.Other, e.Participants)
				continue
			}
			if err != nil {
				return 0, err
			}
			for _, row := range response.Rows {
				sum += int64(binary.BigEndian.Uint64(row.Value))
			}
			break
		}
	}
	return sum, nil
}

// TestBank: transfers, dying coordinators, lost and doubled proposals, garbage
// rounds, power cuts. Every snapshot has the same total, twice read is twice
// the same, and what was acknowledged stays.
func TestBank(t *testing.T) {
	seed := explore.Seed(t)
	f := newFixture(t, func(c *shard.Config) { c.Retention = 500 * time.Millisecond })
	for i := range accounts {
		s, k := place(i)
		f.commit(s, []shard.Write{{Key: k, Value: binary.BigEndian.AppendUint64(nil, balance)}})
	}
	f.network.SetFaults(memory.Faults{NotSent: 0.01, UnknownApplied: 0.02, UnknownLost: 0.02, UnknownLate: 0.02, Duplicate: 0.03})
	committed := uint64(0)
	for life := range uint64(3) {
		committed += bankLife(t, f, seed+life)
		f.crash()
	}
	require.Greater(t, committed, uint64(100), "the test did something")
	sum, err := total(f.ctx(), f.node.Router(), f.now())
	require.NoError(t, err)
	require.Equal(t, int64(accounts*balance), sum)
}

func bankLife(t *testing.T, f *fixture, seed uint64) uint64 {
	var committed atomic.Uint64
	open := &registry{open: make(map[storage.TxnID]bool)}
	var wg sync.WaitGroup
	r, began := f.node.Router(), time.Now()
	goesOn := func() bool { // until enough has happened, however slow the machine
		past := time.Since(began)
		return past < 700*time.Millisecond || past < time.Minute && committed.Load() < 40
	}
	ctx := f.ctx()
	for i := range 6 {
		c := &client{router: r, gateway: f.node.Gateway(), open: open, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		wg.Go(func() {
			for goesOn() {
				from := c.rng.IntN(accounts)
				to := (from + 1 + c.rng.IntN(accounts-1)) % accounts
				if c.transfer(ctx, min(from, to), max(from, to)) == nil {
					committed.Add(1)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for goesOn() {
				at, err := r.Timestamp(ctx)
				if err != nil {
					t.Errorf("timestamp: %v", err)
					return
				}
				for range 2 {
					sum, err := total(ctx, r, at)
					if shard.CodeOf(err) == shard.SnapshotTooOld {
						break
					}
					if err != nil || sum != accounts*balance {
						t.Errorf("total at %s: %d, %v", at, sum, err)
						return
					}
				}
			}
		})
	}
	clientsDone, swept := make(chan struct{}), make(chan struct{})
	go func() { // renewals, recovery and garbage, as long as anybody may wait for them
		defer close(swept)
		for {
			select {
			case <-clientsDone:
				return
			default:
			}
			for s := shard.ID(1); s <= 4; s++ {
				if err := r.Renew(ctx, s, open.renewal(f.node.Gateway())); err != nil {
					t.Errorf("renew: %v", err)
				}
				votes, _ := r.Undecided(ctx, s, 20*time.Millisecond)
				for _, v := range votes {
					_ = recoverTxn(ctx, r, v.Txn, v.Participants)
				}
			}
			if err := f.node.CollectGarbage(ctx); err != nil {
				t.Errorf("garbage: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	wg.Wait()
	close(clientsDone)
	<-swept
	return committed.Load()
}
