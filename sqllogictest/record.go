package sqllogictest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Position is a line of a script. Lines count from 1.
type Position struct {
	File string
	Line int
	// From is the include line that brought this file in; nil at the top.
	From *Position
}

// String is "file:line", followed by the include lines that led to it.
func (p Position) String() string {
	text := fmt.Sprintf("%s:%d", p.File, p.Line)
	if p.From != nil {
		text += " (included at " + p.From.String() + ")"
	}
	return text
}

// SyntaxError says where a script is malformed and why.
type SyntaxError struct {
	Position Position
	Reason   string
}

func (e *SyntaxError) Error() string { return e.Position.String() + ": " + e.Reason }

// Kind says what a record does.
type Kind uint8

// The kinds of records. Conditions and connection names are not records: they
// belong to the record that follows them.
const (
	Statement     Kind = iota + 1 // SQL whose success, error or row count is checked
	Query                         // SQL whose result is checked
	Halt                          // the script ends here
	HashThreshold                 // results longer than this are written as a hash
	Control                       // sortmode, resultmode or substitution for what follows
	Sleep                         // a pause
	Subtest                       // names the records that follow
	System                        // a shell command
	Let                           // binds variables to the first row of a query
)

var kindNames = map[Kind]string{
	Statement: "statement", Query: "query", Halt: "halt", HashThreshold: "hash-threshold",
	Control: "control", Sleep: "sleep", Subtest: "subtest", System: "system", Let: "let",
}

func (k Kind) String() string { return kindNames[k] }

// Condition is one skipif or onlyif line.
type Condition struct {
	Only   bool // onlyif; otherwise skipif
	Engine string
}

// SortMode says how a result is ordered before it is compared.
type SortMode uint8

// NoSort keeps the server's order, RowSort orders rows, ValueSort orders all
// values on their own. SortDefault stands for the script's own default.
const (
	SortDefault SortMode = iota
	NoSort
	RowSort
	ValueSort
)

var sortNames = map[string]SortMode{"nosort": NoSort, "rowsort": RowSort, "valuesort": ValueSort}

func (m SortMode) String() string {
	for name, mode := range sortNames {
		if mode == m {
			return name
		}
	}
	return ""
}

// ResultMode says whether expected results are written a value or a row to a
// line. ResultAny, the default, takes what the number of lines says.
type ResultMode uint8

// The result modes.
const (
	ResultAny ResultMode = iota
	ResultValues
	ResultRows
)

// Retry repeats a record that did not give the expected outcome.
type Retry struct {
	Attempts int // after the first
	Backoff  time.Duration
}

// ExpectedError is the error a statement or query must give.
type ExpectedError struct {
	// Code is a MySQL error number or a SQLSTATE made of digits; "" = any.
	Code string
	// Pattern must match the error's text; nil = any.
	Pattern *regexp.Regexp
	// Text must be the error's whole text, apart from blanks around it, when
	// Exact is set (the lines under "----").
	Text  string
	Exact bool
}

// Record is one step of a script.
type Record struct {
	Position   Position
	Kind       Kind
	Conditions []Condition
	Connection string // "" = the script's first connection
	SQL        string // or the shell command
	Retry      Retry

	// Statement and Query.
	WantError *ExpectedError // nil = must succeed
	WantCount int64          // rows affected; -1 = not checked

	// Query.
	Types    string // one letter a column, "" = not checked
	Sort     SortMode
	Label    string
	Want     []string // expected lines as written
	WantHash string   // MD5 of the values; then WantValues counts them
	// WantValues is the number of values behind WantHash.
	WantValues int
	// Unchecked is set when there is no "----" at all: the query need only work.
	Unchecked bool

	// HashThreshold, Control, Sleep, Subtest, Let.
	Threshold    int
	ControlName  string
	ControlValue string
	Pause        time.Duration
	Name         string   // of a subtest
	Variables    []string // of let

	span span
}

// span holds the line indexes (from 0, end exclusive) of a record's parts in
// its own file, for rewriting.
type span struct {
	head       int // the statement or query line
	body       int // first line of SQL
	bodyEnd    int // one after the last line of SQL
	results    int // first line after "----"; 0 = there is none
	resultsEnd int
}

// Applies reports whether the record runs on an endpoint with these names:
// every onlyif must name one of them and no skipif may.
func (r *Record) Applies(engines []string) bool {
	for _, c := range r.Conditions {
		if slices.Contains(engines, c.Engine) != c.Only {
			return false
		}
	}
	return true
}

// Script is a parsed file.
type Script struct {
	Path    string
	Records []Record
}

// types that a query line may name. I, R and T are the original ones; the rest
// appear in collections made for other programs and are compared as text,
// except F, which is R.
const columnTypes = "IRTFBDPO?"

func validTypes(types string) (rune, bool) {
	for _, c := range types {
		if !strings.ContainsRune(columnTypes, c) {
			return c, false
		}
	}
	return 0, true
}
