package sqllogictest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds one line of a script, in bytes.
const maxLine = 64 << 20

const resultMark = "----"

var hashLine = regexp.MustCompile(`^(\d+) values hashing to ([0-9a-fA-F]{32})$`)

// include is an "include" line: it stands before records[at].
type include struct {
	at      int
	pattern string
	pos     Position
}

// parser turns the lines of one file into records.
type parser struct {
	file  string
	from  *Position
	lines []string
	next  int // index of the next line to read

	records  []Record
	includes []include

	// Collected for the record that follows.
	conditions []Condition
	connection string
	pending    int // line index of the first of them, for errors
}

// Parse reads one script. Include lines are refused, since a reader has no
// folder; Load follows them.
func Parse(name string, r io.Reader) (*Script, error) {
	p, err := parse(name, nil, r)
	if err != nil {
		return nil, err
	}
	if len(p.includes) > 0 {
		return nil, &SyntaxError{p.includes[0].pos, "include needs a script that is a file"}
	}
	return &Script{Path: name, Records: p.records}, nil
}

func parse(name string, from *Position, r io.Reader) (*parser, error) {
	p := &parser{file: name, from: from}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	for scanner.Scan() {
		p.lines = append(p.lines, strings.TrimSuffix(scanner.Text(), "\r"))
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for p.next < len(p.lines) {
		if err := p.directive(); err != nil {
			return nil, err
		}
	}
	if len(p.conditions) > 0 || p.connection != "" {
		return nil, p.errorAt(p.pending, "nothing follows this line")
	}
	return p, nil
}

func (p *parser) position(line int) Position {
	return Position{File: p.file, Line: line + 1, From: p.from}
}

func (p *parser) errorAt(line int, format string, args ...any) error {
	return &SyntaxError{p.position(line), fmt.Sprintf(format, args...)}
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }

// directive reads what starts at the next line: a record, a condition, or
// nothing.
func (p *parser) directive() error {
	at := p.next
	line := p.lines[at]
	p.next++
	if blank(line) || strings.HasPrefix(line, "#") {
		return nil
	}
	words := fields(line)
	if len(words) == 0 {
		return nil // blanks and a comment
	}
	switch words[0] {
	case "skipif", "onlyif":
		return p.condition(at, words)
	case "connection":
		return p.connectionLine(at, words)
	case "include":
		return p.includeLine(at, words)
	}
	record := Record{Position: p.position(at), WantCount: -1}
	record.span.head = at
	record.Conditions, p.conditions = p.conditions, nil
	record.Connection, p.connection = p.connection, ""
	var err error
	switch words[0] {
	case "statement":
		err = p.statement(&record, line, words[1:])
	case "query":
		err = p.query(&record, line, words[1:])
	case "system":
		err = p.system(&record, words[1:])
	case "let":
		err = p.let(&record, line)
	default:
		err = p.single(&record, words)
	}
	if err != nil {
		return err
	}
	p.records = append(p.records, record)
	return nil
}

// fields splits a directive into words and drops a trailing comment.
func fields(line string) []string {
	words := strings.Fields(line)
	for i, word := range words {
		if strings.HasPrefix(word, "#") {
			return words[:i]
		}
	}
	return words
}

func (p *parser) mark(at int) {
	if len(p.conditions) == 0 && p.connection == "" {
		p.pending = at
	}
}

func (p *parser) condition(at int, words []string) error {
	if len(words) != 2 {
		return p.errorAt(at, "%s needs one name", words[0])
	}
	p.mark(at)
	p.conditions = append(p.conditions, Condition{Only: words[0] == "onlyif", Engine: words[1]})
	return nil
}

func (p *parser) connectionLine(at int, words []string) error {
	if len(words) != 2 {
		return p.errorAt(at, "connection needs one name")
	}
	p.mark(at)
	if p.connection = words[1]; p.connection == "default" {
		p.connection = ""
	}
	return nil
}

func (p *parser) includeLine(at int, words []string) error {
	if len(words) != 2 {
		return p.errorAt(at, "include needs one file name or glob")
	}
	p.includes = append(p.includes, include{at: len(p.records), pattern: words[1], pos: p.position(at)})
	return nil
}

// single reads the records that are one line long.
func (p *parser) single(r *Record, words []string) error {
	at := r.span.head
	want := map[string]int{"halt": 1, "hash-threshold": 2, "sleep": 2, "subtest": 2, "control": 3}[words[0]]
	if want == 0 {
		return p.errorAt(at, "unknown directive %q", words[0])
	}
	if len(words) != want {
		return p.errorAt(at, "%s takes %d word(s), has %d", words[0], want-1, len(words)-1)
	}
	var err error
	switch words[0] {
	case "halt":
		r.Kind = Halt
	case "hash-threshold":
		r.Kind = HashThreshold
		if r.Threshold, err = strconv.Atoi(words[1]); err != nil || r.Threshold < 0 {
			return p.errorAt(at, "hash-threshold %q is not a number", words[1])
		}
	case "sleep":
		r.Kind = Sleep
		if r.Pause, err = duration(words[1]); err != nil {
			return p.errorAt(at, "%v", err)
		}
	case "subtest":
		r.Kind, r.Name = Subtest, words[1]
	case "control":
		r.Kind, r.ControlName, r.ControlValue = Control, words[1], words[2]
		return p.control(r)
	}
	return nil
}

var controls = map[string][]string{
	"sortmode":     {"nosort", "rowsort", "valuesort"},
	"resultmode":   {"valuewise", "rowwise"},
	"substitution": {"on", "off"},
}

func (p *parser) control(r *Record) error {
	values, ok := controls[r.ControlName]
	if !ok {
		return p.errorAt(r.span.head, "unknown control %q", r.ControlName)
	}
	for _, v := range values {
		if v == r.ControlValue {
			return nil
		}
	}
	return p.errorAt(r.span.head, "control %s takes %s, not %q", r.ControlName, strings.Join(values, ", "), r.ControlValue)
}

func (p *parser) statement(r *Record, line string, words []string) error {
	r.Kind = Statement
	at := r.span.head
	if len(words) == 0 {
		return p.errorAt(at, "statement needs ok, error or count")
	}
	switch words[0] {
	case "ok":
		rest, err := p.retry(r, words[1:])
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return p.errorAt(at, "unexpected %q after statement ok", rest[0])
		}
	case "count":
		if err := p.count(r, words[1:]); err != nil {
			return err
		}
	case "error":
		if err := p.expectError(r, line); err != nil {
			return err
		}
	default:
		return p.errorAt(at, "statement %q is not ok, error or count", words[0])
	}
	marked, err := p.body(r)
	if err != nil || !marked {
		return err
	}
	if r.WantError == nil {
		return p.errorAt(at, "a statement has no result; use query")
	}
	return p.errorLines(r)
}

