package txn_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

var bankTransfers = flag.Int("bank-transfers", 60, "transfers per client of the bank tests")

const (
	bankAccounts = 9
	bankStart    = 100
	bankClients  = 6
)

// bank moves money between accounts on all shards. Every transfer also writes
// an entry of its own, so that afterwards the test knows which ones happened.
type bank struct {
	*cluster
	co        *txn.Coordinator
	options   txn.Options
	mu        sync.Mutex
	acked     map[string]bool // entry -> the client was told "committed"
	refused   map[string]bool // entry -> the client was told "rolled back"
	unknown   map[string]bool
	conflicts atomic.Int64
}

func (b *bank) account(i int) txn.Key {
	return b.key(shard.ID(1+i%testShards), fmt.Sprintf("account %d", i))
}

// transfer returns the transaction's error.
func (b *bank) transfer(r *rand.Rand, entry string) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	from, to := r.IntN(bankAccounts), r.IntN(bankAccounts)
	if from == to {
		to = (from + 1) % bankAccounts
	}
	tx := b.co.Begin(b.options)
	defer func() { _ = tx.Rollback(ctx) }()
	balances := [2]int{}
	read := txn.ReadOptions{}
	if r.IntN(2) == 0 || !b.options.SnapshotIsolation {
		read.Lock = txn.LockExclusive
	}
	keys := []txn.Key{b.account(from), b.account(to)}
	for i, k := range keys {
		row, err := tx.Get(ctx, k, read)
		if err != nil {
			return err
		}
		if balances[i], err = strconv.Atoi(string(row.Value)); err != nil {
			return err
		}
	}
	mark := tx.Savepoint()
	if _, err := tx.GetMany(ctx, append(keys, b.key(shard.ID(1+r.IntN(testShards)), "nowhere")), txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: false}); err != nil {
		return err
	}
	if err := tx.Put(keys[0], []byte("nonsense")); err != nil {
		return err
	}
	tx.RollbackTo(mark)
	amount := r.IntN(10)
	for i, delta := range [2]int{-amount, amount} {
		if err := tx.Put(keys[i], strconv.AppendInt(nil, int64(balances[i]+delta), 10)); err != nil {
			return err
		}
	}
	home := b.key(shard.ID(1+r.IntN(testShards)), entry)
	if _, err := tx.Get(ctx, home, txn.ReadOptions{Lock: txn.LockExclusive}); err != nil {
		return err
	}
	if err := tx.Put(home, []byte("done")); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// total sums the accounts in one scan of all shards and counts the entries.
func (b *bank) total(o txn.Options) (sum int, entries map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	tx := b.co.Begin(o)
	defer func() { _ = tx.Rollback(ctx) }()
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: storage.Key("a"), Hi: storage.Key("z")})
	if err != nil {
		return 0, nil, err
	}
	defer cursor.Close()
	entries = map[string]bool{}
	for {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return 0, nil, err
		}
		if !ok {
			return sum, entries, tx.Commit(ctx)
		}
		if n, err := strconv.Atoi(string(row.Value)); err == nil {
			sum += n
		} else {
			entries[string(row.Key)] = true
		}
	}
}

