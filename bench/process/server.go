// Package process runs the real server binary for the programs beside it.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// Server is a running `rowlock start`.
type Server struct {
	Address string        // that clients connect to
	Ready   time.Duration // from the start of the process to its ready line

	command   *exec.Cmd
	temporary string        // data directory that goes with the process; empty: none
	errors    *bytes.Buffer // standard error; read it after ended
	ended     chan struct{} // closed when the process is gone
}

// PID is the server's process id.
func (s *Server) PID() int { return s.command.Process.Pid }

var readyLine = regexp.MustCompile(`ready for connections on (\S+)`)

// Start runs the binary with "start" and the arguments, and returns when the
// server has said that it is ready.
func Start(ctx context.Context, binary string, args ...string) (*Server, error) {
	return StartWith(ctx, nil, binary, args...)
}

// StartWith is Start with further variables, "name=value", in the environment.
func StartWith(ctx context.Context, environment []string, binary string, args ...string) (*Server, error) {
	return StartBehind(ctx, nil, environment, binary, args...)
}

// StartBehind is StartWith with a command in front, such as "ip netns exec NAME",
// that must turn into the server and not start it beside itself: pause and kill
// go to its process id.
func StartBehind(ctx context.Context, front, environment []string, binary string, args ...string) (*Server, error) {
	words := append(append(slices.Clone(front), binary, "start"), args...)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	// Many servers share a disk here; who wants a reserve says so.
	command.Env = slices.Concat([]string{"ROWLOCK_RESERVE=0"}, os.Environ(), environment)
	s := &Server{command: command, errors: &bytes.Buffer{}, ended: make(chan struct{})}
	command.Stderr = s.errors
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	begun := time.Now()
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		command.Process.Kill()
		command.Wait()
		return nil, fmt.Errorf("the server did not get ready: %q, %v, %s", line, err, s.errors)
	}
	s.Address, s.Ready = m[1], time.Since(begun)
	go func() {
		io.Copy(io.Discard, reader)
		s.command.Wait() // what it says is in ProcessState
		close(s.ended)
	}()
	return s, nil
}

// Ended is closed when the process is gone.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Pause stops the process where it is, until Resume.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(what syscall.Signal) error {
	if err := s.command.Process.Signal(what); err != nil {
		return fmt.Errorf("send %v to the server: %w", what, err)
	}
	return nil
}

// StartTemporary starts the binary on a data directory of its own, which Kill and
// Stop remove, and a port of the system's choice. The name is part of the
// directory's; more arguments follow.
func StartTemporary(ctx context.Context, binary, name string, args ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "rowlock-"+name+"-")
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s, err := Start(ctx, binary, append([]string{"--data", dir, "--listen", "127.0.0.1:0"}, args...)...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s.temporary = dir
	return s, nil
}

// Kill ends the process as a crash would, and waits until it is gone.
func (s *Server) Kill() error {
	defer os.RemoveAll(s.temporary)
	if err := s.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill server: %w", err)
	}
	<-s.ended
	return nil
}

// Wait waits until the process has ended by itself and returns its exit code.
func (s *Server) Wait() int {
	<-s.ended
	return s.command.ProcessState.ExitCode()
}

// Said is what the process wrote to standard error. Only after Ended.
func (s *Server) Said() string { return s.errors.String() }

// Stop asks the server to end and waits for it.
func (s *Server) Stop() error {
	defer os.RemoveAll(s.temporary)
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop server: %w", err)
	}
	if code := s.Wait(); code != 0 {
		return fmt.Errorf("stop server: exit code %d: %s", code, s.errors)
	}
	return nil
}
