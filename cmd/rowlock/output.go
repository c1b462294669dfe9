package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// resultWriter writes the rows of a result and counts them.
type resultWriter interface {
	write(w io.Writer, columns []string, rows *sql.Rows) (int64, error)
}

// eachRow calls do with the values of every row; nil is NULL. The slice is
// reused.
func eachRow(columns int, rows *sql.Rows, do func([]sql.RawBytes)) (int64, error) {
	values := make([]sql.RawBytes, columns)
	into := make([]any, columns)
	for i := range values {
		into[i] = &values[i]
	}
	n := int64(0)
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return n, err
		}
		do(values)
		n++
	}
	return n, rows.Err()
}

// boxed draws a table. It holds the whole result, to know the widths.
type boxed struct{}

func (boxed) write(w io.Writer, columns []string, rows *sql.Rows) (int64, error) {
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(tableRow(columns, func(name string) string { return name }))
	numbers := rightAligned(rows, columns)
	t.SetColumnConfigs(numbers)
	n, err := eachRow(len(columns), rows, func(values []sql.RawBytes) {
		t.AppendRow(tableRow(values, readable))
	})
	if err != nil || n == 0 {
		return n, err
	}
	_, err = io.WriteString(w, t.Render()+"\n")
	return n, err
}

func tableRow[T any](values []T, write func(T) string) table.Row {
	row := make(table.Row, len(values))
	for i, v := range values {
		row[i] = write(v)
	}
	return row
}

// rightAligned configures the columns of numbers, as the mysql client shows them.
func rightAligned(rows *sql.Rows, columns []string) []table.ColumnConfig {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil // then everything is left-aligned
	}
	var configs []table.ColumnConfig
	for i := range columns {
		name := types[i].DatabaseTypeName()
		if strings.HasSuffix(name, "INT") || strings.HasSuffix(name, "DECIMAL") || name == "DOUBLE" || name == "FLOAT" {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight})
		}
	}
	return configs
}

// readable writes a value for a person: bytes that are no text in hexadecimal.
func readable(value sql.RawBytes) string {
	switch {
	case value == nil:
		return "NULL"
	case !utf8.Valid(value):
		return fmt.Sprintf("0x%X", []byte(value))
	}
	return string(value)
}

// tabbed writes tab-separated values with a header, as the mysql client does in
// a pipe: tab, newline, NUL and backslash are escaped, NULL is a word.
type tabbed struct{}

var tabEscapes = strings.NewReplacer("\t", `\t`, "\n", `\n`, "\x00", `\0`, `\`, `\\`)

func (tabbed) write(w io.Writer, columns []string, rows *sql.Rows) (int64, error) {
	out := bufio.NewWriter(w)
	out.WriteString(strings.Join(columns, "\t"))
	out.WriteByte('\n')
	n, err := eachRow(len(columns), rows, func(values []sql.RawBytes) {
		for i, v := range values {
			if i > 0 {
				out.WriteByte('\t')
			}
			if v == nil {
				out.WriteString("NULL")
				continue
			}
			tabEscapes.WriteString(out, string(v))
		}
		out.WriteByte('\n')
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return n, err
}

// vertical writes a line for each value.
type vertical struct{}

func (vertical) write(w io.Writer, columns []string, rows *sql.Rows) (int64, error) {
	width := 0
	for _, name := range columns {
		width = max(width, utf8.RuneCountInString(name))
	}
	row := 0
	out := bufio.NewWriter(w)
	n, err := eachRow(len(columns), rows, func(values []sql.RawBytes) {
		row++
		fmt.Fprintf(out, "*************************** %d. row ***************************\n", row)
		for i, v := range values {
			fmt.Fprintf(out, "%*s: %s\n", width, columns[i], readable(v))
		}
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return n, err
}