func (b *bank) run(t *testing.T) {
	seed := explore.Seed(t)
	b.acked, b.refused, b.unknown = map[string]bool{}, map[string]bool{}, map[string]bool{}
	stop := make(chan struct{})
	var clients, readers sync.WaitGroup
	for i := range bankClients {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range *bankTransfers {
				entry := fmt.Sprintf("entry %d.%d", i, n)
				b.record(t, entry, b.transfer(r, entry))
			}
		})
	}
	for _, o := range []txn.Options{{Isolation: txn.RepeatableRead, ReadOnly: true}, {Isolation: txn.Serializable}} {
		readers.Go(func() {
			for {
				sum, _, err := b.total(o)
				if err == nil && sum != bankAccounts*bankStart {
					t.Errorf("%v: a reader saw a total of %d", o.Isolation, sum)
				}
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	readers.Wait()
}

func (b *bank) record(t *testing.T, entry string, err error) {
	var e *txn.Error
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.acked[entry] = true
	case !errors.As(err, &e):
		t.Errorf("%s: an error outside the contract: %v", entry, err)
	case e.Code == txn.Unknown:
		b.unknown[entry] = true
	case e.Code == txn.Bug:
		t.Errorf("%s: %v", entry, err)
	default:
		b.refused[entry] = true
	}
}

// check compares what is there with what the clients were told.
func (b *bank) check(t *testing.T) {
	sum, entries, err := b.total(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
	require.NoError(t, err)
	require.Equal(t, bankAccounts*bankStart, sum)
	for e := range b.acked {
		require.True(t, entries[e], "%s was acknowledged and is not there", e)
	}
	for e := range b.refused {
		require.False(t, entries[e], "%s was refused and is there", e)
	}
	require.Len(t, b.acked, len(entries)-b.countUnknown(entries))
	t.Logf("%d committed, %d rolled back, %d unknown", len(b.acked), len(b.refused), len(b.unknown))
	require.NotEmpty(t, b.acked)
}

func (b *bank) countUnknown(entries map[string]bool) (n int) {
	for e := range b.unknown {
		if entries[e] {
			n++
		}
	}
	return n
}

func newBank(t *testing.T, router func(txn.Router) txn.Router, o txn.Options) *bank {
	c := newCluster(t)
	b := &bank{cluster: c, co: c.coordinator(router(c.node.Router())), options: o}
	var keys []txn.Key
	for i := range bankAccounts {
		keys = append(keys, b.account(i))
	}
	c.put(c.gateway(c.node.Router(), c.node.Gateway()+1), strconv.Itoa(bankStart), keys...)
	return b
}

func TestBank(t *testing.T) {
	for name, o := range map[string]txn.Options{
		"snapshot isolation": {Isolation: txn.RepeatableRead, SnapshotIsolation: true},
		"read committed":     {Isolation: txn.ReadCommitted},
		"serializable":       {Isolation: txn.Serializable},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t, func(r txn.Router) txn.Router { return r }, o)
			b.run(t)
			require.Empty(t, b.unknown)
			b.check(t)
		})
	}
}

// The same while messages and answers get lost at random.
func TestBankWithLostMessages(t *testing.T) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(explore.Seed(t), 1000))
	lose := func(message) error {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(40) == 0 {
			return errLost
		}
		return nil
	}
	b := newBank(t, func(r txn.Router) txn.Router { return &intercepted{Router: r, before: lose, after: lose} },
		txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true})
	b.run(t)
	// Whatever is still open is finished by now or by the sweep.
	b.co = b.gateway(b.node.Router(), b.node.Gateway()+2)
	b.check(t)
}

// The same while the log refuses, loses, delays and repeats proposals.
func TestBankWithFaultyLog(t *testing.T) {
	b := newBank(t, func(r txn.Router) txn.Router { return r }, txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true})
	b.network.SetFaults(faults)
	b.run(t)
	b.network.SetFaults(noFaults)
	for g := range testShards + 1 {
		b.network.Flush(groupOf(shard.ID(g)))
	}
	b.co = b.gateway(b.node.Router(), b.node.Gateway()+2)
	b.check(t)
}

// Pairs of rows on two shards, of which never both may become 0. Every client
// reads both rows without a lock clause and takes one away if it still may: the
// textbook write skew, which snapshot isolation lets pass and SERIALIZABLE
// must not.
func TestNoWriteSkewUnderSerializable(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	seed := explore.Seed(t)
	const pairs = 4
	pair := func(i int) []txn.Key {
		return []txn.Key{c.key(1, fmt.Sprintf("x%d", i)), c.key(2, fmt.Sprintf("y%d", i))}
	}
	for i := range pairs {
		c.put(co, "1", pair(i)...)
	}
	turn := func(r *rand.Rand) error {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		tx := co.Begin(txn.Options{Isolation: txn.Serializable})
		defer func() { _ = tx.Rollback(ctx) }()
		keys := pair(r.IntN(pairs))
		rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{})
		if err != nil {
			return err
		}
		i, value := r.IntN(2), "1"
		if string(rows[0].Value) == "1" && string(rows[1].Value) == "1" {
			value = "0"
		}
		if _, err := tx.Get(ctx, keys[i], txn.ReadOptions{Lock: txn.LockExclusive}); err != nil {
			return err
		}
		if err := tx.Put(keys[i], []byte(value)); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}
	var clients sync.WaitGroup
	var done atomic.Int64
	for n := range bankClients {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for range *bankTransfers {
				if turn(r) == nil {
					done.Add(1)
				}
				keys := pair(r.IntN(pairs))
				if got := c.read(co, keys...); got[0] == "0" && got[1] == "0" {
					t.Errorf("both rows of a pair are gone")
				}
			}
		})
	}
	clients.Wait()
	require.NotZero(t, done.Load())
	t.Logf("%d of %d committed", done.Load(), bankClients**bankTransfers)
}