func (p *parser) count(r *Record, words []string) error {
	at := r.span.head
	if len(words) == 0 {
		return p.errorAt(at, "statement count needs a number")
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || n < 0 {
		return p.errorAt(at, "statement count %q is not a number", words[0])
	}
	r.WantCount = n
	rest, err := p.retry(r, words[1:])
	if err == nil && len(rest) > 0 {
		return p.errorAt(at, "unexpected %q after statement count", rest[0])
	}
	return err
}

// expectError reads what follows the word error: nothing, a code, a pattern.
// The text is taken as written, since a pattern may hold blanks and '#'.
func (p *parser) expectError(r *Record, line string) error {
	_, rest, _ := strings.Cut(line, "error")
	rest = strings.TrimSpace(rest)
	if strings.HasPrefix(rest, "#") {
		rest = ""
	}
	words, err := p.retry(r, strings.Fields(rest))
	if err != nil {
		return err
	}
	if r.Retry.Attempts > 0 {
		rest = strings.Join(words, " ")
	}
	r.WantError = &ExpectedError{}
	switch {
	case rest == "":
	case len(rest) <= 5 && strings.Trim(rest, "0123456789") == "":
		r.WantError.Code = rest
	default:
		pattern, err := regexp.Compile(rest)
		if err != nil {
			return p.errorAt(r.span.head, "error pattern: %v", err)
		}
		r.WantError.Pattern = pattern
	}
	return nil
}

// retry takes "retry N backoff D" off the end of the words.
func (p *parser) retry(r *Record, words []string) ([]string, error) {
	n := len(words) - 4
	if n < 0 || words[n] != "retry" || words[n+2] != "backoff" {
		return words, nil
	}
	attempts, err := strconv.Atoi(words[n+1])
	if err != nil || attempts < 1 {
		return nil, p.errorAt(r.span.head, "retry %q is not a number above 0", words[n+1])
	}
	backoff, err := duration(words[n+3])
	if err != nil {
		return nil, p.errorAt(r.span.head, "%v", err)
	}
	r.Retry = Retry{Attempts: attempts, Backoff: backoff}
	return words[:n], nil
}

func (p *parser) query(r *Record, line string, words []string) error {
	r.Kind = Query
	if len(words) > 0 && words[0] == "error" {
		if err := p.expectError(r, line); err != nil {
			return err
		}
		marked, err := p.body(r)
		if err != nil || !marked {
			return err
		}
		return p.errorLines(r)
	}
	if err := p.queryHead(r, words); err != nil {
		return err
	}
	marked, err := p.body(r)
	if err != nil {
		return err
	}
	r.Unchecked = !marked
	if marked {
		p.results(r)
	}
	return nil
}

func (p *parser) queryHead(r *Record, words []string) error {
	at := r.span.head
	words, err := p.retry(r, words)
	if err != nil {
		return err
	}
	if len(words) > 3 {
		return p.errorAt(at, "unexpected %q after the label", words[3])
	}
	if len(words) > 0 {
		if c, ok := validTypes(words[0]); !ok {
			return p.errorAt(at, "column type %q is not one of %s", string(c), columnTypes)
		}
		r.Types = words[0]
	}
	if len(words) > 1 {
		mode, ok := sortNames[words[1]]
		if !ok {
			return p.errorAt(at, "sort mode %q is not nosort, rowsort or valuesort", words[1])
		}
		r.Sort = mode
	}
	if len(words) > 2 {
		r.Label = words[2]
	}
	return nil
}

func (p *parser) system(r *Record, words []string) error {
	r.Kind = System
	words, err := p.retry(r, words)
	if err != nil {
		return err
	}
	if len(words) != 1 || words[0] != "ok" {
		return p.errorAt(r.span.head, "system takes ok and nothing else")
	}
	marked, err := p.body(r)
	if err != nil {
		return err
	}
	r.Unchecked = !marked
	if marked {
		r.Want = []string{p.untilTwoBlanks(r)}
	}
	return nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (p *parser) let(r *Record, line string) error {
	r.Kind = Let
	_, rest, _ := strings.Cut(line, "let")
	for _, name := range strings.Split(rest, ",") {
		name = strings.TrimSpace(name)
		if !variableName.MatchString(name) {
			return p.errorAt(r.span.head, "variable name %q is not letters, digits and '_'", name)
		}
		r.Variables = append(r.Variables, name)
	}
	marked, err := p.body(r)
	if err == nil && marked {
		return p.errorAt(r.span.head, "let has no expected result")
	}
	return err
}

// body reads the SQL up to a blank line or "----", and reports which it was.
func (p *parser) body(r *Record) (marked bool, err error) {
	r.span.body = p.next
	defer func() { r.SQL = strings.Join(p.lines[r.span.body:r.span.bodyEnd], "\n") }()
	for ; p.next < len(p.lines); p.next++ {
		line := p.lines[p.next]
		if blank(line) || strings.TrimSpace(line) == resultMark {
			marked = !blank(line)
			break
		}
	}
	r.span.bodyEnd = p.next
	if r.span.bodyEnd == r.span.body {
		return marked, p.errorAt(r.span.head, "%s without SQL", r.Kind)
	}
	if marked {
		p.next++
		r.span.results = p.next
	}
	return marked, nil
}

func (p *parser) results(r *Record) {
	for ; p.next < len(p.lines) && !blank(p.lines[p.next]); p.next++ {
		r.Want = append(r.Want, p.lines[p.next])
	}
	r.span.resultsEnd = p.next
	if len(r.Want) != 1 {
		return
	}
	if m := hashLine.FindStringSubmatch(strings.TrimSpace(r.Want[0])); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			r.WantValues, r.WantHash = n, strings.ToLower(m[2])
		}
	}
}

