package sqlfront

import (
	"bytes"
	"fmt"
	"math"

	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// rowBlocks is how many low bits of an integer primary key do not matter to where a row
// lives. Rows that differ in no other bits are a block and share a shard, so that a
// short range of keys is on a few shards. 0: the whole key matters.
//
// The placement key is the number of the index and the number of the block, as an integer
// column is encoded. The mapping is part of the stored data.
type rowBlocks uint8

const (
	// newBlocks is what tables get: blocks of 128 rows.
	newBlocks = 7
	// largestBlocks is the largest that a descriptor may say.
	largestBlocks = 32
	// mostBlocks of a range are looked at one by one; one of more is on all shards, or
	// so many that it hardly matters.
	mostBlocks = 64
)

// placedBy is the token of a placement key. Every token of this package comes from here.
func placedBy(placement []byte) ring.Token { return ring.TokenOf(placement) }

// tokenOf places what stands in the index. key is the id and the columns that decide:
// of an index with blocks its only one.
func (x *indexInfo) tokenOf(key []byte) ring.Token {
	if x.blocks > 0 {
		if neg, u, ok := keycodec.LeastInt(key[len(x.start):]); ok {
			return x.blockToken(x.blocks.of(neg, u))
		}
	}
	return placedBy(key)
}

// of is the block of an integer. There are half as many blocks as integers at most, so
// that all have a number.
func (b rowBlocks) of(neg bool, u uint64) int64 {
	if neg {
		return int64(u) >> b
	}
	return int64(u >> b)
}

func (x *indexInfo) blockToken(block int64) ring.Token {
	var room [24]byte
	return placedBy(keycodec.AppendInt(append(room[:0], x.start...), block, false))
}

// whereBlocks is where the keys from lo up to hi are.
func (x *indexInfo) whereBlocks(lo, hi []byte) txn.Where {
	first, last, ok := x.blocksBetween(lo, hi)
	if !ok || uint64(last)-uint64(first) >= mostBlocks {
		return txn.AllShards
	}
	if mutated("0082.one-block-too-few") && last > first {
		last--
	}
	rows := 1 << min(x.blocks, 16) // more is more than a page
	if first == last {
		return txn.OneShard(x.blockToken(first)).Most(rows)
	}
	tokens := make([]ring.Token, 0, last-first+1)
	for b := first; b <= last; b++ {
		tokens = append(tokens, x.blockToken(b))
	}
	return txn.SomeShards(tokens).Most(rows)
}

// blocksBetween are the first and the last block that have keys from lo up to hi, which
// may be any bytes: ends of ranges lie between keys, and beyond those that there can be.
// Where there is no key the first block is the only one.
func (x *indexInfo) blocksBetween(lo, hi []byte) (first, last int64, ok bool) {
	if !bytes.HasPrefix(lo, x.start) {
		return 0, 0, false
	}
	neg, u, ok := keycodec.LeastInt(lo[len(x.start):])
	if !ok {
		return 0, 0, false
	}
	first = x.blocks.of(neg, u)
	neg, u = false, math.MaxUint64
	if bytes.HasPrefix(hi, x.start) {
		if behindNeg, behind, ok := keycodec.LeastInt(hi[len(x.start):]); ok {
			neg, u = behindNeg || behind == 0, behind-1
			if behindNeg && behind == 1<<63 {
				return first, first, true // in front of all keys
			}
		}
	}
	return first, max(first, x.blocks.of(neg, u)), true
}

// setBlocks chooses how the rows of a table are placed that has none yet.
func (s *Session) setBlocks(desc *catalog.Table) {
	desc.Blocks = 0
	if may := s.server.config.Blocks; (may == nil || !may()) && !mutated("0082.gate") {
		return
	}
	if len(desc.Key) != 1 || desc.Key[0].Prefix > 0 || desc.Placement != nil {
		return
	}
	typ, err := desc.Columns[desc.ColumnByID(desc.Key[0].Column)].Type.SQL()
	if err == nil && types.IsInteger(typ) {
		desc.Blocks = newBlocks
	}
}

func (t *tableInfo) compileBlocks() error {
	b := t.desc.Blocks
	if b == 0 {
		return nil
	}
	x := t.primary
	if b > largestBlocks || len(x.columns) != 1 || x.prefix != nil || t.desc.Placement != nil || !types.IsInteger(t.schema[x.columns[0]].Type) {
		return fmt.Errorf("%w: rows in blocks of 2^%d", catalog.ErrCorrupt, b)
	}
	x.blocks = rowBlocks(b)
	return nil
}
