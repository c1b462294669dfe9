// Command layers runs the Go benchmarks of all packages, of this tree and of
// another commit in turn, and compares them with benchstat.
//
//	go run ./bench/layers -base HEAD~1
//	go run ./bench/layers -packages ./storage,./locks -bench 'Get|Uncontended' -count 10
//
// Without -base it is the last commit if there are changes that are not committed,
// and the one before otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

type settings struct {
	base, bench, time, tags string
	packages                []string
	count                   int
	out                     string
}

func main() {
	var s settings
	flag.StringVar(&s.base, "base", "", "commit to compare with")
	flag.StringVar(&s.bench, "bench", ".", "benchmarks to run")
	flag.StringVar(&s.time, "benchtime", "200ms", "length of each")
	flag.IntVar(&s.count, "count", 6, "rounds; benchstat wants six to say anything")
	flag.StringVar(&s.tags, "tags", "gms_pure_go", "build tags")
	flag.StringVar(&s.out, "out", "", "directory to leave the results in")
	packages := flag.String("packages", "", "packages as ./a/b, separated by commas; all with benchmarks by default")
	flag.Parse()
	if *packages != "" {
		s.packages = strings.Split(*packages, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "layers:", err)
		os.Exit(1)
	}
}

// side is a tree whose benchmarks run.
type side struct {
	name string
	root string // of the tree
	bin  string // where its test programs are
	file string // that takes the results
}

func run(ctx context.Context, s settings) (err error) {
	root, err := output(ctx, "", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if s.base == "" {
		if s.base, err = lastCommit(ctx); err != nil {
			return err
		}
	}
	temporary, err := os.MkdirTemp("", "layers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if s.out == "" {
		s.out = temporary
	}
	old := filepath.Join(temporary, "tree")
	if _, err := output(ctx, root, "git", "worktree", "add", "--detach", old, s.base); err != nil {
		return err
	}
	defer func() {
		_, failed := output(context.WithoutCancel(ctx), root, "git", "worktree", "remove", "--force", old)
		err = errors.Join(err, failed)
	}()
	sides := []side{
		{"before", old, filepath.Join(temporary, "before"), filepath.Join(s.out, "before.txt")},
		{"now", root, filepath.Join(temporary, "now"), filepath.Join(s.out, "now.txt")},
	}
	packages := make([][]string, len(sides))
	for i, one := range sides {
		if packages[i], err = s.build(ctx, one); err != nil {
			return err
		}
	}
	if err := s.measure(ctx, sides, packages); err != nil {
		return err
	}
	return compare(ctx, filepath.Join(root, "tools"), sides)
}

// lastCommit is the one that the tree has changes of, or the one before.
func lastCommit(ctx context.Context) (string, error) {
	changes, err := output(ctx, "", "git", "status", "--porcelain")
	if changes != "" {
		return "HEAD", err
	}
	return "HEAD~1", err
}

// build makes the test programs of a tree and returns its packages. Packages that
// it does not have are left out.
func (s settings) build(ctx context.Context, one side) ([]string, error) {
	packages := s.packages
	if len(packages) == 0 {
		files, err := output(ctx, one.root, "git", "grep", "-l", "--untracked", "^func Benchmark", "--", "*_test.go")
		if err != nil {
			return nil, err
		}
		packages = directories(files)
	}
	packages = slices.DeleteFunc(slices.Clone(packages), func(p string) bool {
		_, err := os.Stat(filepath.Join(one.root, p))
		return err != nil
	})
	for _, p := range packages {
		// Without paths in the programs, what both trees share is compiled once.
		_, err := output(ctx, one.root, "go", "test", "-c", "-trimpath", "-buildvcs=false", "-tags", s.tags, "-o", program(one, p), p)
		if err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// directories of files as go writes packages, each once.
func directories(files string) []string {
	var all []string
	for file := range strings.FieldsSeq(files) {
		all = append(all, "./"+filepath.ToSlash(filepath.Dir(file)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func program(one side, p string) string {
	return filepath.Join(one.bin, strings.ReplaceAll(strings.TrimPrefix(p, "./"), "/", "_")+".test")
}

// measure runs each package of both sides in turn, round after round; the side
// that comes first changes.
func (s settings) measure(ctx context.Context, sides []side, packages [][]string) error {
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(packages...))))
	for round := range s.count {
		for _, p := range all {
			for i := range sides {
				i = (i + round) % len(sides)
				if !slices.Contains(packages[i], p) {
					continue
				}
				if err := s.once(ctx, sides[i], p); err != nil {
					return fmt.Errorf("%s, %s: %w", p, sides[i].name, err)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, s.count)
	}
	return nil
}

// once runs the benchmarks of a package and appends what they print.
func (s settings) once(ctx context.Context, one side, p string) error {
	f, err := os.OpenFile(one.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	c := exec.CommandContext(ctx, program(one, p), "-test.run=^$", "-test.bench="+s.bench, "-test.benchtime="+s.time, "-test.benchmem")
	c.Dir = filepath.Join(one.root, p)
	c.Stdout, c.Stderr = f, os.Stderr
	return c.Run()
}

// compare has benchstat print both sides; its version is pinned in tools/go.mod.
// Benchmarks that print no results leave nothing to compare.
func compare(ctx context.Context, tools string, sides []side) error {
	args := []string{"tool", "benchstat"}
	for _, one := range sides {
		if _, err := os.Stat(one.file); err == nil {
			args = append(args, one.name+"="+one.file)
		}
	}
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Stdout, c.Stderr = tools, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "GOFLAGS=") // the tags and flags of the build are not the tool's
	if err := c.Run(); err != nil {
		return fmt.Errorf("benchstat: %w", errors.Join(err, show(sides)))
	}
	return nil
}

// show prints the results as they are, for whoever has no benchstat.
func show(sides []side) error {
	for _, one := range sides {
		f, err := os.Open(one.file)
		if err != nil {
			return err
		}
		fmt.Println("==", one.name)
		io.Copy(os.Stdout, f)
		f.Close()
	}
	return nil
}

// output runs a command and returns what it printed, without the end of the line.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	var complaints strings.Builder
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
