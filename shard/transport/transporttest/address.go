package transporttest

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

var addresses atomic.Int64

// FreeAddress returns a loopback address that a node can listen on, and again after a
// restart. A port that was let go is soon given to somebody else who listens on 127.0.0.1
// with port 0; so the host number is one that only this process has, where the system has
// all of 127.0.0.0/8.
func FreeAddress() (string, error) {
	pid, k := os.Getpid(), addresses.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>8%254, pid%256, 1+k%254))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
