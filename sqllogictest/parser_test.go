package sqllogictest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// TestParse reads scripts and writes what was understood; testdata/parse holds
// both. A malformed script gives its file, line and reason.
func TestParse(t *testing.T) {
	datadriven.RunTest(t, "testdata/parse", func(t *testing.T, d *datadriven.TestData) string {
		// datadriven cannot hold "----" nor blank lines in its input.
		text := strings.NewReplacer("=>", resultMark, "<blank>", "", "<tab>", "\t").Replace(d.Input)
		script, err := Parse("a.slt", strings.NewReader(text+"\n"))
		if err != nil {
			return err.Error() + "\n"
		}
		var out strings.Builder
		for i := range script.Records {
			describe(&out, &script.Records[i])
		}
		return out.String()
	})
}

func describe(out *strings.Builder, r *Record) {
	fmt.Fprintf(out, "%d %s", r.Position.Line, r.Kind)
	for _, c := range r.Conditions {
		fmt.Fprintf(out, " [only=%v %s]", c.Only, c.Engine)
	}
	if r.Connection != "" {
		fmt.Fprintf(out, " on=%s", r.Connection)
	}
	if r.WantCount >= 0 {
		fmt.Fprintf(out, " count=%d", r.WantCount)
	}
	if e := r.WantError; e != nil {
		fmt.Fprintf(out, " error(code=%q pattern=%v text=%q)", e.Code, e.Pattern, e.Text)
	}
	if r.Retry.Attempts > 0 {
		fmt.Fprintf(out, " retry=%d/%v", r.Retry.Attempts, r.Retry.Backoff)
	}
	switch r.Kind {
	case Query:
		fmt.Fprintf(out, " types=%q sort=%q label=%q want=%q unchecked=%v", r.Types, r.Sort, r.Label, r.Want, r.Unchecked)
		if r.WantHash != "" {
			fmt.Fprintf(out, " hash=%d/%s", r.WantValues, r.WantHash)
		}
	case HashThreshold:
		fmt.Fprintf(out, " %d", r.Threshold)
	case Control:
		fmt.Fprintf(out, " %s=%s", r.ControlName, r.ControlValue)
	case Sleep:
		fmt.Fprintf(out, " %v", r.Pause)
	case Subtest:
		fmt.Fprintf(out, " %s", r.Name)
	case Let:
		fmt.Fprintf(out, " %q", r.Variables)
	}
	if r.SQL != "" {
		fmt.Fprintf(out, " sql=%q", r.SQL)
	}
	out.WriteByte('\n')
}

func TestFindAndLoad(t *testing.T) {
	folder := t.TempDir()
	text := "statement ok\nSELECT 1\n"
	for _, name := range []string{"b.test", "sub/a.slt", "sub/c.test.gz", "sub/d.slt.zst"} {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, writeFile(path, []byte(text)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "notes.txt"), []byte("no script"), 0o644))

	found, err := Find(folder, filepath.Join(folder, "sub", "*.slt"), filepath.Join(folder, "b.test"))
	require.NoError(t, err)
	require.Len(t, found, 4, "each script once: %v", found)
	for _, path := range found {
		script, err := Load(path)
		require.NoError(t, err)
		require.Len(t, script.Records, 1)
		require.Equal(t, "SELECT 1", script.Records[0].SQL)
	}

	_, err = Find(filepath.Join(folder, "*.none"))
	require.ErrorContains(t, err, "no script at")
}

func TestInclude(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	main := write("main.slt", "statement ok\nSELECT 1\n\ninclude part*.inc\n\nstatement ok\nSELECT 4\n")
	write("part1.inc", "statement ok\nSELECT 2\n")
	write("part2.inc", "statement ok\nSELECT 3\n")
	script, err := Load(main)
	require.NoError(t, err)
	var order []string
	for _, r := range script.Records {
		order = append(order, r.SQL)
	}
	require.Equal(t, []string{"SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"}, order)
	require.Contains(t, script.Records[1].Position.String(), "part1.inc:1 (included at "+main+":4)")

	loop := write("loop.slt", "include loop.slt\n")
	_, err = Load(loop)
	require.ErrorContains(t, err, "nested too deep")

	missing := write("missing.slt", "\ninclude nowhere.slt\n")
	_, err = Load(missing)
	require.ErrorContains(t, err, missing+":2: include \"nowhere.slt\" matches no file")
}

// FuzzParse: no input may panic, and a script that parses has positions inside
// the input.
func FuzzParse(f *testing.F) {
	f.Add("statement ok\nSELECT 1\n")
	f.Add("onlyif mysql\nquery IT rowsort l retry 2 backoff 1s\nSELECT 1, 'a'\n----\n1\na\n")
	f.Add("statement error\nx\n----\nline\n\nline\n\n\nlet a, b\nSELECT 1,2\n")
	f.Fuzz(func(t *testing.T, text string) {
		script, err := Parse("f", strings.NewReader(text))
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for _, r := range script.Records {
			if r.Position.Line < 1 || r.Position.Line > lines {
				t.Fatalf("record at line %d of %d", r.Position.Line, lines)
			}
		}
	})
}
