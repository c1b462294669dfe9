package dragon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

// freeAddress returns an address that nobody listens on at the moment, with a host number
// that other processes do not take ports of, if the system has more than one.
func freeAddress(t *testing.T) string {
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.1:0", 1+pid>>8%254, pid%256))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// TestTCP runs three hosts over sockets. Targets are host ids; the address of
// one host changes between two of its lives, and only the resolver knows.
func TestTCP(t *testing.T) {
	var mu sync.Mutex
	addresses := make(map[string]string)
	resolve := func(target string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if a := addresses[target]; a != "" {
			return a, nil
		}
		return "", fmt.Errorf("no host %s", target)
	}
	ids := make([]string, 3)
	members := make(map[paxos.ReplicaID]string)
	for i := range ids {
		ids[i] = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
		members[paxos.ReplicaID(i+1)] = ids[i]
	}
	hosts, groups := make([]paxos.Host, 3), make([]paxos.Group, 3)
	disks := []*paxostest.Disk{{}, {}, {}}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	start := func(i int) {
		address := freeAddress(t)
		mu.Lock()
		addresses[ids[i]] = address
		mu.Unlock()
		h, err := dragon.Open(dragon.Options{Dir: dirs[i], NodeHostID: ids[i], Address: address, Resolve: resolve})
		require.NoError(t, err)
		hosts[i] = h
		groups[i], err = h.Start(paxos.GroupSpec{Group: 1, Replica: paxos.ReplicaID(i + 1), Members: members}, paxostest.NewMachine(disks[i]))
		require.NoError(t, err)
	}
	for i := range hosts {
		start(i)
	}
	proposeOn(t, groups[0], "one")
	proposeOn(t, groups[1], "two")
	require.NoError(t, hosts[2].Close())
	proposeOn(t, groups[1], "three")
	start(2)
	proposeOn(t, groups[2], "four")
	for i, g := range groups {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		require.NoError(t, g.ReadBarrier(ctx))
		cancel()
		require.Subset(t, disks[i].Commands(), []string{"one", "two", "three", "four"})
	}
	for _, h := range hosts {
		require.NoError(t, h.Close())
	}
}

// proposeOn proposes until it is acknowledged; a proposal that was lost on the
// way may so be there twice.
func proposeOn(t *testing.T, g paxos.Group, command string) {
	t.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := g.Propose(ctx, []byte(command))
		cancel()
		if err == nil {
			return
		}
		require.True(t, errors.Is(err, paxos.ErrNotSent) || errors.Is(err, paxos.ErrUnknownOutcome), "%v", err)
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q does not come through", command)
}
