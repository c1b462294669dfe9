// Command mutations proves the tests of the protocol: it breaks one rule at a
// time and wants a test to fail.
//
// mutations.txt lists the mutations and the tests that catch them. Each test
// must pass as it is and fail with the mutation, in the same binary, which is
// built with the tag "mutation". A test that does not end is no catch, unless
// the list says that the mutation shows in no other way.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	root := flag.String("root", ".", "the module's directory")
	only := flag.String("only", "", "regexp of the mutations to run; all by default")
	limit := flag.Duration("limit", 2*time.Minute, "limit of one test run")
	verbose := flag.Bool("v", false, "print what the failing tests said")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := prove(ctx, os.Stdout, *root, *only, *limit, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}

func prove(ctx context.Context, w io.Writer, root, only string, limit time.Duration, verbose bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	list, err := readList(filepath.Join(root, "bench", "mutations", "mutations.txt"))
	if err != nil {
		return err
	}
	found, err := problems(root, list)
	if err != nil {
		return err
	}
	for _, p := range found {
		fmt.Fprintln(w, "problem:", p)
	}
	if len(found) > 0 {
		return fmt.Errorf("%d problems: mutations.txt and the code do not agree", len(found))
	}
	if list, err = selected(list, only); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "rowlock-mutations-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r := &runner{root: root, work: work, limit: limit, binaries: map[string]string{}}
	if err := r.baseline(ctx, w, list); err != nil {
		return err
	}
	return r.mutations(ctx, w, list, verbose)
}

func selected(list []mutation, only string) ([]mutation, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	var some []mutation
	for _, m := range list {
		if match.MatchString(m.name) {
			some = append(some, m)
		}
	}
	return some, nil
}

// baseline wants every listed test to pass with nothing broken.
func (r *runner) baseline(ctx context.Context, w io.Writer, list []mutation) error {
	passed := map[[2]string]bool{}
	began := time.Now()
	for _, m := range list {
		if passed[[2]string{m.dir, m.tests}] {
			continue
		}
		if err := r.compile(ctx, m.dir); err != nil {
			return err
		}
		o, err := r.run(ctx, m.dir, m.tests, "")
		if err != nil {
			return err
		}
		if !o.passed {
			return fmt.Errorf("%s in %s fails with nothing broken (seed %s):\n%s", m.tests, m.dir, o.seed, o.tail())
		}
		passed[[2]string{m.dir, m.tests}] = true
	}
	fmt.Fprintf(w, "unmutated: %d groups of tests pass, %s\n\n", len(passed), time.Since(began).Round(time.Second))
	return nil
}

// mutations breaks one rule after the other.
func (r *runner) mutations(ctx context.Context, w io.Writer, list []mutation, verbose bool) error {
	wide, caught := len("mutation"), 0
	for _, m := range list {
		wide = max(wide, len(m.name))
	}
	row := fmt.Sprintf("%%-%ds  %%-6s  %%-52s  %%-20s  %%s\n", wide)
	fmt.Fprintf(w, row, "mutation", "rule", "caught by", "seed", "time")
	var missed []string
	for i := range list {
		m := &list[i]
		o, err := r.run(ctx, m.dir, m.tests, m.name)
		if err != nil {
			return err
		}
		by, ok := catch(m, &o)
		if ok {
			caught++
		} else {
			missed = append(missed, fmt.Sprintf("%s: %s", m.name, m.what))
		}
		fmt.Fprintf(w, row, m.name, m.rule(), by, o.seed, o.took.Round(time.Millisecond))
		if verbose {
			fmt.Fprintf(w, "%s\n\n", o.tail())
		}
	}
	for _, m := range missed {
		fmt.Fprintln(w, "not caught:", m)
	}
	fmt.Fprintf(w, "mutations %d, caught %d\n", len(list), caught)
	if len(missed) > 0 {
		return fmt.Errorf("%d mutations are not caught", len(missed))
	}
	return nil
}

// catch says who caught a mutation, or why nobody did.
func catch(m *mutation, o *outcome) (by string, ok bool) {
	by = m.dir + "." + o.by
	switch {
	case o.passed:
		return "NOT CAUGHT: " + m.tests + " passes", false
	case o.late && !m.hangs:
		return "NOT CAUGHT: " + by + " does not end", false
	case o.late:
		return by + " (does not end)", true
	}
	return by, true
}
