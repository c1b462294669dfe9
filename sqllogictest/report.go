package sqllogictest

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// maxShownLines bounds the lines of a result that a written failure shows.
const maxShownLines = 20

// Report is the outcome of a run.
type Report struct {
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Skipped int           `json:"skipped"`
	Files   []FileResult  `json:"files"`
}

// FileResult is the outcome of one script.
type FileResult struct {
	Path    string        `json:"path"`
	Folder  string        `json:"folder"`
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Skipped int           `json:"skipped"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Error says why the script, or the rest of it, did not run. It counts as one
	// failure.
	Error    string    `json:"error,omitempty"`
	Failures []Failure `json:"failures,omitempty"`

	index int
}

// Failure is a record whose outcome was not the expected one.
type Failure struct {
	At      string   `json:"at"` // file:line
	Subtest string   `json:"subtest,omitempty"`
	SQL     string   `json:"sql"`
	Reason  string   `json:"reason"`
	Want    []string `json:"want,omitempty"`
	Got     []string `json:"got,omitempty"`
}

func (r *Report) add(f FileResult) {
	r.Passed += f.Passed
	r.Failed += f.Failed
	r.Skipped += f.Skipped
	r.Files = append(r.Files, f)
}

// Rate is the number of records that ran in a second of wall time.
func (r *Report) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Passed+r.Failed) / r.Elapsed.Seconds()
}

// WriteText writes the first n failures, a table by folder, the rate, and as the
// last line "N passed, N failed, N skipped".
func (r *Report) WriteText(w io.Writer, n int) error {
	out := &strings.Builder{}
	r.writeFailures(out, n)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "passed\tfailed\tskipped\tseconds\t  folder")
	for _, f := range r.folders() {
		fmt.Fprintf(table, "%d\t%d\t%d\t%.1f\t  %s\n", f.Passed, f.Failed, f.Skipped, f.Elapsed.Seconds(), f.Folder)
	}
	table.Flush()
	fmt.Fprintf(out, "%d scripts in %.1f s, %.0f records a second\n", len(r.Files), r.Elapsed.Seconds(), r.Rate())
	fmt.Fprintln(out, r.Summary())
	_, err := io.WriteString(w, out.String())
	return err
}

// Summary is the closing line.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.Passed, r.Failed, r.Skipped)
}

func (r *Report) folders() []FileResult {
	var folders []FileResult
	for _, f := range r.Files {
		i := slices.IndexFunc(folders, func(g FileResult) bool { return g.Folder == f.Folder })
		if i < 0 {
			i = len(folders)
			folders = append(folders, FileResult{Folder: f.Folder})
		}
		folders[i].Passed += f.Passed
		folders[i].Failed += f.Failed
		folders[i].Skipped += f.Skipped
		folders[i].Elapsed += f.Elapsed
	}
	return folders
}

func (r *Report) writeFailures(out *strings.Builder, n int) {
	shown := 0
	for _, f := range r.Files {
		if f.Error != "" {
			fmt.Fprintf(out, "%s\n\n", f.Error)
			shown++
		}
		for _, failure := range f.Failures {
			if shown >= n {
				break
			}
			failure.write(out)
			shown++
		}
	}
	if left := r.Failed - shown; left > 0 && shown > 0 {
		fmt.Fprintf(out, "and %d more failures\n\n", left)
	}
}

func (f *Failure) write(out *strings.Builder) {
	fmt.Fprintf(out, "%s: %s\n", f.At, f.Reason)
	if f.Subtest != "" {
		fmt.Fprintf(out, "  subtest %s\n", f.Subtest)
	}
	writeLines(out, "sql", strings.Split(f.SQL, "\n"))
	writeLines(out, "expected", f.Want)
	writeLines(out, "got", f.Got)
	out.WriteByte('\n')
}

func writeLines(out *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "  %s:\n", title)
	for i, line := range lines {
		if i == maxShownLines {
			fmt.Fprintf(out, "    ... %d more lines\n", len(lines)-i)
			break
		}
		fmt.Fprintf(out, "    %s\n", line)
	}
}

// WriteJSON writes the whole report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
