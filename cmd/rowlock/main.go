// Command rowlock is the database server, its SQL client and its test runner in
// one binary.
//
//	rowlock start          run a server
//	rowlock demo           try a cluster in one process
//	rowlock node           look after the nodes of a cluster
//	rowlock cert           make the certificates of a cluster
//	rowlock sql            talk to one
//	rowlock sqllogictest   run SQL test scripts
//	rowlock version        say what this is
//
// Every error is one sentence on standard error and a non-zero exit code.
package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rowlockdb/rowlock"
)

// Exit codes.
const (
	exitFailed = 1 // the command ran and something in it failed
	exitUsage  = 2 // wrong flags, configuration or environment

	// Why a server stopped by itself; see docs/operations.md.
	exitDisk    = 3 // a write or an fsync failed
	exitFull    = 4 // the disk is full
	exitCorrupt = 5 // stored data is damaged
	exitRefused = 6 // the cluster does not take the node, or has removed it
)

// errFailed ends the program with exitFailed and says nothing more: what failed
// has been printed.
var errFailed = errors.New("failed")

func main() {
	if len(os.Args) > 1 && os.Args[1] == "start" {
		widenTimerSlack() // before there is anything to lose
	}
	command := rootCommand()
	command.SetArgs(clientArguments(os.Args[1:]))
	if err := command.Execute(); err != nil {
		os.Exit(report(err))
	}
}

// report prints an error and chooses the exit code.
func report(err error) int {
	if errors.Is(err, errFailed) {
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "rowlock:", explain(err))
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, rowlock.ErrDiskFull), errors.Is(err, syscall.ENOSPC):
		return exitFull
	case errors.Is(err, rowlock.ErrDisk):
		return exitDisk
	case errors.Is(err, rowlock.ErrCorrupt):
		return exitCorrupt
	case errors.Is(err, rowlock.ErrRefused), errors.Is(err, rowlock.ErrRemoved):
		return exitRefused
	}
	return exitFailed
}

// usageError is a mistake in flags, configuration files or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "rowlock",
		Short:         "A distributed SQL database that speaks the MySQL protocol",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see '%s --help'", err, c.CommandPath())
	})
	root.AddCommand(startCommand(), demoCommand(), nodeCommand(), certCommand(), sqlCommand(), sqllogictestCommand(), versionCommand())
	return root
}
