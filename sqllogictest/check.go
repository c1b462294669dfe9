package sqllogictest

import (
	"fmt"
	"regexp"
	"strings"
)

// outcome says how a record went. An empty reason is a pass.
type outcome struct {
	reason string
	want   []string // expected and got, as a report shows them
	got    []string

	// For rewriting.
	err      error // that the server gave
	timedOut bool
	affected int64
	result   *result
}

func pass() outcome              { return outcome{} }
func fail(reason string) outcome { return outcome{reason: reason} }
func (o outcome) failed() bool   { return o.reason != "" }

func differ(reason string, want, got []string) outcome {
	return outcome{reason: reason, want: want, got: got}
}

// checkResult compares a sorted result with the lines of a query record.
func checkResult(r *Record, res *result, mode ResultMode) outcome {
	o := compare(r, res, mode)
	o.result = res
	return o
}

func compare(r *Record, res *result, mode ResultMode) outcome {
	if r.Types != "" && res.columns != len(r.Types) {
		reason := fmt.Sprintf("%d columns instead of %d", res.columns, len(r.Types))
		return differ(reason, r.Want, res.lines(false))
	}
	if r.WantHash != "" {
		return checkHash(r, res)
	}
	byRow := mode == ResultRows ||
		mode == ResultAny && len(r.Want) != len(res.values) && len(r.Want) == res.rows()
	got := res.lines(byRow)
	if len(got) != len(r.Want) {
		return differ(fmt.Sprintf("%d lines of result instead of %d", len(got), len(r.Want)), r.Want, got)
	}
	for i, want := range r.Want {
		if !sameLine(want, got[i], byRow) {
			return differ(fmt.Sprintf("line %d of the result differs", i+1), r.Want, got)
		}
	}
	return pass()
}

func checkHash(r *Record, res *result) outcome {
	hash := res.hash()
	if len(res.values) == r.WantValues && hash == r.WantHash {
		return pass()
	}
	reason := "the result's hash differs"
	if len(res.values) != r.WantValues {
		reason = fmt.Sprintf("%d values instead of %d", len(res.values), r.WantValues)
	}
	got := append([]string{hashText(len(res.values), hash)}, res.lines(false)...)
	return differ(reason, r.Want, got)
}

func hashText(values int, hash string) string {
	return fmt.Sprintf("%d values hashing to %s", values, hash)
}

// lines writes the result a value or a row to a line.
func (r *result) lines(byRow bool) []string {
	if !byRow {
		return r.values
	}
	lines := make([]string, r.rows())
	for i := range lines {
		lines[i] = strings.Join(r.row(i), " ")
	}
	return lines
}

// sameLine compares a value without regard to blanks at its end, which editors
// remove, and a row without regard to the width of blanks between values.
func sameLine(want, got string, byRow bool) bool {
	if byRow {
		return squeeze(want) == squeeze(got)
	}
	return strings.TrimRight(want, " \t") == strings.TrimRight(got, " \t")
}

// driverError is how go-sql-driver writes a server's error.
var driverError = regexp.MustCompile(`(?s)^Error (\d+)(?: \((\w{5})\))?: (.*)$`)

// checkError compares an error, which may be nil, with the expected one.
func checkError(want *ExpectedError, err error) outcome {
	if err == nil {
		return fail("succeeded, but an error was expected")
	}
	o := compareError(want, err.Error())
	o.err = err
	return o
}

func compareError(want *ExpectedError, text string) outcome {
	var number, state, message string
	if m := driverError.FindStringSubmatch(text); m != nil {
		number, state, message = m[1], m[2], m[3]
	}
	switch {
	case want.Code != "" && want.Code != number && want.Code != state:
		return differ("another error than expected", []string{want.Code}, []string{text})
	case want.Pattern != nil && !want.Pattern.MatchString(text):
		return differ("the error does not match", []string{want.Pattern.String()}, []string{text})
	case want.Exact && want.Text != strings.TrimSpace(text) && want.Text != strings.TrimSpace(message):
		return differ("another error text than expected", []string{want.Text}, []string{text})
	}
	return pass()
}
