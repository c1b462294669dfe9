package locks

// modeSet is a set of modes, one bit each: what one owner holds on one key or interval.
type modeSet uint8

func setOf(ms ...Mode) (set modeSet) {
	for _, m := range ms {
		set |= 1 << m
	}
	return set
}

// conflicts lists for each mode the modes of other owners it cannot stand beside. It is symmetric.
//
// Shared and Gap have the same row: since writes are buffered until commit, an uncommitted insert
// is nothing but an Exclusive or Insert lock here, so an interval must wait for those inside it
// whether or not storage has the key (rule H5). They differ in what they imply, see covers.
var conflicts = [modes]modeSet{
	Shared:    setOf(Exclusive, Insert),
	Exclusive: setOf(Shared, Exclusive, Gap, Insert),
	Gap:       setOf(Exclusive, Insert),
	Insert:    setOf(Shared, Exclusive, Gap),
}

// covers lists for each mode the modes that make it unnecessary when the owner holds them already.
var covers = [modes]modeSet{
	Shared:    setOf(Shared, Exclusive),
	Exclusive: setOf(Exclusive),
	Gap:       setOf(Gap, Shared, Exclusive),
	Insert:    setOf(Insert, Exclusive),
}

// conflictsWith reports whether m cannot be granted beside the set held by another owner.
func (m Mode) conflictsWith(held modeSet) bool { return conflicts[m]&held != 0 }

// coveredBy reports whether an owner that holds the set needs no lock of mode m.
func (m Mode) coveredBy(held modeSet) bool { return covers[m]&held != 0 }

// with adds a mode, unless it is covered, and leaves out those it covers.
func (s modeSet) with(m Mode) modeSet {
	if m.coveredBy(s) {
		return s
	}
	for other := range modes {
		if other != m && other.coveredBy(1<<m) {
			s &^= 1 << other
		}
	}
	return s | 1<<m
}

// each calls f for every mode of the set.
func (s modeSet) each(f func(Mode)) {
	for m := range modes {
		if s&(1<<m) != 0 {
			f(m)
		}
	}
}
