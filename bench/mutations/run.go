package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// runner builds test binaries and runs them.
type runner struct {
	root, work string
	limit      time.Duration // of one run
	binaries   map[string]string
}

// compile builds the tests of a package, once, with mutations in them.
func (r *runner) compile(ctx context.Context, dir string) error {
	if r.binaries[dir] != "" {
		return nil
	}
	binary := filepath.Join(r.work, strings.ReplaceAll(dir, "/", "_")+".test")
	c := exec.CommandContext(ctx, "go", "test", "-c", "-buildvcs=false", "-tags", "gms_pure_go,mutation", "-o", binary, "./"+dir)
	c.Dir = r.root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests of %s: %w\n%s", dir, err, out)
	}
	r.binaries[dir] = binary
	return nil
}

// outcome is what one run of tests came to.
type outcome struct {
	passed bool
	late   bool   // the run was ended because it took too long
	by     string // the test that failed, if it can be told
	seed   string // the last seed printed before that, "-" if none was
	took   time.Duration
	output []byte
}

// run runs tests of a package with a mutation, or with none.
func (r *runner) run(ctx context.Context, dir, tests, mutation string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit+30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, r.binaries[dir], "-test.run", tests, "-test.v", "-test.count=1", "-test.failfast", "-test.timeout", r.limit.String())
	c.Dir = filepath.Join(r.root, dir)
	c.Env = append(os.Environ(), "ROWLOCK_MUTATION="+mutation)
	if os.Getenv("ROWLOCK_SEED") == "" { // a mutation is to be found by any seed, not by the one of `make test`
		c.Env = append(c.Env, fmt.Sprintf("ROWLOCK_SEED=%d", time.Now().UnixNano()))
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	began := time.Now()
	err := c.Run()
	o := judge(out.Bytes(), err == nil)
	o.took = time.Since(began)
	o.late = o.late || ctx.Err() != nil
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return o, fmt.Errorf("run the tests of %s: %w", dir, err)
	}
	if !bytes.Contains(o.output, []byte("=== RUN")) {
		return o, fmt.Errorf("no test of %s matches %s", dir, tests)
	}
	return o, nil
}

var (
	failed  = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	running = regexp.MustCompile(`(?m)^=== (?:RUN|CONT|NAME) +(\S+)`)
	seeds   = regexp.MustCompile(`\bseed[ =:]+(\d+)`)
)

// judge reads the output of a test binary that ran with -test.v.
func judge(out []byte, passed bool) outcome {
	o := outcome{passed: passed, seed: "-", output: out, late: bytes.Contains(out, []byte("panic: test timed out after"))}
	end := len(out)
	if m := failed.FindSubmatchIndex(out); m != nil {
		end, o.by = m[0], string(out[m[2]:m[3]])
	} else if i := bytes.Index(out, []byte("panic: ")); i >= 0 {
		end = i
	}
	begin := 0
	if m := running.FindAllSubmatchIndex(out[:end], -1); m != nil {
		if o.by == "" { // a panic, or a run that was ended
			o.by, _, _ = strings.Cut(string(out[m[len(m)-1][2]:m[len(m)-1][3]]), "/")
		}
		// The seeds before the failing test began are another test's.
		for i := range m {
			if string(out[m[i][2]:m[i][3]]) == o.by {
				begin = m[i][0]
				break
			}
		}
	}
	if m := seeds.FindAllSubmatch(out[begin:end], -1); m != nil {
		o.seed = string(m[len(m)-1][1])
	}
	return o
}

// tail is the end of an output, for messages.
func (o *outcome) tail() []byte {
	const keep = 4000
	return o.output[max(0, len(o.output)-keep):]
}
