package locks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScripts plays testdata/*: transcripts of who is granted what and who waits for whom. Time is
// virtual, and a line is finished when every goroutine is blocked.
//
//	T1 a X k            T1 asks table a for X on the key k
//	T1 a S [c,f) k      ... for S on an interval and a key, in this order
//	                    then, in any order: nowait, skip, weight=3, timeout=50s
//	T1 cancel           ends T1's contexts
//	T1 release [a]      releases T1 in one or all tables; force does so though it is pinned
//	T1 pin a, T1 unpin a
//	T1 unlock a k       releases one span
//	T1 holds a X k
//	drop a T1 T2        DropUnpinned
//	break a T1          Break of T1's first wait
//	clear a, sleep 3s, waits, locks, deadlocks
//
// The output repeats each line with its answer; what happens to others because of it is indented.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		if filepath.Base(file) == "fuzz" || filepath.Base(file) == "rapid" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &player{
					graph: NewWaitGraph(), tables: map[string]*Table{},
					cancels: map[string][]context.CancelFunc{}, events: make(chan string, 100),
				}
				datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string { return p.play(t, d) })
				p.finish(t)
			})
		})
	}
}

// player runs one script.
type player struct {
	graph   *WaitGraph
	tables  map[string]*Table
	cancels map[string][]context.CancelFunc
	events  chan string
	out     strings.Builder
}

func (p *player) play(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "new" { // forget everything
		p.finish(t)
		return ""
	}
	p.out.Reset()
	for _, line := range strings.Split(d.Input, "\n") {
		answer := p.line(t, strings.Fields(line))
		synctest.Wait()
		p.report(line, answer)
		for name, table := range p.tables {
			if err := table.check(); err != nil {
				t.Fatalf("%s: after %q: table %s: %v", d.Pos, line, name, err)
			}
		}
	}
	return p.out.String()
}

// report prints a line, its answer and the other events.
func (p *player) report(line, answer string) {
	var events []string
	for len(p.events) > 0 {
		e := <-p.events
		if own, ok := strings.CutPrefix(e, line+" -> "); ok && answer == "" {
			answer = own
			continue
		}
		events = append(events, "  "+e)
	}
	slices.Sort(events)
	if answer == "" {
		answer = p.waitOf(strings.Fields(line)[0])
	}
	if strings.HasSuffix(answer, "\n") { // a view
		answer = "\n  " + strings.ReplaceAll(strings.TrimSuffix(answer, "\n"), "\n", "\n  ")
	} else {
		answer = " " + answer
	}
	fmt.Fprintf(&p.out, "%s ->%s\n", line, answer)
	for _, e := range events {
		fmt.Fprintln(&p.out, e)
	}
}

// finish releases everybody and looks for leftovers.
func (p *player) finish(t *testing.T) {
	for _, cancels := range p.cancels {
		for _, cancel := range cancels {
			cancel()
		}
	}
	synctest.Wait()
	for name, table := range p.tables {
		for _, o := range table.Owners() {
			table.ForceRelease(o)
		}
		if err := table.checkEmpty(); err != nil {
			t.Errorf("table %s: %v", name, err)
		}
	}
	if n := p.graph.Waiting(); n != 0 {
		t.Errorf("%d owners are left in the wait graph", n)
	}
	for len(p.events) > 0 {
		<-p.events
	}
	p.graph, p.tables = NewWaitGraph(), map[string]*Table{}
}

func (p *player) table(name string) *Table {
	if p.tables[name] == nil {
		p.tables[name] = NewTable(name, p.graph)
	}
	return p.tables[name]
}

func owner(t *testing.T, name string) Owner {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, "T"), 10, 64)
	if err != nil {
		t.Fatalf("transaction %q: %v", name, err)
	}
	return Owner{Start: n}
}

func names(owners []Owner) string {
	var out []string
	for _, o := range owners {
		out = append(out, fmt.Sprintf("T%d", o.Start))
	}
	return strings.Join(out, ",")
}

func parseSpan(s string) Span {
	if !strings.HasPrefix(s, "[") {
		return Span{Lo: []byte(s)}
	}
	lo, hi, _ := strings.Cut(strings.Trim(s, "[)"), ",")
	return Span{Lo: []byte(lo), Hi: []byte(hi)}
}

func showSpan(s Span) string {
	if len(s.Hi) == 0 {
		return string(s.Lo)
	}
	return fmt.Sprintf("[%s,%s)", s.Lo, s.Hi)
}

var modeNames = map[string]Mode{"S": Shared, "X": Exclusive, "GAP": Gap, "INSERT": Insert}

// line runs one line and returns its answer; "" if it comes as an event, or not yet.
func (p *player) line(t *testing.T, f []string) string {
	switch f[0] {
	case "sleep":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
		return "ok"
	case "waits", "locks", "deadlocks":
		return p.view(f[0])
	case "clear":
		p.table(f[1]).Clear()
		return "ok"
	case "drop":
		got := p.table(f[1]).DropUnpinned(func(o Owner) bool { return slices.Contains(f[2:], names([]Owner{o})) })
		return "dropped " + names(got)
	case "break":
		for _, w := range p.table(f[1]).Waits() {
			if w.Owner == owner(t, f[2]) {
				return fmt.Sprint(p.table(f[1]).Break(w.ID, Deadlock{}))
			}
		}
		return fmt.Sprint(p.table(f[1]).Break(0, Deadlock{}))
	}
	return p.txnLine(t, f)
}

func (p *player) txnLine(t *testing.T, f []string) string {
	o := owner(t, f[0])
	switch f[1] {
	case "cancel":
		for _, cancel := range p.cancels[f[0]] {
			cancel()
		}
		p.cancels[f[0]] = nil
		return "ok"
	case "release", "force":
		return p.release(o, f[1] == "force", f[2:])
	case "pin":
		return fmt.Sprint(p.table(f[2]).Pin(o))
	case "unpin":
		p.table(f[2]).Unpin(o)
		return "ok"
	case "unlock":
		p.table(f[2]).ReleaseSpans(o, []Span{parseSpan(f[3])})
		return "ok"
	case "holds":
		return fmt.Sprint(p.table(f[2]).Holds(o, modeNames[f[3]], parseSpan(f[4])))
	}
	p.acquire(t, o, f)
	return ""
}

func (p *player) release(o Owner, force bool, tables []string) string {
	answer := "ok"
	for name, table := range p.tables {
		switch {
		case len(tables) > 0 && !slices.Contains(tables, name):
		case force:
			table.ForceRelease(o)
		case !table.Release(o):
			answer = "pinned"
		}
	}
	return answer
}

func (p *player) acquire(t *testing.T, o Owner, f []string) {
	m, ok := modeNames[f[2]]
	if !ok {
		t.Fatalf("mode %q", f[2])
	}
	r, how := Request{Owner: o, Mode: m, Statement: strings.Join(f, " ")}, WaitBlock
	ctx, cancel := context.WithCancel(context.Background())
	for _, arg := range f[3:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "nowait":
			how = WaitNone
		case "skip":
			how = WaitSkip
		case "weight":
			r.Weight, _ = strconv.Atoi(value)
		case "timeout":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel = context.WithTimeout(ctx, d)
		default:
			r.Spans = append(r.Spans, parseSpan(arg))
		}
	}
	p.cancels[f[0]] = append(p.cancels[f[0]], cancel)
	table := p.table(f[1])
	go func() {
		skipped, err := table.Acquire(ctx, r, how)
		p.events <- r.Statement + " -> " + result(skipped, err)
	}()
}

func result(skipped []int, err error) string {
	var e *Error
	switch {
	case err == nil && len(skipped) > 0:
		return fmt.Sprintf("granted but %d", skipped)
	case err == nil:
		return "granted"
	case !errors.As(err, &e):
		return "unexpected: " + err.Error()
	}
	for _, known := range []error{ErrDeadlock, ErrWouldBlock, ErrTimeout, ErrDropped, context.Canceled} {
		if errors.Is(err, known) {
			return strings.ToUpper(known.Error()) + " at " + showSpan(e.Span)
		}
	}
	return "unexpected: " + err.Error()
}

func (p *player) sortedTables() (out []*Table) {
	for _, t := range p.tables {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Table) int { return strings.Compare(a.name, b.name) })
	return out
}

// waitOf shows what a transaction waits for.
func (p *player) waitOf(txn string) string {
	var out []string
	for _, t := range p.sortedTables() {
		for _, w := range t.Waits() {
			if names([]Owner{w.Owner}) == txn {
				out = append(out, fmt.Sprintf("waits for %s", names(w.Blockers)))
			}
		}
	}
	return strings.Join(out, " and ")
}

func (p *player) view(what string) string {
	var b strings.Builder
	if what == "deadlocks" {
		ds, _ := p.graph.Deadlocks()
		for _, d := range ds {
			fmt.Fprintf(&b, "%d: victim %s\n", d.Number, names([]Owner{d.Victim}))
			for _, w := range d.Members {
				fmt.Fprintf(&b, "   %s  weight %d, for %s\n", w.Statement, w.Weight, names(w.Blockers))
			}
		}
	}
	for _, t := range p.sortedTables() {
		switch what {
		case "waits":
			for _, w := range t.Waits() {
				fmt.Fprintf(&b, "%s %s %s %s for %s since %s\n", names([]Owner{w.Owner}), w.Table, w.Mode, showSpan(w.Span), names(w.Blockers),
					w.Since.UTC().Format("15:04:05"))
			}
		case "locks":
			for _, l := range t.All() {
				fmt.Fprintf(&b, "%s %s %s %s%s\n", names([]Owner{l.Owner}), l.Table, l.Mode, showSpan(l.Span), map[bool]string{true: " pinned"}[l.Pinned])
			}
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}
