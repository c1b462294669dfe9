package sqllogictest

import (
	"fmt"
	"strings"
)

// substitute replaces $name, ${name} and ${name:default} in text, where the
// default may itself hold references, and \$ and \\ by the plain character. An
// unknown name without a default is an error.
func substitute(text string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '$' || text[i+1] == '\\'):
			out.WriteByte(text[i+1])
			i += 2
		case c == '$' && i+1 < len(text) && text[i+1] == '{':
			end := closingBrace(text[i+2:])
			if end < 0 {
				return "", fmt.Errorf("no } after %q", text[i:])
			}
			value, err := reference(text[i+2:i+2+end], lookup)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += 2 + end + 1
		case c == '$' && nameLength(text[i+1:]) > 0:
			n := nameLength(text[i+1:])
			value, err := reference(text[i+1:i+1+n], lookup)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += 1 + n
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String(), nil
}

func reference(body string, lookup func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(body, ":")
	if !variableName.MatchString(name) {
		return "", fmt.Errorf("variable name %q", name)
	}
	if value, ok := lookup(name); ok {
		return value, nil
	}
	if !hasFallback {
		return "", fmt.Errorf("variable %s is not set", name)
	}
	return substitute(fallback, lookup)
}

func nameLength(text string) int {
	n := 0
	for n < len(text) && (text[n] == '_' || isLetter(text[n]) || n > 0 && text[n] >= '0' && text[n] <= '9') {
		n++
	}
	return n
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// closingBrace is the index of the brace that closes an open one; -1 = none.
func closingBrace(text string) int {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return -1
}
