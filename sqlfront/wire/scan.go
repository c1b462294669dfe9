package wire

import (
	"strings"
)

// scanner walks over SQL text token by token, just far enough to tell words from what only looks like words: strings, quoted
// names and comments. The text of a version comment (/*! ... */) is SQL and is walked over like the rest.
type scanner struct {
	text  string
	pos   int
	start int // of the last token
	// hint is the text of the first optimizer hint comment that was passed.
	hint string
}

// next moves to the next token and returns it: a word, a quoted piece with its quotes, or one other byte; "" at the end.
func (s *scanner) next() string {
	s.skipBlank()
	s.start = s.pos
	if s.pos == len(s.text) {
		return ""
	}
	switch c := s.text[s.pos]; {
	case c == '\'' || c == '"' || c == '`':
		s.skipQuoted(c)
	case wordByte(c):
		for s.pos < len(s.text) && wordByte(s.text[s.pos]) {
			s.pos++
		}
	default:
		s.pos++
	}
	return s.text[s.start:s.pos]
}

// word is next, in upper case when it is a word.
func (s *scanner) word() string {
	t := s.next()
	if t != "" && wordByte(t[0]) {
		return strings.ToUpper(t)
	}
	return t
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (s *scanner) skipQuoted(quote byte) {
	for s.pos++; s.pos < len(s.text); s.pos++ {
		switch c := s.text[s.pos]; {
		case c == '\\' && quote != '`':
			s.pos++
		case c == quote && s.pos+1 < len(s.text) && s.text[s.pos+1] == quote:
			s.pos++
		case c == quote:
			s.pos++
			return
		}
	}
	s.pos = len(s.text)
}

func (s *scanner) skipBlank() {
	for s.pos < len(s.text) {
		rest := s.text[s.pos:]
		switch {
		case rest[0] <= ' ':
			s.pos++
		case rest[0] == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
			s.skipTo("\n")
		case strings.HasPrefix(rest, "/*!"):
			s.pos += 3
			for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
				s.pos++
			}
		case strings.HasPrefix(rest, "/*"):
			s.skipTo("*/")
			if body, ok := strings.CutPrefix(rest, "/*+"); ok && s.hint == "" {
				s.hint, _, _ = strings.Cut(body, "*/")
			}
		case strings.HasPrefix(rest, "*/"): // the end of a version comment
			s.pos += 2
		default:
			return
		}
	}
}

func (s *scanner) skipTo(end string) {
	i := strings.Index(s.text[s.pos+1:], end)
	if i < 0 {
		s.pos = len(s.text)
		return
	}
	s.pos += 1 + i + len(end)
}

// mayHold is a cheap test before scanning: does text hold the upper-case word anywhere, in any case?
func mayHold(text, word string) bool {
	for i := 0; i+len(word) <= len(text); i++ {
		if text[i]|0x20 == word[0]|0x20 && strings.EqualFold(text[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// PlainSelect says that a statement surely only reads and asks for no lock. It may say no of one that does neither: the words
// FOR, LOCK and INTO are not looked at for what they mean.
func PlainSelect(query string) bool {
	s := &scanner{text: query}
	if s.word() != "SELECT" {
		return false
	}
	return !mayHold(query, "FOR") && !mayHold(query, "LOCK") && !mayHold(query, "INTO") && !mayHold(query, ";")
}
