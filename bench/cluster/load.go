package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

const (
	// opening is the balance of an account at the start.
	opening = 1000
	// patience is how long a client waits for an answer before it hangs up.
	patience = 5 * time.Second
	// homesick is how often a client that has fled tries its own node again.
	homesick = 2 * time.Second
)

// bank is the data under load, and what clients were told of it.
type bank struct {
	cluster  *process.Cluster
	accounts int
	random   uint64
	next     int64 // number of the next client

	mu        sync.Mutex
	transfers map[int64]bool // acknowledged: id → true
	inserts   map[int64]bool
}

func newBank(ctx context.Context, c *process.Cluster, accounts int, seed uint64) (*bank, error) {
	b := &bank{cluster: c, accounts: accounts, random: seed, transfers: map[int64]bool{}, inserts: map[int64]bool{}}
	db, err := c.Any(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	statements := []string{"CREATE DATABASE bank",
		"CREATE TABLE bank.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
		"CREATE TABLE bank.journal (id BIGINT PRIMARY KEY, source INT NOT NULL, target INT NOT NULL, amount INT NOT NULL)",
		"CREATE TABLE bank.log (id BIGINT PRIMARY KEY, node INT NOT NULL)"}
	for first := 0; first < accounts; first += 200 {
		var rows []string
		for n := first; n < min(first+200, accounts); n++ {
			rows = append(rows, fmt.Sprintf("(%d, %d)", idOf(n), opening))
		}
		statements = append(statements, "INSERT INTO bank.accounts VALUES "+strings.Join(rows, ", "))
	}
	for _, s := range statements {
		if err := again(ctx, func() error { _, err := db.ExecContext(ctx, s); return err }); err != nil {
			return nil, fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return b, known(ctx, c, "bank.log")
}

// idOf is the id of an account, by its number. The journal has numbers.
func idOf(account int) int { return account * process.Apart }

// known fails unless every node knows a table: CREATE TABLE returns when they do.
func known(ctx context.Context, c *process.Cluster, table string) error {
	for _, n := range c.Nodes {
		db, err := process.Open(n.SQL(), "")
		if err != nil {
			return err
		}
		defer db.Close()
		err = again(ctx, func() error {
			_, err := db.ExecContext(ctx, "SELECT 1 FROM "+table+" LIMIT 1")
			return err
		})
		if err != nil {
			return fmt.Errorf("%s after it was made elsewhere: %w", n.SQL(), err)
		}
	}
	return nil
}

// again repeats what failed for a reason that a client may retry.
func again(ctx context.Context, do func() error) error {
	var err error
	for range 20 {
		if err = do(); err == nil || classify(err) == classOther || ctx.Err() != nil {
			return err
		}
		time.Sleep(250 * time.Millisecond)
	}
	return err
}

// timeline counts what was acknowledged, by time.
type timeline struct {
	begun time.Time
	mu    sync.Mutex
	slots []int
}

const slot = 100 * time.Millisecond

func (l *timeline) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := int(time.Since(l.begun) / slot)
	for len(l.slots) <= at {
		l.slots = append(l.slots, 0)
	}
	l.slots[at]++
}

// rate is the number per second between two moments.
func (l *timeline) rate(from, to time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, b := int(from.Sub(l.begun)/slot), int(to.Sub(l.begun)/slot)
	n := 0
	for i := max(a, 0); i < min(b, len(l.slots)); i++ {
		n += l.slots[i]
	}
	return float64(n) / (float64(max(b-a, 1)) * slot.Seconds())
}

// back is the time after a moment at which a second begins that reaches the rate;
// false if none has.
func (l *timeline) back(after time.Time, rate float64) (time.Duration, bool) {
	for at := after; time.Until(at.Add(time.Second)) < 0; at = at.Add(slot) {
		if l.rate(at, at.Add(time.Second)) >= rate {
			return at.Sub(after), true
		}
	}
	return 0, false
}

// load is the bank's clients at work.
type load struct {
	*timeline
	bank    *bank
	errors  *tally
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start sends so many clients to every node: two of three make transfers, the
// others insert.
func (b *bank) start(ctx context.Context, perNode int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{timeline: &timeline{begun: time.Now()}, bank: b, errors: newTally(), cancel: cancel}
	for range perNode {
		for home := range b.cluster.Nodes {
			b.next++
			c := &client{load: l, number: b.next, home: home, random: rand.New(rand.NewPCG(b.random, uint64(b.next)))}
			l.running.Go(func() { c.run(ctx) })
		}
	}
	return l
}

// stop ends the clients.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// client is one session. It prefers one node and flees to others when that does
// not answer.
type client struct {
	*load
	number int64
	home   int
	random *rand.Rand

	sequence int64
	at       int // node of conn
	db       *sql.DB
	conn     *sql.Conn
	since    time.Time
}

func (c *client) run(ctx context.Context) {
	defer c.drop()
	for ctx.Err() == nil {
		if c.conn != nil && c.at != c.home && time.Since(c.since) > homesick {
			c.drop()
		}
		err := c.connect(ctx)
		if err == nil {
			err = c.step(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.mark()
			continue
		}
		if c.errors.add(err).lost() {
			c.drop()
		}
		time.Sleep(time.Duration(5+c.random.IntN(20)) * time.Millisecond)
	}
}

func (c *client) drop() {
	if c.conn != nil {
		c.conn.Close()
		c.db.Close()
		c.conn, c.db = nil, nil
	}
}

// connect goes to the client's own node, or to the next one that answers.
func (c *client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	nodes := c.bank.cluster.Nodes
	var err error
	for i := range nodes {
		at := (c.home + i) % len(nodes)
		if err = c.connectTo(ctx, at, nodes[at].SQL()); err == nil {
			return nil
		}
	}
	return err
}

func (c *client) connectTo(ctx context.Context, at int, address string) error {
	db, err := process.OpenMany(address, 1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return err
	}
	c.at, c.db, c.conn, c.since = at, db, conn, time.Now()
	return nil
}

func (c *client) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.sequence++
	id := c.number<<32 | c.sequence
	if c.number%3 == 0 {
		return c.insert(ctx, id)
	}
	return c.transfer(ctx, id)
}

func (c *client) insert(ctx context.Context, id int64) error {
	if _, err := c.conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO bank.log VALUES (%d, %d)", id, c.at+1)); err != nil {
		return err
	}
	c.bank.mu.Lock()
	defer c.bank.mu.Unlock()
	c.bank.inserts[id] = true
	return nil
}

func (c *client) transfer(ctx context.Context, id int64) error {
	from := c.random.IntN(c.bank.accounts)
	to := (from + 1 + c.random.IntN(c.bank.accounts-1)) % c.bank.accounts
	amount := 1 + c.random.IntN(9)
	err := c.transact(ctx, []string{
		"BEGIN",
		fmt.Sprintf("SELECT balance FROM bank.accounts WHERE id = %d FOR UPDATE", idOf(min(from, to))),
		fmt.Sprintf("SELECT balance FROM bank.accounts WHERE id = %d FOR UPDATE", idOf(max(from, to))),
		fmt.Sprintf("UPDATE bank.accounts SET balance = balance - %d WHERE id = %d", amount, idOf(from)),
		fmt.Sprintf("UPDATE bank.accounts SET balance = balance + %d WHERE id = %d", amount, idOf(to)),
		fmt.Sprintf("INSERT INTO bank.journal VALUES (%d, %d, %d, %d)", id, from, to, amount),
		"COMMIT",
	})
	if err != nil {
		return err
	}
	c.bank.mu.Lock()
	defer c.bank.mu.Unlock()
	c.bank.transfers[id] = true
	return nil
}

// transact runs statements, and ROLLBACK if one of them fails.
func (c *client) transact(ctx context.Context, statements []string) error {
	for _, s := range statements {
		if _, err := c.conn.ExecContext(ctx, s); err != nil {
			if !classify(err).lost() {
				_, _ = c.conn.ExecContext(ctx, "ROLLBACK") // the first error counts
			}
			return err
		}
	}
	return nil
}

// verify reads everything and compares it with what clients were told.
func (b *bank) verify(ctx context.Context) error {
	db, err := b.cluster.Any(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return again(ctx, func() error { return b.compare(ctx, db) })
}

func (b *bank) compare(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	want := make([]int64, b.accounts)
	for i := range want {
		want[i] = opening
	}
	journal := map[int64]bool{}
	err = eachRow(ctx, tx, "SELECT id, source, target, amount FROM bank.journal", 4, func(v []int64) {
		journal[v[0]] = true
		want[v[1]] -= v[3]
		want[v[2]] += v[3]
	})
	if err != nil {
		return err
	}
	logged := map[int64]bool{}
	if err := eachRow(ctx, tx, "SELECT id FROM bank.log", 1, func(v []int64) { logged[v[0]] = true }); err != nil {
		return err
	}
	sum, have := int64(0), make([]int64, b.accounts)
	err = eachRow(ctx, tx, "SELECT id, balance FROM bank.accounts", 2, func(v []int64) {
		have[v[0]/process.Apart] = v[1]
		sum += v[1]
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch missing := slices.Concat(absent(b.transfers, journal), absent(b.inserts, logged)); {
	case len(missing) > 0:
		return fmt.Errorf("LOST: %d acknowledged writes are not there, such as %d", len(missing), missing[0])
	case sum != int64(b.accounts*opening):
		return fmt.Errorf("WRONG SUM: the accounts hold %d instead of %d", sum, b.accounts*opening)
	case !slices.Equal(want, have):
		return fmt.Errorf("TORN: balances and journal differ")
	}
	return nil
}

func absent(acknowledged, stored map[int64]bool) []int64 {
	var missing []int64
	for id := range acknowledged {
		if !stored[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// acknowledged is the number of writes that clients were told are there.
func (b *bank) acknowledged() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.transfers) + len(b.inserts)
}

func eachRow(ctx context.Context, tx *sql.Tx, query string, columns int, do func([]int64)) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	values, into := make([]int64, columns), make([]any, columns)
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		do(values)
	}
	return rows.Err()
}
