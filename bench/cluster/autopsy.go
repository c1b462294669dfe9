package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// dissect says what the nodes believe and do after a result that is wrong, which
// ends them. Without a directory for it nothing happens.
func (p *program) dissect(ctx context.Context) {
	if p.autopsy == "" {
		return
	}
	for _, n := range p.cluster.Nodes {
		if !n.Running() {
			continue
		}
		p.believes(ctx, n)
		p.quote(n, n.Log(), warnings)
	}
	if err := p.cluster.Autopsy(p.autopsy); err != nil {
		p.logf("%v", err)
	}
	for _, n := range p.cluster.Nodes {
		p.quote(n, filepath.Join(p.autopsy, n.Name()+".log"), ownerStacks)
	}
}

// quote prints what is telling in a file.
func (p *program) quote(n *process.Node, path string, telling func(string) []string) {
	said, err := os.ReadFile(path)
	if err != nil {
		return // there is nothing to quote
	}
	for _, line := range telling(string(said)) {
		p.logf("node %d: %s", n.ID, line)
	}
}

// believes prints a node's own view of shards and replicas.
func (p *program) believes(ctx context.Context, n *process.Node) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	db, err := process.Open(n.SQL(), "")
	if err != nil {
		return
	}
	defer db.Close()
	for _, query := range []string{
		"SELECT CONCAT_WS(' ', 'shard', shard, 'owner', owner, 'epoch', epoch, state, 'applied', applied) FROM rowlock.shards",
		"SELECT CONCAT_WS(' ', 'shard', shard, 'node', node, role, 'applied', applied) FROM rowlock.replicas",
	} {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			p.logf("node %d: %v", n.ID, err)
			continue
		}
		for rows.Next() {
			var line string
			if rows.Scan(&line) == nil {
				p.logf("node %d: %s", n.ID, line)
			}
		}
		rows.Close()
	}
}

// lastWords bounds what is printed of what a server said.
const lastWords = 12

var (
	stack    = regexp.MustCompile(`(?m)^goroutine \d+ `)
	takeOver = regexp.MustCompile(`(?i)\.(takeOver|HandOver|Reclaim|BecomeOwner|Own|seat|step|processSteps|Apply)\(`)
)

// warnings are the last in a server's log.
func warnings(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines[max(0, len(lines)-lastWords):]
}

// ownerStacks are the goroutines that have to do with owners.
func ownerStacks(said string) []string {
	at := stack.FindStringIndex(said)
	if at == nil {
		return nil
	}
	var lines []string
	for _, one := range strings.Split(said[at[0]:], "\n\n") {
		if takeOver.MatchString(one) {
			lines = append(lines, functions(one))
		}
	}
	return lines
}

// functions are the innermost functions of a stack.
func functions(one string) string {
	var names []string
	for line := range strings.Lines(one) {
		if strings.HasPrefix(line, "\t") || len(names) > lastWords {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSpace(line), "(0x")
		names = append(names, name[strings.LastIndex(name, "/")+1:])
	}
	return strings.Join(names, " < ")
}
