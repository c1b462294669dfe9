package sqlfront

import (
	"bytes"
	"io"

	"github.com/dolthub/go-mysql-server/sql/plan"
)

// loadLines cuts a file into lines and lines into fields, byte by byte as the
// engine does it.
type loadLines struct {
	from  io.ReadCloser
	buf   []byte // buf[at:end] is read and not cut; no terminator begins before seen
	at    int
	seen  int
	end   int
	ended error // why nothing more is read
	part  bool  // what comes next is the rest of a line that was given in parts

	starting, terminator []byte // of lines
	separator            []byte // of fields
	enclosed             int    // the character around fields, -1 if there is none
	escaped              int    // the one that takes a meaning away or gives one, -1
	special              [256]bool
	fields               [][]byte
	scratch              []byte
}

const (
	loadBuffer = 256 << 10
	// loadLine is from where on a line goes to the engine in parts.
	loadLine = 1 << 20
)

func newLoadLines(n *plan.LoadData) loadLines {
	l := loadLines{
		starting: []byte(n.LinesStartingBy), terminator: []byte(n.LinesTerminatedBy), separator: []byte(n.FieldsTerminatedBy),
		enclosed: -1, escaped: -1,
	}
	if n.FieldsEnclosedBy != "" {
		l.enclosed = int(n.FieldsEnclosedBy[0])
		l.special[l.enclosed] = true
	}
	if n.FieldsEscapedBy != "" {
		l.escaped = int(n.FieldsEscapedBy[0])
		l.special[l.escaped] = true
	}
	l.special[l.separator[0]] = true
	return l
}

// next returns the next line with its terminator, which the last one may lack; it is
// valid until the next call. A very long line comes in parts: then whole is false.
func (l *loadLines) next() (line []byte, whole bool, err error) {
	for {
		if i := bytes.Index(l.buf[l.seen:l.end], l.terminator); i >= 0 {
			return l.cut(l.seen+i+len(l.terminator), true)
		}
		l.seen = max(l.at, l.end-len(l.terminator)+1)
		switch {
		case l.ended != nil && l.at < l.end:
			return l.cut(l.end, true)
		case l.ended != nil:
			return nil, false, l.ended
		case l.seen-l.at >= loadLine:
			return l.cut(l.seen, false)
		}
		l.fill()
	}
}

// cut takes what is before an end.
func (l *loadLines) cut(end int, last bool) (line []byte, whole bool, err error) {
	line, whole = l.buf[l.at:end:end], last && !l.part
	l.at, l.seen, l.part = end, end, !last
	return line, whole, nil
}

// fill reads more behind what there is.
func (l *loadLines) fill() {
	if l.at > 0 {
		copy(l.buf, l.buf[l.at:l.end])
		l.seen, l.end, l.at = l.seen-l.at, l.end-l.at, 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, max(loadBuffer, len(l.buf)))...)
	}
	for range 100 {
		n, err := l.from.Read(l.buf[l.end:])
		l.end, l.ended = l.end+n, err
		if n > 0 || err != nil {
			return
		}
	}
	l.ended = io.ErrNoProgress
}

// split cuts a line into at most n fields; the engine has no use for more. It is
// false for a line that is to be left out. The fields are valid until the next line.
func (l *loadLines) split(line []byte, n int) ([][]byte, bool) {
	if len(l.starting) > 0 {
		i := bytes.Index(line, l.starting)
		if i < 0 || i+len(l.starting) == len(line) {
			return nil, false
		}
		line = line[i+len(l.starting):]
	}
	rest, terminated := bytes.CutSuffix(line, l.terminator)
	l.fields, l.scratch = l.fields[:0], l.scratch[:0]
	for at := 0; len(l.fields) < n; {
		field, next, last := l.plainField(rest, at)
		if next < 0 {
			field, next, last = l.field(rest, at, terminated)
		}
		l.fields = append(l.fields, field)
		if last {
			break
		}
		at = next
	}
	return l.fields, true
}

// plainField is the field from a place on if nothing in it means anything but itself;
// otherwise next is negative.
func (l *loadLines) plainField(line []byte, from int) (field []byte, next int, last bool) {
	for i := from; i < len(line); i++ {
		if !l.special[line[i]] {
			continue
		}
		switch ch := int(line[i]); {
		case ch == l.enclosed && i == from, ch == l.escaped && l.escaped != l.enclosed:
			return nil, -1, false
		case bytes.HasPrefix(line[i:], l.separator):
			return line[from:i], i + len(l.separator), false
		}
	}
	return line[from:], len(line), true
}

// field is plainField for any field. The order of the cases is the engine's: a
// character that encloses may be the one that escapes, or may begin the separator.
func (l *loadLines) field(line []byte, from int, terminated bool) (field []byte, next int, last bool) {
	begin, enclosed := len(l.scratch), false
	doubles := l.enclosed >= 0 && l.enclosed == l.escaped
	for i := from; i < len(line); i++ {
		ch := int(line[i])
		switch {
		case ch == l.enclosed && !enclosed && len(l.scratch) == begin:
			enclosed = true
		case ch == l.enclosed && enclosed && doubles && i+1 < len(line) && int(line[i+1]) == l.enclosed:
			l.scratch = append(l.scratch, line[i])
			i++
		case ch == l.enclosed && enclosed:
			if bytes.HasPrefix(line[i+1:], l.separator) || i+1 == len(line) && (terminated || !doubles) {
				enclosed = false
			} else {
				l.scratch = append(l.scratch, line[i])
			}
		case ch == l.escaped && !doubles && i+1 < len(line):
			i++
			l.scratch = appendEscaped(l.scratch, line[i])
		case !enclosed && bytes.HasPrefix(line[i:], l.separator):
			return l.scratch[begin:], i + len(l.separator), false
		default:
			l.scratch = append(l.scratch, line[i])
		}
	}
	if enclosed {
		l.scratch = append(l.scratch, 0)
		copy(l.scratch[begin+1:], l.scratch[begin:])
		l.scratch[begin] = byte(l.enclosed)
	}
	return l.scratch[begin:], len(line), true
}

// appendEscaped is what a character stands for behind the one that escapes.
func appendEscaped(to []byte, ch byte) []byte {
	switch ch {
	case 'N':
		return append(to, loadNull...)
	case 'Z':
		return append(to, 26)
	case '0':
		return append(to, 0)
	case 'n':
		return append(to, '\n')
	case 't':
		return append(to, '\t')
	case 'r':
		return append(to, '\r')
	case 'b':
		return append(to, '\b')
	}
	return append(to, ch)
}

// loadNull is what the engine takes for NULL, written so or as \N.
const loadNull = "NULL"
