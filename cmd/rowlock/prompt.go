package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/reeflective/readline"
)

const promptHelp = `Statements end with ';', or with \G for a line per value.
  help, \h        this text
  source FILE     run the statements of a file
  use NAME        change the database
  quit, exit, \q  leave (or Ctrl-D)
Ctrl-C stops the statement that runs, or clears the line.
`

// prompt reads statements from the terminal until the user leaves. An error of a
// statement is shown and does not end it.
func (c *client) prompt() error {
	fmt.Fprintf(c.out, "Connected to %s:%d, server %s. Type help for help.\n", c.config.host, c.config.port, c.server)
	shell := readline.NewShell()
	shell.Prompt.Primary(func() string { return c.promptText() + "> " })
	shell.Prompt.Secondary(func() string { return strings.Repeat(" ", len(c.promptText())-1) + "-> " })
	shell.AcceptMultiline = func(line []rune) bool {
		text := string(line)
		return isCommand(text) || complete(text)
	}
	if home, err := os.UserHomeDir(); err == nil {
		if history, err := openHistory(filepath.Join(home, ".rowlock_history")); err == nil {
			shell.History.Add("statements", history)
		}
	}
	for {
		line, err := shell.Readline()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, readline.ErrInterrupt):
			continue
		case err != nil:
			return fmt.Errorf("read the terminal: %w", err)
		}
		if c.typed(line) {
			return nil
		}
	}
}

func (c *client) promptText() string {
	if c.database == "" {
		return "rowlock"
	}
	return "rowlock " + c.database
}

// discreet is a history that does not keep statements with passwords in them.
type discreet struct{ readline.History }

// openHistory opens a history file, and makes it, for its owner only, when there
// is none.
func openHistory(path string) (readline.History, error) {
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	history, err := readline.NewHistoryFromFile(path)
	return discreet{history}, err
}

// Write implements readline.History.
func (d discreet) Write(line string) (int, error) {
	if capitals := strings.ToUpper(line); strings.Contains(capitals, "IDENTIFIED") || strings.Contains(capitals, "PASSWORD") {
		return d.Len(), nil
	}
	return d.History.Write(line)
}

// isCommand reports whether a line is for the prompt, not for the server.
func isCommand(line string) bool {
	words := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ";"))
	if len(words) == 0 {
		return true
	}
	if strings.HasPrefix(words[0], `\`) {
		return true // known or not: no statement begins so
	}
	switch strings.ToLower(words[0]) {
	case "quit", "exit", `\q`, "help", `\h`, `\?`, "?":
		return len(words) == 1
	case "source", `\.`, "use":
		return len(words) == 2
	}
	return false
}

// typed handles what was entered and reports whether to leave.
func (c *client) typed(line string) (leave bool) {
	if !isCommand(line) {
		s := newSplitter(strings.NewReader(line))
		for {
			next, err := s.next()
			if err != nil {
				return false
			}
			c.interruptible(next)
		}
	}
	words := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ";"))
	if len(words) == 0 {
		return false
	}
	if isDemoCommand(words) {
		c.toDemo(words)
		return false
	}
	switch strings.ToLower(words[0]) {
	case "quit", "exit", `\q`:
		return true
	case "help", `\h`, `\?`, "?":
		fmt.Fprint(c.out, promptHelp)
		if c.demo != nil {
			fmt.Fprint(c.out, demoHelp)
		}
	case "use":
		c.interruptible(statement{text: "USE " + quoteName(strings.Trim(words[1], "`"))})
	case "source", `\.`:
		if len(words) == 2 {
			c.source(words[1])
		}
	default:
		fmt.Fprintf(c.errors, "ERROR %s is no command, or wants other arguments; type help\n", words[0])
	}
	return false
}

// toDemo hands a line to the demo, and finds another node when this one is gone.
func (c *client) toDemo(words []string) {
	if c.demo == nil {
		fmt.Fprintln(c.errors, "ERROR", words[0], "is a command of 'rowlock demo'")
		return
	}
	changed, err := c.demo.do(words)
	if err != nil {
		fmt.Fprintln(c.errors, "ERROR", err)
	}
	if !changed || c.conn.PingContext(context.Background()) == nil {
		return
	}
	next, err := c.demo.connect()
	if err != nil {
		fmt.Fprintln(c.errors, "ERROR", err)
		return
	}
	next.demo, next.database = c.demo, ""
	c.close()
	*c = *next
	fmt.Fprintf(c.errors, "Connected to 127.0.0.1:%d now.\n", c.config.port)
}

func (c *client) source(path string) {
	f, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(c.errors, "ERROR", err)
		return
	}
	defer f.Close()
	if err := c.script(f); err != nil && !errors.Is(err, errFailed) {
		fmt.Fprintln(c.errors, "ERROR", err)
	}
}

// interruptible runs a statement that Ctrl-C stops. Stopping it ends the
// connection, which makes the server roll back; a new one takes its place.
func (c *client) interruptible(s statement) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c.run(ctx, s)
	if err := c.conn.PingContext(context.Background()); err == nil {
		return
	}
	c.conn.Close()
	limited, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	if err := c.reconnect(limited); err != nil {
		fmt.Fprintln(c.errors, "ERROR the connection was lost:", err)
		return
	}
	fmt.Fprintln(c.errors, "The connection was lost and made again; an open transaction was rolled back.")
}
