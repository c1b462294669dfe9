package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// quitPatience is how long a server has to write its stacks down.
const quitPatience = 10 * time.Second

// Autopsy ends every node that runs and leaves in dir, a file a node, its log and
// what it said on standard error, with the stacks of its goroutines at the end.
func (c *Cluster) Autopsy(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("autopsy: %w", err)
	}
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.autopsy(filepath.Join(dir, n.Name()+".log")))
	}
	return errors.Join(errs...)
}

// Log is the file to which the node writes its log.
func (n *Node) Log() string { return filepath.Join(n.Dir, "server.log") }

func (n *Node) autopsy(path string) error {
	s := n.Server()
	if s == nil {
		return nil
	}
	if err := s.signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("autopsy of node %d: %w", n.ID, err)
	}
	select {
	case <-s.Ended():
	case <-time.After(quitPatience): // paused, or a tool holds it
		if err := s.Kill(); err != nil {
			return fmt.Errorf("autopsy of node %d: %w", n.ID, err)
		}
	}
	log, err := os.ReadFile(n.Log())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("autopsy of node %d: %w", n.ID, err)
	}
	return os.WriteFile(path, append(log, s.Said()...), 0o644)
}