func (p *parser) errorLines(r *Record) error {
	if r.WantError.Pattern != nil || r.WantError.Code != "" {
		return p.errorAt(r.span.head, "an expected error both after error and under %s", resultMark)
	}
	r.WantError.Text = p.untilTwoBlanks(r)
	r.WantError.Exact = true
	return nil
}

// untilTwoBlanks reads text that may itself hold single blank lines.
func (p *parser) untilTwoBlanks(r *Record) string {
	start := p.next
	for ; p.next < len(p.lines); p.next++ {
		if blank(p.lines[p.next]) && (p.next+1 == len(p.lines) || blank(p.lines[p.next+1])) {
			break
		}
	}
	r.span.resultsEnd = p.next
	return strings.TrimSpace(strings.Join(p.lines[start:p.next], "\n"))
}

var wordDuration = regexp.MustCompile(`^(\d+)(msec|millis|sec|secs|second|seconds|min|mins|minute|minutes|hour|hours|days?|d)$`)

// duration reads Go's notation and the unit words that sqllogictest-rs takes.
func duration(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	m := wordDuration.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	unit := time.Second
	switch {
	case m[2] == "msec" || m[2] == "millis":
		unit = time.Millisecond
	case strings.HasPrefix(m[2], "min"):
		unit = time.Minute
	case strings.HasPrefix(m[2], "hour"):
		unit = time.Hour
	case strings.HasPrefix(m[2], "d"):
		unit = 24 * time.Hour
	}
	return time.Duration(n) * unit, nil
}
