package sqllogictest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The JUnit shape: a suite is a folder, a case is a script.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit XML, a suite for each folder and a case
// for each script.
func (r *Report) WriteJUnit(w io.Writer) error {
	var doc junitSuites
	for _, folder := range r.folders() {
		suite := junitSuite{Name: folder.Folder, Time: seconds(folder)}
		for _, f := range r.Files {
			if f.Folder != folder.Folder {
				continue
			}
			suite.Tests++
			c := f.junit()
			if c.Failure != nil {
				suite.Failures++
			}
			suite.Cases = append(suite.Cases, c)
		}
		doc.Suites = append(doc.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (f *FileResult) junit() junitCase {
	counts := fmt.Sprintf("%d passed, %d failed, %d skipped", f.Passed, f.Failed, f.Skipped)
	c := junitCase{Class: f.Folder, Name: f.Path, Time: seconds(*f), Out: counts}
	if f.Failed == 0 {
		return c
	}
	var text strings.Builder
	if f.Error != "" {
		fmt.Fprintln(&text, f.Error)
	}
	for _, failure := range f.Failures {
		failure.write(&text)
	}
	c.Failure = &junitFailure{Message: counts, Text: text.String()}
	return c
}

func seconds(f FileResult) string { return fmt.Sprintf("%.3f", f.Elapsed.Seconds()) }
