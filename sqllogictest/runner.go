package sqllogictest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// dropLimit bounds the removal of a script's database.
const dropLimit = 30 * time.Second

// progressEvery is the time between two calls of Options.Progress.
const progressEvery = 200 * time.Millisecond

// Options say where and how scripts run.
type Options struct {
	// Open gives a pool of connections to the endpoint, in the named database or,
	// for "", in none. The runner closes it.
	Open func(ctx context.Context, database string) (*sql.DB, error)
	// Engines are the names that skipif and onlyif are compared with; none =
	// mysql.
	Engines []string
	// Parallel is the number of scripts that run at a time; 0 = one per CPU.
	Parallel int
	// Timeout bounds one record; 0 = no limit.
	Timeout time.Duration
	// MaxFailures bounds the failures kept in the report, not their count; 0 = 100.
	MaxFailures int
	// Rewrite replaces the expected outcome of every record that ran by what it
	// gave, in the script's own file. Included files are left alone.
	Rewrite bool
	// AllowSystem lets system records run, as shell commands of this process.
	AllowSystem bool
	// Progress, when set, is called from one goroutine a few times a second and
	// once at the end.
	Progress func(Progress)
}

// Progress is how far a run has come.
type Progress struct {
	Files, FilesDone        int
	Passed, Failed, Skipped int64
	// Fraction of the work by size of the scripts, 0 to 1.
	Fraction float64
	Elapsed  time.Duration
}

type runner struct {
	options Options
	prefix  string // of database names, unlike any other run's
	admin   *sql.DB
	started time.Time
	total   int64 // bytes of all scripts
	files   int

	passed, failed, skipped, done atomic.Int64 // done: in bytes
	filesDone                     atomic.Int64

	mu struct {
		sync.Mutex
		report Report
	}
}

// script names a file, its place in the list and its size on disk.
type script struct {
	index int
	path  string
	size  int64
}

// Run runs the scripts and reports. Failed records and malformed scripts are
// part of the report; an error means that nothing could run, or that ctx ended.
// The report is never nil.
func Run(ctx context.Context, files []string, o Options) (*Report, error) {
	r := &runner{options: o, started: time.Now(), files: len(files)}
	if len(r.options.Engines) == 0 {
		r.options.Engines = []string{"mysql"}
	}
	if r.options.Parallel <= 0 {
		r.options.Parallel = runtime.GOMAXPROCS(0)
	}
	r.options.MaxFailures = firstNonZero(o.MaxFailures, 100)
	r.mu.report.Started = r.started
	err := r.run(ctx, files)
	report := &r.mu.report
	report.Elapsed = time.Since(r.started)
	slices.SortFunc(report.Files, func(a, b FileResult) int { return a.index - b.index })
	return report, err
}

