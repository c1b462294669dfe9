package transport_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
)

// TestCalls: everyone gets the answer to their own request, whatever its size
// and in whatever order answers come.
func TestCalls(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	c.listen(2, echo)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 20 {
				request := bytes.Repeat(fmt.Appendf(nil, "%d/%d ", i, j), 1<<(j%12))
				response, err := a.Call(soon(t), "2", request)
				if err != nil || !bytes.Equal(response, request) {
					t.Errorf("call %d of %d: %d bytes of %d, %v", j, i, len(response), len(request), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSizes(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	c.listen(2, func(_ context.Context, request []byte) []byte {
		if bytes.Equal(request, []byte("too much")) {
			return make([]byte, transport.MaxMessage+1)
		}
		return request
	})
	for _, n := range []int{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 9<<20 + 7, transport.MaxMessage} {
		request := make([]byte, n)
		rand.Read(request)
		response, err := a.Call(soon(t), "2", request)
		require.NoError(t, err)
		require.True(t, bytes.Equal(request, response), "%d bytes", n)
	}
	_, err := a.Call(soon(t), "2", make([]byte, transport.MaxMessage+1))
	require.ErrorIs(t, err, transport.ErrTooLarge)
	_, err = a.Call(soon(t), "2", []byte("too much"))
	require.ErrorIs(t, err, transport.ErrRefused)
}

// TestSlowCallsHoldNobodyUp: an answer that takes long is overtaken.
func TestSlowCallsHoldNobodyUp(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	open := make(chan struct{})
	c.listen(2, func(_ context.Context, request []byte) []byte {
		if string(request) == "slow" {
			<-open
		}
		return request
	})
	slow := make(chan error, 1)
	go func() {
		_, err := a.Call(soon(t), "2", []byte("slow"))
		slow <- err
	}()
	for range 100 {
		_, err := a.Call(soon(t), "2", []byte("quick"))
		require.NoError(t, err)
	}
	require.Empty(t, slow)
	close(open)
	require.NoError(t, <-slow)
}

// TestCancel: a call ends with its context, and so does its handler's.
func TestCancel(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	entered, left := make(chan struct{}), make(chan error, 1)
	c.listen(2, func(ctx context.Context, request []byte) []byte {
		if string(request) == "wait" {
			close(entered)
			<-ctx.Done()
			left <- ctx.Err()
		}
		return nil
	})
	ctx, cancel := context.WithCancel(soon(t))
	done := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, "2", []byte("wait"))
		done <- err
	}()
	<-entered
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.ErrorIs(t, <-left, context.Canceled)
	reaches(t, a, 2)
	require.Zero(t, a.Peers()[0].InFlight)
	eventually(t, func() bool { return a.Peers()[0].InFlightBytes == 0 })

	ctx, cancel = context.WithTimeout(soon(t), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	_, err := a.Call(ctx, "2", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestHandlersOfALostConnection: nobody waits for an answer that nobody takes.
func TestHandlersOfALostConnection(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	entered, left := make(chan struct{}), make(chan error, 1)
	end := soon(t)
	c.listen(2, func(ctx context.Context, _ []byte) []byte {
		close(entered)
		select {
		case <-ctx.Done():
		case <-end.Done():
		}
		left <- ctx.Err()
		return nil
	})
	done := make(chan error, 1)
	go func() {
		_, err := a.Call(soon(t), "2", nil)
		done <- err
	}()
	<-entered
	require.NoError(t, a.Close())
	require.ErrorIs(t, <-done, transport.ErrLost)
	require.ErrorIs(t, <-left, context.Canceled)
	_, err := a.Call(soon(t), "2", nil)
	require.ErrorIs(t, err, transport.ErrClosed)
}

// TestCallers: handlers know who asks, and a node that joins is known by its id
// from its first call after it has one.
func TestCallers(t *testing.T) {
	c := newCluster(t)
	who := func(ctx context.Context, _ []byte) []byte {
		return binary.BigEndian.AppendUint64(nil, transport.Caller(ctx))
	}
	a := c.listen(1, who)
	b := c.listen(2, who)
	asked := func(from *transport.Transport, to shard.NodeAddr) uint64 {
		response, err := from.Call(soon(t), to, nil)
		require.NoError(t, err)
		return binary.BigEndian.Uint64(response)
	}
	require.EqualValues(t, 1, asked(a, "2"))
	require.EqualValues(t, 2, asked(b, "1"))
	require.EqualValues(t, 1, asked(a, "1"), "itself")

	var self atomic.Pointer[transport.Identity]
	self.Store(&transport.Identity{})
	joining := c.listen(3, who, func(o *transport.Options) {
		o.Self = func() transport.Identity { return *self.Load() }
	})
	seed := shard.NodeAddr(a.Addr())
	require.EqualValues(t, 0, asked(joining, seed))
	_, err := joining.Dial(soon(t), a.Addr(), false)
	require.ErrorIs(t, err, transport.ErrUnidentified)
	_, err = a.Call(soon(t), "3", nil)
	require.ErrorIs(t, err, transport.ErrNotMember)

	self.Store(&transport.Identity{Cluster: clusterA, Node: 3})
	require.EqualValues(t, 3, asked(joining, seed))
	reaches(t, a, 3)
	require.EqualValues(t, 1, asked(a, "3"))
}

// TestRefusals: who does not belong here learns why.
func TestRefusals(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	other := c.listen(2, echo, func(o *transport.Options) { o.Self = is(clusterB, 2) })
	third := c.listen(3, echo)
	c.set(4, third.Addr())
	unready := c.listen(5, nil)
	for _, e := range []struct {
		to   shard.NodeAddr
		want []error
	}{
		{"2", []error{transport.ErrCluster, transport.ErrUnreachable}},
		{shard.NodeAddr(other.Addr()), []error{transport.ErrCluster, transport.ErrUnreachable}},
		{"4", []error{transport.ErrWrongNode, transport.ErrUnreachable}},
		{"5", []error{transport.ErrRefused}},
		{"6", []error{transport.ErrUnreachable}},
	} {
		_, err := a.Call(soon(t), e.to, nil)
		for _, want := range e.want {
			require.ErrorIs(t, err, want)
		}
	}
	unready.SetHandler(echo)
	_, err := a.Call(soon(t), "5", nil)
	require.NoError(t, err)
}

// TestOtherVersion: the answer to a hello of another version is a refusal that
// names this one, whatever follows the version.
func TestOtherVersion(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, echo, func(o *transport.Options) { o.Versions = shard.Versions{Oldest: 1, Newest: 1} })
	conn, err := net.Dial("tcp", a.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("RWLK\x63\x62 whatever version 99 says here, at any length"))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(answer, []byte("RWLK\x01\x01\x01")), "% x", answer)

	// A node of that version in turn.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("RWLK\x63\x62\x00"))
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	_, err = a.Call(soon(t), shard.NodeAddr(l.Addr().String()), nil)
	require.ErrorIs(t, err, transport.ErrVersion)
	require.ErrorContains(t, err, "the other side speaks 98 to 99, this one 1")
}

// TestVersionsInCommon: sides talk in the highest version that both speak, in either
// direction, and each names both ranges where there is none.
func TestVersionsInCommon(t *testing.T) {
	speaks := func(oldest, newest shard.Version) func(*transport.Options) {
		return func(o *transport.Options) { o.Versions = shard.Versions{Oldest: oldest, Newest: newest} }
	}
	c := newCluster(t)
	a, b := c.listen(1, echo, speaks(1, 3)), c.listen(2, echo, speaks(2, 5))
	reaches(t, a, 2)
	reaches(t, b, 1)
	require.EqualValues(t, 3, a.Peers()[0].Version)
	require.EqualValues(t, 3, b.Peers()[0].Version)
	d := c.listen(3, echo, speaks(4, 6))
	_, err := a.Call(soon(t), addr(3), nil)
	require.ErrorIs(t, err, transport.ErrVersion)
	require.ErrorContains(t, err, "the other side speaks 4 to 6, this one 1 to 3")
	_, err = d.Call(soon(t), addr(1), nil)
	require.ErrorIs(t, err, transport.ErrVersion)
	require.ErrorContains(t, err, "the other side speaks 1 to 3, this one 4 to 6")
}

// TestStrangers: what is not our protocol harms nobody.
func TestStrangers(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	b := c.listen(2, echo)
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "RWLK", "RWLK\x01", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		conn, err := net.Dial("tcp", b.Addr())
		require.NoError(t, err)
		conn.Write([]byte(text))
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn) // until it is closed, or reset
		conn.Close()
	}
	reaches(t, a, 2)
}

// TestSilence: a node that falls silent in the middle of calls ends them, in
// either direction of silence; then calls fail at once, until it is heard again.
func TestSilence(t *testing.T) {
	for name, directions := range map[string][]int{"stopped": {0, 1}, "hears nothing": {0}, "says nothing": {1}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a := c.listen(1, nil, withQuickBeat)
			held := make(chan struct{})
			b := c.listen(2, func(ctx context.Context, request []byte) []byte {
				if string(request) == "hold" {
					held <- struct{}{}
					<-ctx.Done()
				}
				return request
			}, withQuickBeat)
			p := newProxy(t, b.Addr())
			c.set(2, p.address())
			const calls = 8
			ended := make(chan error, calls)
			for range calls {
				go func() {
					_, err := a.Call(soon(t), "2", []byte("hold"))
					ended <- err
				}()
				<-held
			}
			p.silence(true, directions...)
			for range calls {
				require.ErrorIs(t, <-ended, transport.ErrLost)
			}
			_, err := a.Call(soon(t), "2", nil)
			require.ErrorIs(t, err, transport.ErrUnreachable)
			p.silence(false, directions...)
			reaches(t, a, 2)
		})
	}
}

