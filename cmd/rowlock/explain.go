package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock"
)

// explain turns an error into one sentence that says what to do, where that is
// known; the rest of the chain stays in the log file.
func explain(err error) string {
	var server *mysql.MySQLError
	switch {
	case errors.As(err, &server):
		return server.Error()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("%s is in use by another program; choose another address with --listen", address(err))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("%s is not an address of this machine", address(err))
	case errors.Is(err, rowlock.ErrLocked):
		return fmt.Sprintf("%s; is a server running there already?", line(err))
	case errors.Is(err, rowlock.ErrFormat):
		return fmt.Sprintf("this release cannot use the data directory: %s", line(err))
	case errors.Is(err, rowlock.ErrRemoved):
		return fmt.Sprintf("%s; its directory is of no use any more, start on an empty one to join as a new node", line(err))
	case errors.Is(err, rowlock.ErrDiskFull):
		return fmt.Sprintf("the server has stopped: %s; free some space and start it again", line(err))
	case errors.Is(err, rowlock.ErrDisk):
		return fmt.Sprintf("the server has stopped: %s; what was acknowledged is safe, look after the disk before the next start", line(err))
	case errors.Is(err, rowlock.ErrCorrupt):
		return fmt.Sprintf("stored data is damaged: %s", line(err))
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Sprintf("the disk is full: %s", line(err))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("no permission to write: %s", line(err))
	}
	return line(err)
}

// line is the error's text on one line.
func line(err error) string {
	return strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "rowlock: ")
}

// address cuts the address out of a listen error's text.
func address(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "listen tcp "); ok {
		if at := strings.Index(rest, ": "); at > 0 {
			return rest[:at]
		}
	}
	return "the address"
}
