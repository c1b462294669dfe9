package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutation is one line of mutations.txt.
type mutation struct {
	name  string         // rule, dot, what is switched off
	dir   string         // package of the test, relative to the root
	tests string         // regexp of the tests, as -test.run takes it
	what  string         // what is switched off
	hangs bool           // shows as a test that never ends
	match *regexp.Regexp // tests, its first element compiled
}

// rule is the part of the name that says what is broken: H9, R1, or a section of
// transactions.md, 1.4.
func (m *mutation) rule() string { return ruleOf.FindString(m.name) }

var ruleOf = regexp.MustCompile(`^[0-9]+\.[0-9]+|^[^.]+`)

// readList reads mutations.txt.
func readList(path string) ([]mutation, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mutation
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if slices.ContainsFunc(list, func(o mutation) bool { return o.name == m.name }) {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", path, n, m.name)
		}
		list = append(list, m)
	}
	return list, lines.Err()
}

func parseLine(line string) (m mutation, err error) {
	fields := strings.Split(line, " | ")
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	if len(fields) == 5 && fields[4] == "hangs" {
		fields, m.hangs = fields[:4], true
	}
	if len(fields) != 4 || slices.Contains(fields, "") {
		return m, fmt.Errorf("want: name | package | tests | what is switched off [| hangs]")
	}
	m.name, m.dir, m.tests, m.what = fields[0], fields[1], fields[2], fields[3]
	if rule, what, _ := strings.Cut(m.name, "."); rule == "" || what == "" {
		return m, fmt.Errorf("the name %q is not a rule, a dot and what is switched off", m.name)
	}
	top, _, _ := strings.Cut(m.tests, "/")
	m.match, err = regexp.Compile(top)
	return m, err
}

var (
	switchedOff  = regexp.MustCompile(`\bmutated\("([^"]*)"\)`)
	testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// inCode returns the mutations that the code knows, each with the files that
// ask for it, and the tests of every package.
func inCode(root string) (mutations, tests map[string][]string, err error) {
	mutations, tests = map[string][]string{}, map[string][]string{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") || rel == filepath.Join("bench", "mutations") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			dir := filepath.ToSlash(filepath.Dir(rel))
			for _, m := range testFunction.FindAllSubmatch(text, -1) {
				tests[dir] = append(tests[dir], string(m[1]))
			}
			return nil
		}
		for _, m := range switchedOff.FindAllSubmatch(text, -1) {
			mutations[string(m[1])] = append(mutations[string(m[1])], filepath.ToSlash(rel))
		}
		return nil
	})
	return mutations, tests, err
}

// problems says where the list and the code disagree.
func problems(root string, list []mutation) ([]string, error) {
	known, tests, err := inCode(root)
	if err != nil {
		return nil, err
	}
	var found []string
	listed := map[string]bool{}
	for i := range list {
		m := &list[i]
		listed[m.name] = true
		if known[m.name] == nil {
			found = append(found, fmt.Sprintf("%s is listed, but nothing in the code asks for it", m.name))
		}
		if !slices.ContainsFunc(tests[m.dir], m.match.MatchString) {
			found = append(found, fmt.Sprintf("%s: package %s has no test that matches %s", m.name, m.dir, m.tests))
		}
	}
	for name, files := range known {
		if !listed[name] {
			found = append(found, fmt.Sprintf("%s is in %s, but not listed", name, strings.Join(files, ", ")))
		}
	}
	slices.Sort(found)
	return found, nil
}
