package fastpath

import (
	"strconv"
)

// Kind says what a Value is.
type Kind uint8

// The kinds of values.
const (
	Integer Kind = iota + 1
	Text
	Null
)

// Value is a literal of a text, or the value of a parameter.
type Value struct {
	Kind      Kind
	Negative  bool   // Integer
	Magnitude uint64 // Integer
	Text      string // Text; of an Integer, its digits as they were written
}

// Int makes an Integer of a number.
func Int(n int64) Value {
	if n < 0 {
		return Value{Kind: Integer, Negative: true, Magnitude: -uint64(n)}
	}
	return Value{Kind: Integer, Magnitude: uint64(n)}
}

// Uint is Int for numbers without a sign.
func Uint(n uint64) Value { return Value{Kind: Integer, Magnitude: n} }

// What stands in a shape in place of a literal. Texts with such bytes have no shape.
const (
	integerMark = 0x01
	textMark    = 0x02
)

// MaxText is the length of the longest text that has a shape.
const MaxText = 2 << 10

// Shape appends the shape of a text to key: the text itself with a mark in place
// of each literal, which go to values. It is not ok for texts that would need a
// parser to tell what is a literal in them. The values alias nothing of key.
//
// White space and letter case stay: they show in the names of result columns.
func Shape(key []byte, values []Value, text string) ([]byte, []Value, bool) {
	if len(text) > MaxText {
		return key, values, false
	}
	before := byte(' ') // the character before the present one
	for i := 0; i < len(text); {
		c := text[i]
		switch classes[c] {
		case plain:
			if c == '.' && i+1 < len(text) && classes[text[i+1]] == digit || c == '-' && before == '-' {
				return key, values, false
			}
			key = append(key, c)
			before = c
			i++
		case letter:
			end := wordEnd(text, i)
			key = append(key, text[i:end]...)
			before, i = 'a', end
		case digit:
			end := wordEnd(text, i)
			v, ok := integer(text[i:end])
			if !ok || before == '.' || end < len(text) && text[end] == '.' {
				return key, values, false
			}
			key, values = append(key, integerMark), append(values, v)
			before, i = '0', end
		case quote:
			end := stringEnd(text, i)
			if end < 0 || before == 'a' || before == '0' || before == '\'' {
				return key, values, false
			}
			key, values = append(key, textMark), append(values, Value{Kind: Text, Text: text[i+1 : end]})
			before, i = '\'', end+1
		case name:
			end := nameEnd(text, i)
			if end < 0 {
				return key, values, false
			}
			key = append(key, text[i:end+1]...)
			before, i = '`', end+1
		default:
			return key, values, false
		}
	}
	return key, values, true
}

// The classes of characters. What is not named here makes a text have no shape:
// control characters, double quotes, backslashes, and what comments, variables,
// parameters and several statements begin with.
const (
	other = iota
	plain
	letter
	digit
	quote
	name
)

var classes = func() (class [256]uint8) {
	for _, c := range " \t\r\n()=,.*<>!+-%" {
		class[c] = plain
	}
	for c := '0'; c <= '9'; c++ {
		class[c] = digit
	}
	for c := 'a'; c <= 'z'; c++ {
		class[c], class[c-'a'+'A'] = letter, letter
	}
	class['_'], class['$'] = letter, letter
	class['\''], class['`'] = quote, name
	return class
}()

func wordEnd(text string, i int) int {
	for i < len(text) && (classes[text[i]] == letter || classes[text[i]] == digit || text[i] >= 0x80) {
		i++
	}
	return i
}

// integer reads a word that begins with a digit. Others than plain numbers below
// 2^64 are not ok.
func integer(word string) (Value, bool) {
	n, err := strconv.ParseUint(word, 10, 64)
	return Value{Kind: Integer, Magnitude: n, Text: word}, err == nil
}

// stringEnd is the place of the quote that ends a string, -1 if the string holds
// anything that is not itself.
func stringEnd(text string, i int) int {
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			if i+1 < len(text) && text[i+1] == '\'' {
				return -1
			}
			return i
		case c == '\\' || c < ' ':
			return -1
		}
	}
	return -1
}

// nameEnd is stringEnd for a name in backquotes.
func nameEnd(text string, i int) int {
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '`':
			if i+1 < len(text) && text[i+1] == '`' {
				return -1
			}
			return i
		case c < ' ':
			return -1
		}
	}
	return -1
}

// Simple tells whether a text with parameters has nothing that Shape refuses, the
// parameters themselves apart. Its literals stay what they are.
func Simple(text string) bool {
	marked := make([]byte, 0, len(text))
	for i := range len(text) {
		c := text[i]
		if c == '?' {
			c = '*' // a character of its own, as the parameter is
		}
		marked = append(marked, c)
	}
	_, _, ok := Shape(nil, nil, string(marked))
	return ok
}

// AtMost tells whether an Integer is not above another one.
func (v Value) AtMost(o Value) bool {
	switch {
	case v.Negative != o.Negative:
		return v.Negative || v.Magnitude == 0 && o.Magnitude == 0
	case v.Negative:
		return v.Magnitude >= o.Magnitude
	}
	return v.Magnitude <= o.Magnitude
}