// TestFloodOfAStoppedNode: what a node does not read fills no memory beyond the
// bound, and its callers do not hang.
func TestFloodOfAStoppedNode(t *testing.T) {
	c := newCluster(t)
	const bound = 8 << 20
	a := c.listen(1, nil, withQuickBeat, func(o *transport.Options) { o.InFlight = bound })
	b := c.listen(2, echo, withQuickBeat)
	p := newProxy(t, b.Addr())
	c.set(2, p.address())
	reaches(t, a, 2)
	p.silence(true, 0, 1)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			_, err := a.Call(soon(t), "2", make([]byte, 1<<20))
			if !errors.Is(err, transport.ErrLost) && !errors.Is(err, transport.ErrUnreachable) {
				t.Errorf("call of a stopped node: %v", err)
			}
			if used := a.Peers()[0].InFlightBytes; used > bound {
				t.Errorf("%d bytes under way", used)
			}
		})
	}
	wg.Wait()
	require.Zero(t, a.Peers()[0].InFlightBytes)
}

// TestBackPressure: a call that finds no room waits for it, until its context
// ends; who comes later stands behind.
func TestBackPressure(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil, func(o *transport.Options) { o.InFlight = 64 << 10 })
	entered, open := make(chan struct{}, 10), make(chan struct{})
	c.listen(2, func(_ context.Context, request []byte) []byte {
		entered <- struct{}{}
		<-open
		return nil
	})
	results := make(chan error, 2)
	call := func(ctx context.Context) {
		_, err := a.Call(ctx, "2", make([]byte, 60<<10))
		results <- err
	}
	go call(soon(t))
	<-entered
	ctx, cancel := context.WithCancel(soon(t))
	go call(ctx)
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	go call(soon(t))
	require.Empty(t, entered)
	close(open)
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.Len(t, entered, 1)
}

