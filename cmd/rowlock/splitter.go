package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// statement is one SQL statement without its terminator.
type statement struct {
	text     string
	vertical bool // ended by \G: a line for each value
}

// splitter cuts a stream of SQL into statements at ';', \g, \G or what a
// DELIMITER line says, outside of strings, quoted names and comments.
type splitter struct {
	in        *bufio.Reader
	delimiter string
	pending   []statement
	scan      scanner
	ended     bool
}

func newSplitter(r io.Reader) *splitter {
	return &splitter{in: bufio.NewReader(r), delimiter: ";"}
}

// next returns the next statement, or io.EOF.
func (s *splitter) next() (statement, error) {
	for len(s.pending) == 0 {
		if s.ended {
			return statement{}, io.EOF
		}
		line, err := s.in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return statement{}, err
		}
		s.ended = err != nil
		s.feed(line)
		if s.ended {
			if rest := s.scan.rest(); rest != "" {
				s.pending = append(s.pending, statement{text: rest})
			}
		}
	}
	first := s.pending[0]
	s.pending = s.pending[1:]
	return first, nil
}

// feed takes one line with its end.
func (s *splitter) feed(line string) {
	if s.scan.empty() {
		words := strings.Fields(line)
		if len(words) == 2 && strings.EqualFold(words[0], "delimiter") {
			s.delimiter = words[1]
			return
		}
	}
	s.pending = append(s.pending, s.scan.line(line, s.delimiter)...)
}

// complete reports whether text holds no started statement, so that a prompt
// can run it.
func complete(text string) bool {
	s := &splitter{delimiter: ";"}
	for line := range strings.SplitAfterSeq(text, "\n") {
		s.feed(line)
	}
	return s.scan.rest() == ""
}

// scanner collects a statement across lines.
type scanner struct {
	text strings.Builder
	// quote is the open quote (', " or `), '*' in a block comment, or 0.
	quote byte
}

func (s *scanner) empty() bool { return s.quote == 0 && strings.TrimSpace(s.text.String()) == "" }

// rest is the started statement, "" when there are only comments.
func (s *scanner) rest() string {
	text := strings.TrimSpace(s.text.String())
	if s.quote == 0 && onlyComments(text) {
		return ""
	}
	return text
}

// line scans a line and returns the statements that end in it.
func (s *scanner) line(line, delimiter string) []statement {
	var done []statement
	for i := 0; i < len(line); {
		if s.quote != 0 {
			i += s.quoted(line[i:])
			continue
		}
		rest := line[i:]
		switch {
		case strings.HasPrefix(rest, delimiter):
			done = s.end(done, false)
			i += len(delimiter)
		case strings.HasPrefix(rest, `\G`), strings.HasPrefix(rest, `\g`):
			done = s.end(done, rest[1] == 'G')
			i += 2
		case lineComment(rest):
			s.text.WriteString(rest)
			i = len(line)
		case strings.HasPrefix(rest, "/*"):
			s.quote = '*'
			s.text.WriteString("/*")
			i += 2
		default:
			if rest[0] == '\'' || rest[0] == '"' || rest[0] == '`' {
				s.quote = rest[0]
			}
			s.text.WriteByte(rest[0])
			i++
		}
	}
	return done
}

func lineComment(text string) bool {
	return text[0] == '#' || strings.HasPrefix(text, "-- ") || strings.HasPrefix(text, "--\t") ||
		strings.TrimRight(text, "\r\n") == "--"
}

// quoted takes one step inside a quote or block comment and returns its length.
func (s *scanner) quoted(rest string) int {
	n := 1
	switch {
	case s.quote == '*':
		if strings.HasPrefix(rest, "*/") {
			s.quote, n = 0, 2
		}
	case rest[0] == '\\' && s.quote != '`' && len(rest) > 1:
		n = 2
	case rest[0] == s.quote:
		s.quote = 0
	}
	s.text.WriteString(rest[:n])
	return n
}

func (s *scanner) end(done []statement, vertical bool) []statement {
	text := strings.TrimSpace(s.text.String())
	s.text.Reset()
	if onlyComments(text) {
		return done
	}
	return append(done, statement{text, vertical})
}

// onlyComments reports whether nothing is left once comments are taken away. A
// comment that MySQL executes (/*!) is something.
func onlyComments(text string) bool { return !strings.HasPrefix(text, "/*!") && firstWord(text) == "" }

// firstWord returns the first word behind comments and parentheses, in capitals.
func firstWord(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\r\n(")
		switch {
		case text == "":
			return ""
		case lineComment(text):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
		default:
			end := strings.IndexFunc(text, func(c rune) bool {
				return !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
			})
			if end < 0 {
				end = len(text)
			}
			return strings.ToUpper(text[:max(end, 1)])
		}
	}
}

// rowWords begin statements that answer with rows.
var rowWords = map[string]bool{
	"SELECT": true, "SHOW": true, "DESC": true, "DESCRIBE": true, "EXPLAIN": true, "WITH": true, "CALL": true,
	"VALUES": true, "TABLE": true, "ANALYZE": true, "CHECK": true, "OPTIMIZE": true, "REPAIR": true, "CHECKSUM": true,
	"EXECUTE": true, "HELP": true,
}

func givesRows(text string) bool { return rowWords[firstWord(text)] }

// usedDatabase is the name in a USE statement.
func usedDatabase(text string) (string, bool) {
	words := strings.Fields(text)
	if len(words) != 2 || !strings.EqualFold(words[0], "use") {
		return "", false
	}
	return strings.ReplaceAll(strings.Trim(words[1], "`"), "``", "`"), true
}
