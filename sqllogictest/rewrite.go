package sqllogictest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// edit replaces the lines from..to (exclusive) of a file; head, when not empty,
// replaces the record's first line. Lines count from 0.
type edit struct {
	from, to int
	lines    []string
	headAt   int
	head     string
}

// edit says how the record must read for this outcome to be a pass. There is
// none for an outcome that says nothing about the SQL, such as a time limit.
func (s *session) edit(r *Record, o outcome) (edit, bool) {
	end := r.span.bodyEnd
	if r.span.results > 0 {
		end = r.span.resultsEnd
	}
	e := edit{from: r.span.bodyEnd, to: end, headAt: r.span.head}
	switch {
	case o.timedOut || r.Kind != Statement && r.Kind != Query:
		return edit{}, false
	case o.err != nil:
		e.head = r.Kind.String() + " error " + errorWords(o.err)
	case r.Kind == Statement && r.WantCount >= 0:
		e.head = fmt.Sprintf("statement count %d", o.affected)
	case r.Kind == Statement:
		e.head = "statement ok"
	case o.result != nil && r.WantError == nil:
		e.lines = s.resultLines(r, o.result)
	default:
		return edit{}, false
	}
	return e, true
}

// resultLines writes a result as the record wrote its own: a hash above the
// threshold, rows where it wrote rows, otherwise values.
func (s *session) resultLines(r *Record, res *result) []string {
	if s.threshold > 0 && len(res.values) > s.threshold && s.mode != ResultRows && !wroteRows(r) {
		return []string{resultMark, hashText(len(res.values), res.hash())}
	}
	return append([]string{resultMark}, res.lines(s.mode == ResultRows || wroteRows(r))...)
}

// wroteRows reports whether the expected lines hold several values each.
func wroteRows(r *Record) bool {
	return r.WantHash == "" && len(r.Want) > 0 && len(r.Types) > 1 &&
		len(strings.Fields(r.Want[0])) == len(r.Types)
}

// errorWords expects the error that was seen: its number where it has one,
// otherwise its first line.
func errorWords(err error) string {
	if m := driverError.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return regexp.QuoteMeta(line)
}

// rewrite applies edits, which are in file order, to the file.
func rewrite(path string, edits []edit) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for _, e := range slices.Backward(edits) {
		if e.head != "" {
			lines[e.headAt] = e.head
		}
		lines = slices.Replace(lines, e.from, min(e.to, len(lines)), e.lines...)
	}
	return writeFile(path, []byte(strings.Join(lines, "\n")))
}
