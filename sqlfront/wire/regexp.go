package wire

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"
)

// regexpTime bounds one match. MySQL bounds steps (regexp_time_limit); the purpose is the same: no pattern may hang a server.
const regexpTime = time.Second

// compiled is a pattern with its flags, ready for any number of goroutines.
type compiled struct {
	source string
	flags  regexp2.RegexOptions
	re     *regexp2.Regexp
}

// Errors of the regular expression functions, with MySQL's numbers.
var (
	errRegexpArgument = mysql.NewSQLError(3685, "HY000", "Illegal argument to a regular expression.")
	errRegexpIndex    = mysql.NewSQLError(3686, "HY000", "Index out of bounds in regular expression search.")
	errRegexpTime     = mysql.NewSQLError(3699, "HY000", "Timeout exceeded in regular expression match.")
)

// compile returns the pattern of a call; flags is the match_type argument, if there is one.
func (c *call) compile(ctx *sql.Context, args []any, flagsAt int) (*regexp2.Regexp, error) {
	source, err := textOf(ctx, args[1])
	if err != nil {
		return nil, err
	}
	options := regexp2.RegexOptions(regexp2.None)
	if collation, _ := c.CollationCoercibility(ctx); strings.HasSuffix(collation.Name(), "_ci") {
		options |= regexp2.IgnoreCase
	}
	if len(args) > flagsAt {
		letters, err := textOf(ctx, args[flagsAt])
		if err != nil {
			return nil, err
		}
		if options, err = matchType(letters, options); err != nil {
			return nil, err
		}
	}
	if last := c.pattern.Load(); last != nil && last.source == source && last.flags == options {
		return last.re, nil
	}
	if source == "" {
		return nil, errRegexpArgument
	}
	re, err := regexp2.Compile(posixClasses(source), options)
	if err != nil {
		return nil, patternError(err)
	}
	re.MatchTimeout = regexpTime
	c.pattern.Store(&compiled{source: source, flags: options, re: re})
	return re, nil
}

// matchType reads the letters of a match_type: c and i for case (the last one holds), m for ^ and $ at every line, n for a dot
// that matches line ends, u for lines that end with \n only, which they always do here.
func matchType(letters string, o regexp2.RegexOptions) (regexp2.RegexOptions, error) {
	for _, letter := range letters {
		switch letter {
		case 'c':
			o &^= regexp2.IgnoreCase
		case 'i':
			o |= regexp2.IgnoreCase
		case 'm':
			o |= regexp2.Multiline
		case 'n':
			o |= regexp2.Singleline
		case 'u':
		default:
			return 0, mysql.NewSQLError(1210, "HY000", "Incorrect arguments to regexp match_type")
		}
	}
	return o, nil
}

func patternError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "unterminated ["), strings.Contains(text, "missing closing ]"):
		return mysql.NewSQLError(3696, "HY000", "The regular expression contains an unclosed bracket expression.")
	case strings.Contains(text, "closing )"), strings.Contains(text, "Too many )"), strings.Contains(text, "unexpected )"):
		return mysql.NewSQLError(3691, "HY000", "Mismatched parenthesis in regular expression.")
	}
	return mysql.NewSQLError(3688, "HY000", "Syntax error in regular expression: %s", text)
}

// classes are the POSIX names that may stand inside brackets, as Unicode classes.
var classes = map[string]string{
	"alpha": `\p{L}`, "digit": `\d`, "alnum": `\p{L}\p{Nd}`, "space": `\s`, "blank": `\t\x20`, "upper": `\p{Lu}`, "lower": `\p{Ll}`,
	"punct": `\p{P}`, "xdigit": `0-9A-Fa-f`, "cntrl": `\p{Cc}`, "word": `\w`, "graph": `\x21-\x7E\u00A1-\uFFFF`, "print": `\x20-\x7E\u00A0-\uFFFF`,
}

// posixClasses writes [:name:] inside brackets in the library's own notation.
func posixClasses(source string) string {
	if !strings.Contains(source, "[:") {
		return source
	}
	var b strings.Builder
	inside := false
	for i := 0; i < len(source); i++ {
		switch c := source[i]; {
		case c == '\\' && i+1 < len(source):
			b.WriteString(source[i : i+2])
			i++
			continue
		case c == '[' && inside && strings.HasPrefix(source[i:], "[:"):
			if end := strings.Index(source[i:], ":]"); end > 0 {
				if class, ok := classes[source[i+2:i+end]]; ok {
					b.WriteString(class)
					i += end + 1
					continue
				}
			}
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		}
		b.WriteByte(source[i])
	}
	return b.String()
}

// search is the beginning that all four functions share: the text in characters and where the search begins.
func (c *call) search(ctx *sql.Context, args []any, positionAt int) (text []rune, start int, err error) {
	s, err := textOf(ctx, args[0])
	if err != nil {
		return nil, 0, err
	}
	text = []rune(s)
	if len(args) <= positionAt {
		return text, 0, nil
	}
	position, err := intOf(ctx, args[positionAt])
	if err != nil {
		return nil, 0, err
	}
	if position < 1 || position > int64(len(text))+1 {
		return nil, 0, errRegexpIndex
	}
	return text, int(position - 1), nil
}

