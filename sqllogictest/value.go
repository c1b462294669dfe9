package sqllogictest

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is what a query gave: formatted values, row after row.
type result struct {
	values  []string
	columns int
}

func (r *result) rows() int {
	if r.columns == 0 {
		return 0
	}
	return len(r.values) / r.columns
}

func (r *result) row(i int) []string { return r.values[i*r.columns : (i+1)*r.columns] }

// sort orders the values as a record asks. Rows are compared value by value,
// values byte by byte.
func (r *result) sort(mode SortMode) {
	switch mode {
	case ValueSort:
		slices.Sort(r.values)
	case RowSort:
		rows := make([][]string, r.rows())
		for i := range rows {
			rows[i] = r.row(i)
		}
		slices.SortStableFunc(rows, slices.Compare[[]string])
		r.values = slices.Concat(rows...)
	}
}

// hash is the MD5 of the values, each followed by a newline, in hexadecimal.
func (r *result) hash() string {
	h := md5.New()
	for _, v := range r.values {
		io.WriteString(h, v)
		io.WriteString(h, "\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// formatter writes values as text in the way the format prescribes.
type formatter struct {
	// unicode keeps bytes above 0x7e: set when the script itself writes them in
	// its results, as the original program cannot.
	unicode bool
}

// format writes one value under a column letter. raw is nil for NULL; bits says
// that it is a MySQL BIT, which the wire carries as big-endian bytes.
func (f formatter) format(raw []byte, letter byte, bits bool) string {
	if raw == nil {
		return "NULL"
	}
	if bits && len(raw) <= 8 {
		var padded [8]byte
		copy(padded[8-len(raw):], raw)
		raw = strconv.AppendUint(nil, binary.BigEndian.Uint64(padded[:]), 10)
	}
	switch letter {
	case 'I':
		return integer(string(raw))
	case 'R', 'F':
		return strconv.FormatFloat(leadingFloat(string(raw)), 'f', 3, 64)
	}
	return f.text(raw)
}

// integer writes a value as C's %lld would after MySQL's conversion: an integer
// as it stands, anything else cut to the number it starts with.
func integer(text string) string {
	digits := strings.TrimPrefix(text, "-")
	if digits != "" && strings.Trim(digits, "0123456789") == "" {
		return text
	}
	whole, _, _ := strings.Cut(text, ".")
	if digits := strings.TrimPrefix(whole, "-"); digits != "" && strings.Trim(digits, "0123456789") == "" &&
		!strings.ContainsAny(text, "eE") {
		if strings.Trim(digits, "0") == "" {
			return "0"
		}
		return whole
	}
	return strconv.FormatInt(int64(leadingFloat(text)), 10)
}

// leadingFloat reads the number that text starts with; 0 when there is none.
func leadingFloat(text string) float64 {
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		return v
	}
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(c rune) bool { return !strings.ContainsRune("+-.0123456789eE", c) })
	if end < 0 {
		end = len(text)
	}
	for ; end > 0; end-- {
		if v, err := strconv.ParseFloat(text[:end], 64); err == nil {
			return v
		}
	}
	return 0
}

func (f formatter) text(raw []byte) string {
	if len(raw) == 0 {
		return "(empty)"
	}
	out := slices.Clone(raw)
	for i, c := range out {
		if c < ' ' || c == 0x7f || (c > '~' && !f.unicode) {
			out[i] = '@'
		}
	}
	return string(out)
}

// squeeze writes a line with single blanks between its words.
func squeeze(line string) string { return strings.Join(strings.Fields(line), " ") }

func firstNonZero[T cmp.Ordered](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

// cell receives one value of a row, whatever type its driver gives it.
type cell struct {
	text []byte // kept from row to row
	null bool
}

// value is the text, not nil, or nil for NULL. It is valid until the next Scan.
func (c *cell) value() []byte {
	if c.null {
		return nil
	}
	return c.text
}

// Scan implements sql.Scanner.
func (c *cell) Scan(value any) error {
	c.null = value == nil
	if c.text == nil {
		c.text = []byte{}
	}
	c.text = c.text[:0]
	switch v := value.(type) {
	case nil:
	case []byte:
		c.text = append(c.text, v...)
	case string:
		c.text = append(c.text, v...)
	case int64:
		c.text = strconv.AppendInt(c.text, v, 10)
	case float64:
		c.text = strconv.AppendFloat(c.text, v, 'g', -1, 64)
	case bool:
		c.text = append(c.text, map[bool]byte{false: '0', true: '1'}[v])
	case time.Time:
		c.text = v.AppendFormat(c.text, "2006-01-02 15:04:05.999999")
	default:
		c.text = fmt.Append(c.text, v)
	}
	return nil
}
