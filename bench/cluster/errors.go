package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// class is what a client makes of an error.
type class string

// The classes that docs/operations.md tells clients about.
const (
	classFine       class = "fine"
	classConnection class = "connection lost"        // 2003, 2006, 2013: connect again, anywhere
	classGaveUp     class = "client gave up waiting" // its own timeout
	classDeadlock   class = "1213 rolled back"
	classLockWait   class = "1205 lock wait timeout"
	classUnknown    class = "1180 unknown outcome"
	classNoMajority class = "1030 shard unavailable"
	classShutdown   class = "1053 server is stopping"
	classFull       class = "1021 disk full"
	classOther      class = "other"
)

var numbers = map[uint16]class{
	1213: classDeadlock, 1205: classLockWait, 1180: classUnknown, 1030: classNoMajority, 1053: classShutdown, 1021: classFull,
	2003: classConnection, 2006: classConnection, 2013: classConnection,
}

func classify(err error) class {
	var server *mysql.MySQLError
	var network net.Error
	switch {
	case err == nil:
		return classFine
	case errors.As(err, &server):
		if c, ok := numbers[server.Number]; ok {
			return c
		}
		return classOther
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return classGaveUp
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return classConnection
	}
	return classOther
}

// lost tells whether the connection is of no more use.
func (c class) lost() bool {
	return c == classConnection || c == classGaveUp || c == classUnknown || c == classShutdown
}

// tally counts errors by class and keeps the texts of the others.
type tally struct {
	mu     sync.Mutex
	counts map[class]int
	others map[string]int
}

func newTally() *tally { return &tally{counts: map[class]int{}, others: map[string]int{}} }

func (t *tally) add(err error) class {
	c := classify(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[c]++
	if c == classOther && (len(t.others) < 20 || t.others[err.Error()] > 0) {
		t.others[err.Error()]++
	}
	return c
}

// strange lists the errors that no document tells clients about.
func (t *tally) strange() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for text, n := range t.others {
		list = append(list, fmt.Sprintf("%d × %s", n, text))
	}
	return list
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, c := range []class{classConnection, classGaveUp, classDeadlock, classLockWait, classUnknown, classNoMajority, classShutdown, classFull, classOther} {
		if n := t.counts[c]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, c))
		}
	}
	if len(parts) == 0 {
		return "no errors"
	}
	return strings.Join(parts, ", ")
}