// occurrence is the n-th match from start, nil if there are fewer; n below 1 means 1.
func occurrence(ctx *sql.Context, re *regexp2.Regexp, text []rune, start int, n int64) (*regexp2.Match, error) {
	m, err := re.FindRunesMatchStartingAt(text, start)
	for i := int64(1); i < n && m != nil && err == nil; i++ {
		if err = ctx.Err(); err == nil {
			m, err = re.FindNextMatch(m)
		}
	}
	return m, matchError(err)
}

// matchError: the library's one error in matching is its time limit.
func matchError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errRegexpTime
}

func optionalInt(ctx *sql.Context, args []any, at int, otherwise int64) (int64, error) {
	if len(args) <= at {
		return otherwise, nil
	}
	return intOf(ctx, args[at])
}

func evalRegexpLike(ctx *sql.Context, c *call, args []any) (any, error) {
	re, err := c.compile(ctx, args, 2)
	if err != nil {
		return nil, err
	}
	text, err := textOf(ctx, args[0])
	if err != nil {
		return nil, err
	}
	found, err := re.MatchString(text)
	if err != nil {
		return nil, matchError(err)
	}
	if found {
		return int8(1), nil
	}
	return int8(0), nil
}

func evalRegexpInstr(ctx *sql.Context, c *call, args []any) (any, error) {
	m, err := c.find(ctx, args, 5)
	if err != nil {
		return nil, err
	}
	after, err := optionalInt(ctx, args, 4, 0)
	switch {
	case err != nil:
		return nil, err
	case after != 0 && after != 1:
		return nil, mysql.NewSQLError(1210, "HY000", "Incorrect arguments to regexp_instr: return_option must be 1 or 0.")
	case m == nil:
		return int32(0), nil
	}
	return int32(m.Index + int(after)*m.Length + 1), nil
}

func evalRegexpSubstr(ctx *sql.Context, c *call, args []any) (any, error) {
	m, err := c.find(ctx, args, 4)
	if err != nil || m == nil {
		return nil, err
	}
	return m.String(), nil
}

// find is the match that REGEXP_INSTR and REGEXP_SUBSTR ask for: text, pattern, position, occurrence.
func (c *call) find(ctx *sql.Context, args []any, flagsAt int) (*regexp2.Match, error) {
	re, err := c.compile(ctx, args, flagsAt)
	if err != nil {
		return nil, err
	}
	text, start, err := c.search(ctx, args, 2)
	if err != nil {
		return nil, err
	}
	n, err := optionalInt(ctx, args, 3, 1)
	if err != nil {
		return nil, err
	}
	return occurrence(ctx, re, text, start, n)
}

func evalRegexpReplace(ctx *sql.Context, c *call, args []any) (any, error) {
	re, err := c.compile(ctx, args, 5)
	if err != nil {
		return nil, err
	}
	text, start, err := c.search(ctx, args, 3)
	if err != nil {
		return nil, err
	}
	replacement, err := textOf(ctx, args[2])
	if err != nil {
		return nil, err
	}
	n, err := optionalInt(ctx, args, 4, 0)
	if err != nil {
		return nil, err
	}
	m, err := occurrence(ctx, re, text, start, n)
	if err != nil {
		return nil, err
	}
	limit := packetLimit(ctx)
	var b strings.Builder
	done := 0
	for m != nil {
		b.WriteString(string(text[done:m.Index]))
		if err := expand(&b, m, replacement); err != nil {
			return nil, err
		}
		done = m.Index + m.Length
		if int64(b.Len()) > limit {
			return c.tooLong(ctx, limit)
		}
		if n > 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if m, err = re.FindNextMatch(m); err != nil {
			return nil, matchError(err)
		}
	}
	b.WriteString(string(text[done:]))
	if int64(b.Len()) > limit {
		return c.tooLong(ctx, limit)
	}
	return b.String(), nil
}

// expand writes a replacement: $1 and ${name} are groups, a backslash takes the next character as it is.
func expand(b *strings.Builder, m *regexp2.Match, replacement string) error {
	for i := 0; i < len(replacement); i++ {
		switch c := replacement[i]; {
		case c == '\\' && i+1 < len(replacement):
			i++
			b.WriteByte(replacement[i])
		case c == '$':
			group, used := groupOf(m, replacement[i+1:])
			if group == nil {
				return errRegexpIndex
			}
			b.WriteString(group.String())
			i += used
		default:
			b.WriteByte(c)
		}
	}
	return nil
}

// groupOf finds the group that a reference names, and how long the reference is. Digits are taken as long as such a group
// exists: $12 is group 1 and a 2 when there are fewer than twelve.
func groupOf(m *regexp2.Match, reference string) (group *regexp2.Group, used int) {
	if strings.HasPrefix(reference, "{") {
		end := strings.IndexByte(reference, '}')
		if end < 0 {
			return nil, 0
		}
		return m.GroupByName(reference[1:end]), end + 1
	}
	for end := 1; end <= len(reference) && reference[end-1] >= '0' && reference[end-1] <= '9'; end++ {
		n, err := strconv.Atoi(reference[:end])
		if err != nil || n >= m.GroupCount() {
			break
		}
		group, used = m.GroupByNumber(n), end
	}
	return group, used
}
