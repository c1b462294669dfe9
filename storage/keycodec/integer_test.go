package keycodec

import (
	"bytes"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// anyInt is an integer from -2^63 to 2^64-1.
func anyInt(neg bool, u uint64) *big.Int {
	if neg {
		return big.NewInt(int64(u))
	}
	return new(big.Int).SetUint64(u)
}

func encodeAny(n *big.Int) []byte {
	if n.Sign() < 0 {
		return AppendInt(nil, n.Int64(), false)
	}
	return AppendUint(nil, n.Uint64(), false)
}

var (
	leastOfAll   = big.NewInt(math.MinInt64)
	largestOfAll = new(big.Int).SetUint64(math.MaxUint64)
)

// checkLeast compares LeastInt with its promise: nothing smaller is enough.
func checkLeast(t require.TestingT, b []byte) {
	neg, u, ok := LeastInt(b)
	if !ok {
		require.Negative(t, bytes.Compare(encodeAny(largestOfAll), b), "%x", b)
		return
	}
	n := anyInt(neg, u)
	require.False(t, neg && int64(u) >= 0, "%x", b)
	require.GreaterOrEqual(t, bytes.Compare(encodeAny(n), b), 0, "%x: %s", b, n)
	if before := new(big.Int).Sub(n, big.NewInt(1)); before.Cmp(leastOfAll) >= 0 {
		require.Negative(t, bytes.Compare(encodeAny(before), b), "%x: %s", b, n)
	}
}

func TestLeastInt(t *testing.T) {
	checkLeast(t, nil)
	for tag := range 256 {
		checkLeast(t, []byte{byte(tag)})
		for _, next := range []byte{0, 1, 0x7f, 0x80, 0xfe, 0xff} {
			for n := 1; n <= 10; n++ {
				for _, rest := range []byte{0, 0xff} {
					checkLeast(t, append([]byte{byte(tag), next}, bytes.Repeat([]byte{rest}, n-1)...))
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 11).Draw(t, "bytes")
		if len(b) > 0 && rapid.Bool().Draw(t, "an integer's") {
			b[0] = tagInt - 8 + b[0]%17
		}
		checkLeast(t, b)
		n := rapid.Int64().Draw(t, "signed")
		checkLeast(t, AppendInt(nil, n, false))
		checkLeast(t, PrefixEnd(AppendInt(nil, n, false)))
		u := rapid.Uint64().Draw(t, "unsigned")
		checkLeast(t, AppendUint(nil, u, false))
		checkLeast(t, PrefixEnd(AppendUint(nil, u, false)))
	})
}
