package txn

import (
	"slices"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// Key names one row of the whole key space: the shard it lives on, by token or
// by being the system shard, and the key inside that shard.
type Key struct {
	token    ring.Token
	system   bool
	lockOnly bool
	key      storage.Key
}

// At is the key k on the data shard that owns token t. The caller keeps k
// unchanged for as long as the transaction lives.
func At(t ring.Token, k storage.Key) Key { return Key{token: t, key: k} }

// InSystem is the key k on the system shard.
func InSystem(k storage.Key) Key { return Key{system: true, key: k} }

// LockOnly is k for who wants the lock on it and knows, or need not know, what is
// there: a row that GetMany has only locked says nothing of a value, and is not looked
// at for changes since the snapshot. So that must be known from another row, which
// changes whenever this one does. Keys of one shard go in one request: if any of them
// is to be read, all of them are.
func (k Key) LockOnly() Key {
	k.lockOnly = true
	return k
}

// Bytes is the key inside its shard.
func (k Key) Bytes() storage.Key { return k.key }

// Where says which shards a Scan visits. The zero value is AllShards.
type Where struct {
	token  ring.Token
	tokens []ring.Token
	part   int
	most   int // rows of a token; 0: not known
	kind   uint8
}

const (
	whereAll uint8 = iota
	whereOne
	whereSystem
	wherePart
	whereSome
)

var (
	// AllShards visits every data shard and merges the rows by key.
	AllShards = Where{kind: whereAll}
	// System visits the system shard only.
	System = Where{kind: whereSystem}
)

// OneShard visits the data shard that owns token t.
func OneShard(t ring.Token) Where { return Where{token: t, kind: whereOne} }

// SomeShards visits the data shards that own tokens, which the caller leaves as they
// are, and merges the rows by key. It is for rows of which it is known that no other
// shard has any.
func SomeShards(tokens []ring.Token) Where {
	if len(tokens) == 1 {
		return OneShard(tokens[0])
	}
	return Where{tokens: tokens, kind: whereSome}
}

// Most says that there are n rows of a token at most, n > 0, so that the first page can
// have all of a shard. It is a hint of sizes and no bound.
func (w Where) Most(n int) Where {
	w.most = n
	return w
}

// One tells whether it is one shard, whatever the tokens are.
func (w Where) One() bool { return w.kind != whereAll && w.kind != whereSome }

// OnePart visits one of the Coordinator's parts.
func OnePart(n int) Where { return Where{part: n, kind: wherePart} }

// Parts is the number of parts, counted from 0, that rows are spread over: the
// data shards. It never changes.
func (c *Coordinator) Parts() int { return len(c.router.DataShards()) }

// PartOf is the part that a key is in, which is not on the system shard. What a
// transaction does in one part alone commits in one phase.
func (c *Coordinator) PartOf(k Key) int {
	at, _ := slices.BinarySearch(c.router.DataShards(), c.router.Shard(k.token))
	return at
}