func (r *runner) run(ctx context.Context, files []string) error {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("name databases: %w", err)
	}
	r.prefix = "slt_" + hex.EncodeToString(random[:])
	admin, err := r.options.Open(ctx, "")
	if err != nil {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	defer admin.Close()
	if err := admin.PingContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	r.admin = admin
	queue := r.queue(files)
	stop := r.watch()
	defer stop()
	var workers sync.WaitGroup
	for range r.options.Parallel {
		workers.Go(func() {
			for s := range queue {
				r.file(ctx, s)
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// queue orders scripts by size, largest first, so that the workers end together.
func (r *runner) queue(files []string) <-chan script {
	scripts := make([]script, len(files))
	for i, path := range files {
		scripts[i] = script{index: i, path: path, size: 1}
		if info, err := os.Stat(path); err == nil {
			scripts[i].size += info.Size()
		}
		r.total += scripts[i].size
	}
	slices.SortStableFunc(scripts, func(a, b script) int { return int(b.size - a.size) })
	queue := make(chan script, len(scripts))
	for _, s := range scripts {
		queue <- s
	}
	close(queue)
	return queue
}

// watch calls Progress until the returned function is called.
func (r *runner) watch() (stop func()) {
	if r.options.Progress == nil {
		return func() {}
	}
	ticker := time.NewTicker(progressEvery)
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-ticker.C:
				r.options.Progress(r.progress())
			case <-ended:
				r.options.Progress(r.progress())
				return
			}
		}
	})
	return func() {
		ticker.Stop()
		close(ended)
		watcher.Wait()
	}
}

func (r *runner) progress() Progress {
	p := Progress{
		Files: r.files, FilesDone: int(r.filesDone.Load()),
		Passed: r.passed.Load(), Failed: r.failed.Load(), Skipped: r.skipped.Load(),
		Elapsed: time.Since(r.started),
	}
	if r.total > 0 {
		p.Fraction = float64(r.done.Load()) / float64(r.total)
	}
	return p
}

// file runs one script from reading it to dropping its database.
func (r *runner) file(ctx context.Context, s script) {
	if ctx.Err() != nil {
		return
	}
	result := FileResult{Path: s.path, Folder: filepath.Dir(s.path), index: s.index}
	start := time.Now()
	parsed, err := Load(s.path)
	if err == nil {
		err = r.inDatabase(ctx, s, func(session *session) error {
			return r.records(ctx, s, session, parsed, &result)
		})
	}
	if err != nil && ctx.Err() == nil {
		result.Error = err.Error()
		result.Failed++
		r.failed.Add(1)
	}
	result.Elapsed = time.Since(start)
	r.filesDone.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.report.add(result)
}

func (r *runner) inDatabase(ctx context.Context, s script, do func(*session) error) (err error) {
	name := fmt.Sprintf("%s_%d", r.prefix, s.index)
	if _, err := r.admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return fmt.Errorf("create the script's database: %w", err)
	}
	defer func() {
		// The database goes even when the run was interrupted.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
		defer cancel()
		if _, dropErr := r.admin.ExecContext(limited, "DROP DATABASE "+name); dropErr != nil && err == nil {
			err = fmt.Errorf("drop the script's database: %w", dropErr)
		}
	}()
	db, err := r.options.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	defer db.Close()
	session := newSession(&r.options, db, name)
	defer session.close()
	return do(session)
}

// records runs a script's records in order, up to the end or a halt.
func (r *runner) records(ctx context.Context, s script, session *session, parsed *Script, result *FileResult) error {
	var edits []edit
	counted := int64(0)
	defer func() { r.done.Add(s.size - counted) }()
	for i := range parsed.Records {
		record := &parsed.Records[i]
		counted = r.advance(s, counted, i, len(parsed.Records))
		if !record.Applies(r.options.Engines) {
			if record.counts() {
				result.Skipped++
				r.skipped.Add(1)
			}
			continue
		}
		if record.Kind == Halt {
			break
		}
		o, err := session.perform(ctx, record)
		if err != nil {
			return r.abandon(record, parsed.Records[i+1:], err, result)
		}
		if r.options.Rewrite && o.failed() && record.Position.From == nil {
			if e, ok := session.edit(record, o); ok {
				edits = append(edits, e)
			}
		}
		r.record(session, record, o, result)
	}
	if len(edits) == 0 {
		return nil
	}
	return rewrite(s.path, edits)
}

// advance adds to the bytes done what this record's place in the file says.
func (r *runner) advance(s script, counted int64, i, n int) int64 {
	now := s.size * int64(i) / int64(n)
	r.done.Add(now - counted)
	return now
}

// counts reports whether the record appears in the totals.
func (r *Record) counts() bool {
	return r.Kind == Statement || r.Kind == Query || r.Kind == System || r.Kind == Let
}

func (r *runner) record(session *session, record *Record, o outcome, result *FileResult) {
	if !o.failed() {
		if record.counts() {
			result.Passed++
			r.passed.Add(1)
		}
		return
	}
	result.Failed++
	r.failed.Add(1)
	if len(result.Failures) < r.options.MaxFailures {
		result.Failures = append(result.Failures, Failure{
			At: record.Position.String(), Subtest: session.subtest, SQL: record.SQL,
			Reason: o.reason, Want: o.want, Got: o.got,
		})
	}
}

// abandon ends a script at a record that could not run. Those behind it that
// would have run count as failed: an endpoint that dies must not look better
// than one that answers wrongly.
func (r *runner) abandon(at *Record, rest []Record, err error, result *FileResult) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	for i := range rest {
		if rest[i].counts() && rest[i].Applies(r.options.Engines) {
			result.Failed++
			r.failed.Add(1)
		}
	}
	return fmt.Errorf("%s: %w; the records behind it did not run", at.Position, err)
}
