package locks

// span is a Span inside the table: strings, because they are map keys and never change.
// hi == "" means the single key lo.
type span struct{ lo, hi string }

func (s span) point() bool { return s.hi == "" }

// empty reports an interval without keys.
func (s Span) empty() bool { return len(s.Hi) > 0 && string(s.Hi) <= string(s.Lo) }

func (s Span) intern() span { return span{lo: string(s.Lo), hi: string(s.Hi)} }

// export returns a copy the caller may keep and change.
func (s span) export() Span {
	if s.point() {
		return Span{Lo: []byte(s.lo)}
	}
	return Span{Lo: []byte(s.lo), Hi: []byte(s.hi)}
}

// reaches reports whether some key of s is at or after lo.
func (s span) reaches(lo string) bool {
	if s.point() {
		return lo <= s.lo
	}
	return lo < s.hi
}

func (s span) overlaps(o span) bool { return s.reaches(o.lo) && o.reaches(s.lo) }

// contains reports whether every key of o is in s.
func (s span) contains(o span) bool {
	switch {
	case s.point():
		return o == s
	case o.point():
		return s.lo <= o.lo && o.lo < s.hi
	}
	return s.lo <= o.lo && o.hi <= s.hi
}