// TestRestart: a node that comes back at another address is found again.
func TestRestart(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	for range 5 {
		b := c.listen(2, upper)
		reaches(t, a, 2)
		response, err := a.Call(soon(t), "2", []byte("loud"))
		require.NoError(t, err)
		require.Equal(t, "LOUD", string(response))
		require.NoError(t, b.Close())
		_, err = a.Call(soon(t), "2", nil)
		require.Error(t, err)
	}
}

// TestCut: nodes that are cut off from each other reach the others.
func TestCut(t *testing.T) {
	c := newCluster(t)
	nodes := []*transport.Transport{nil, c.listen(1, echo), c.listen(2, echo), c.listen(3, echo)}
	reaches(t, nodes[1], 2)
	reaches(t, nodes[2], 1)
	nodes[1].Cut("2")
	_, err := nodes[1].Call(soon(t), "2", nil)
	require.ErrorIs(t, err, transport.ErrUnreachable)
	_, err = nodes[1].Dial(soon(t), "2", false)
	require.ErrorIs(t, err, transport.ErrUnreachable)
	eventually(t, func() bool {
		_, err := nodes[2].Call(soon(t), "1", nil)
		return errors.Is(err, transport.ErrUnreachable)
	})
	_, err = nodes[2].Dial(soon(t), "1", true)
	require.ErrorIs(t, err, transport.ErrUnreachable)
	reaches(t, nodes[1], 3)
	reaches(t, nodes[3], 1)
	reaches(t, nodes[2], 3)
	nodes[1].Mend("2")
	reaches(t, nodes[1], 2)
	reaches(t, nodes[2], 1)
}

