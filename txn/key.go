package txn

import (
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// Key names one row of the whole key space: the shard it lives on, by token or
// by being the system shard, and the key inside that shard.
type Key struct {
	token  ring.Token
	system bool
	key    storage.Key
}

// At is the key k on the data shard that owns token t. The caller keeps k
// unchanged for as long as the transaction lives.
func At(t ring.Token, k storage.Key) Key { return Key{token: t, key: k} }

// InSystem is the key k on the system shard.
func InSystem(k storage.Key) Key { return Key{system: true, key: k} }

// Bytes is the key inside its shard.
func (k Key) Bytes() storage.Key { return k.key }

// Where says which shards a Scan visits. The zero value is AllShards.
type Where struct {
	token ring.Token
	kind  uint8
}

const (
	whereAll uint8 = iota
	whereOne
	whereSystem
)

var (
	// AllShards visits every data shard and merges the rows by key.
	AllShards = Where{kind: whereAll}
	// System visits the system shard only.
	System = Where{kind: whereSystem}
)

// OneShard visits the data shard that owns token t.
func OneShard(t ring.Token) Where { return Where{token: t, kind: whereOne} }
