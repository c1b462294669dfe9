package ring

import "slices"

// Interval is a stretch of tokens that changes its shard: the tokens after From up to and
// including To. It may run around the end of the ring (To < From); From == To is the whole ring.
type Interval struct {
	From, To           Token
	OldShard, NewShard ShardID
}

// Contains reports whether t lies in the interval.
func (i Interval) Contains(t Token) bool {
	// Distances from From are exact modulo 2^64; -1 makes the whole ring (distance 0) the longest.
	return uint64(t-i.From)-1 <= uint64(i.To-i.From)-1
}

// Share returns the part of all tokens inside the interval, 0..1.
func (i Interval) Share() float64 {
	if i.From == i.To {
		return 1
	}
	return float64(i.To-i.From) / (1 << 64)
}

// Diff lists the intervals whose shard differs between two rings, in token order and as long as
// they can be. Both rings must have been made with one algorithm (Decode accepts only one).
func Diff(old, new *Ring) []Interval {
	bounds := slices.Concat(old.tokens, new.tokens)
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var out []Interval
	from := bounds[len(bounds)-1]
	for _, to := range bounds {
		i := Interval{From: from, To: to, OldShard: old.Shard(to), NewShard: new.Shard(to)}
		from = to
		if i.OldShard == i.NewShard {
			continue
		}
		if n := len(out); n > 0 && out[n-1].joins(i) {
			out[n-1].To = i.To
			continue
		}
		out = append(out, i)
	}
	// The first interval may continue the last one around the end of the ring.
	if n := len(out); n > 1 && out[n-1].joins(out[0]) {
		out[0].From = out[n-1].From
		out = out[:n-1]
	}
	return out
}

// joins reports whether next begins where i ends and changes between the same shards.
func (i Interval) joins(next Interval) bool {
	return i.To == next.From && i.OldShard == next.OldShard && i.NewShard == next.NewShard
}