// TestConsensusConnections: what one side writes the other reads, with the kind
// that it asked for, and answers come back.
func TestConsensusConnections(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	b := c.listen(2, nil)
	conn, err := a.Dial(soon(t), "2", false)
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "nobody takes it")
	conn.Close()
	b.Serve(func(conn net.Conn, snapshot bool) {
		text, err := io.ReadAll(io.LimitReader(conn, 5))
		if err == nil {
			fmt.Fprintf(conn, "%s, snapshot %v", text, snapshot)
		}
	})
	for _, snapshot := range []bool{false, true} {
		conn, err := a.Dial(soon(t), b.Addr(), snapshot)
		require.NoError(t, err)
		_, err = conn.Write([]byte("hello"))
		require.NoError(t, err)
		text, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("hello, snapshot %v", snapshot), string(text))
		conn.Close()
	}
}

// TestStats counts what went where.
func TestStats(t *testing.T) {
	c := newCluster(t)
	a := c.listen(1, nil)
	b := c.listen(2, echo)
	for range 10 {
		_, err := a.Call(soon(t), "2", make([]byte, 1000))
		require.NoError(t, err)
	}
	_, err := a.Call(soon(t), "3", nil)
	require.Error(t, err)
	stats := a.Peers()
	require.Len(t, stats, 2)
	require.True(t, stats[0].Connected)
	require.EqualValues(t, 10, stats[0].Calls)
	require.EqualValues(t, 1, stats[0].Connects)
	require.Zero(t, stats[0].Errors)
	eventually(t, func() bool { return a.Peers()[0].BytesOut > 10_000 }) // counted when the write has returned
	require.Greater(t, stats[0].BytesIn, uint64(10_000))
	require.EqualValues(t, 1, stats[1].Errors)
	require.NotEmpty(t, stats[1].Down)
	require.EqualValues(t, 10, b.Peers()[0].Served)
}

func TestLoopbackOnly(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		_, err := transport.Listen(transport.Options{Listen: listen, Self: is(clusterA, 1)})
		require.ErrorIs(t, err, transport.ErrNotLoopback, listen)
		n, err := transport.Listen(transport.Options{Listen: listen, Self: is(clusterA, 1), Insecure: true, Advertise: "here:1"})
		require.NoError(t, err)
		require.Equal(t, "here:1", n.Advertised())
		require.NoError(t, n.Close())
	}
}
