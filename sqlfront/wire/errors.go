package wire

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"
	goerrors "gopkg.in/src-d/go-errors.v1"
)

// The numbers of MySQL's Server Error Message Reference that are used by name.
const (
	erServerShutdown    = 1053
	erUnknown           = 1105
	erParse             = 1064
	erErrorDuringCommit = 1180
	erQueryInterrupted  = 1317
	erQueryTimeout      = 3024
)

const (
	interrupted = "Query execution was interrupted"
	timedOut    = "Query execution was interrupted, maximum statement execution time exceeded"
)

// MapError gives err the error number and SQLSTATE that MySQL 8.0 uses, and its wording where programs are known to read it;
// nil stays nil. An error that already has a number keeps it.
//
// The engine flattens most of its errors to number 1105 and a text before the protocol handler sees them, so an error is
// recognised by its kind where it still has one, and by the text its kind would have written where it has none.
func MapError(err error) *mysql.SQLError {
	if err == nil {
		return nil
	}
	err = sql.UnwrapError(err)
	if mapped := mapTransaction(err); mapped != nil {
		return mapped
	}
	var numbered *mysql.SQLError
	if errors.As(err, &numbered) {
		return mapNumbered(numbered)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return newError(erQueryInterrupted, interrupted)
	}
	for i := range rules {
		if k := rules[i].kind; k != nil && k.Is(err) {
			return rules[i].apply(err.Error())
		}
	}
	return mapText(erUnknown, err.Error())
}

func mapNumbered(e *mysql.SQLError) *mysql.SQLError {
	mapped := mapText(e.Num, e.Message)
	if mapped.Num == e.Num && e.State != "" && e.State != mysql.SSUnknownSQLState {
		mapped.State = e.State // whoever gave a state had a reason
	}
	return mapped
}

// numberedText is how an error with a number looks after the engine made a syntax error's text of it.
var numberedText = regexp.MustCompile(`(?s)^(.*) \(errno ([0-9]{4})\) \(sqlstate ([0-9A-Z]{5})\)$`)

// mapText finds the rule for a text that has number num so far.
func mapText(num int, text string) *mysql.SQLError {
	if m := numberedText.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[2])
		return &mysql.SQLError{Num: n, State: m[3], Message: m[1]}
	}
	if num == erUnknown {
		if mapped := mapTransactionText(text); mapped != nil {
			return mapped
		}
	}
	for i := range rules {
		r := &rules[i]
		if (num == erUnknown || num == r.num) && r.text.MatchString(text) {
			return r.apply(text)
		}
	}
	return newError(num, text)
}

func newError(num int, text string) *mysql.SQLError {
	state, ok := states[num]
	if !ok {
		state = mysql.SSUnknownSQLState
	}
	return &mysql.SQLError{Num: num, State: state, Message: text}
}

// ClosesConnection says that the connection must not be used after err: the outcome of its transaction is unknown.
func ClosesConnection(err error) bool {
	var numbered *mysql.SQLError
	if errors.As(err, &numbered) && numbered.Num == erErrorDuringCommit {
		return true
	}
	return unknownOutcome(err)
}

// refine corrects what depends on the statement: the engine reports what it did not find, MySQL what could not be done.
func refine(query string, e *mysql.SQLError) *mysql.SQLError {
	s := &scanner{text: query}
	verb, object := s.word(), s.word()
	switch {
	case verb == "DROP" && (object == "DATABASE" || object == "SCHEMA") && e.Num == 1049:
		return newError(1008, dropped.ReplaceAllString(e.Message, "Can't drop database '$1'; database doesn't exist"))
	case verb == "DROP" && object == "TABLE" && e.Num == 1146:
		return newError(1051, dropped.ReplaceAllString(e.Message, "Unknown table '$1'"))
	case verb == "ALTER" && object == "TABLE" && e.Num == 1054 && mayHold(query, "DROP"):
		return newError(1091, dropped.ReplaceAllString(e.Message, "Can't DROP '$1'; check that column/key exists"))
	case verb == "SET" && e.Num == 1265:
		return newError(1231, "Variable can't be set to the value of "+e.Message)
	}
	return e
}

// dropped finds the first quoted name of a message.
var dropped = regexp.MustCompile(`(?s)^[^']*'([^']*)'.*$`)

// rule maps one kind of error. The text pattern has a group for every argument of the kind's message.
type rule struct {
	num     int
	kind    *goerrors.Kind // nil for errors that never had a kind
	text    *regexp.Regexp
	message string // MySQL's wording, $1 for the first argument; empty keeps the engine's
}

func (r *rule) apply(text string) *mysql.SQLError {
	if r.message != "" {
		if m := r.text.FindStringSubmatchIndex(text); m != nil {
			text = string(r.text.ExpandString(nil, r.message, text, m))
		}
	}
	return newError(r.num, text)
}

// kind makes a rule from one of the engine's kinds, whose message is also the pattern.
func kind(num int, k *goerrors.Kind, message ...string) rule {
	r := rule{num: num, kind: k, text: pattern(k.Message)}
	if len(message) > 0 {
		r.message = message[0]
	}
	return r
}

// text makes a rule for errors the engine writes without a kind.
func text(num int, expression string, message ...string) rule {
	r := rule{num: num, text: regexp.MustCompile(`(?s)^(?:Code: INVALID_ARGUMENT\n)?` + expression + `\s*$`)}
	if len(message) > 0 {
		r.message = message[0]
	}
	return r
}

var verb = regexp.MustCompile(`%[a-zA-Z]`)

// pattern turns a format into an expression that its output matches. What a kind wraps is appended after a colon.
func pattern(format string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	last := 0
	for _, at := range verb.FindAllStringIndex(format, -1) {
		b.WriteString(regexp.QuoteMeta(format[last:at[0]]))
		if format[at[0]:at[1]] == "%q" {
			b.WriteString(`"(.*?)"`)
		} else {
			b.WriteString(`(.*?)`)
		}
		last = at[1]
	}
	b.WriteString(regexp.QuoteMeta(format[last:]))
	b.WriteString(`(?:: (.*))?$`)
	return regexp.MustCompile(b.String())
}

// warningText is the text of a NULL-and-warning for a result above max_allowed_packet (ER_WARN_ALLOWED_PACKET_OVERFLOWED).
func warningText(function string, limit int64) string {
	return fmt.Sprintf("Result of %s() was larger than max_allowed_packet (%d) - truncated", function, limit)
}
