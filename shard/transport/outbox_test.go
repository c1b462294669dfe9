package transport

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOutbox: frames of all sizes come out whole, each caller's in its order,
// and a debt is paid when what lies before its mark was written.
func TestOutbox(t *testing.T) {
	o := newOutbox()
	r, w := io.Pipe()
	const callers, frames = 8, 50
	var work sync.WaitGroup
	work.Go(func() { o.write(w) })
	rng := rand.New(rand.NewPCG(1, 2))
	var sizes [callers][frames]int
	for i := range sizes {
		for j := range sizes[i] {
			sizes[i][j] = []int{0, 7, 900, largeBytes - 1, largeBytes, 3 * largeBytes}[rng.IntN(6)]
		}
	}
	for i := range callers {
		work.Go(func() {
			for _, n := range sizes[i] {
				require.NoError(t, o.addWithRoom(frameRequest, uint64(i), bytes.Repeat([]byte{byte(i)}, n)))
			}
		})
	}
	in := bufio.NewReader(r)
	var seen [callers]int
	for range callers * frames {
		h, payload, err := readFrame(in)
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte{byte(h.id)}, sizes[h.id][seen[h.id]]), append([]byte{}, payload...))
		seen[h.id]++
	}
	mark, err := o.add(frameRequest, 1, []byte("last"))
	require.NoError(t, err)
	paid := make(chan struct{})
	o.after(mark, func() { close(paid) })
	_, _, err = readFrame(in)
	require.NoError(t, err)
	<-paid
	o.close()
	work.Wait()
	_, err = o.add(frameRequest, 1, nil)
	require.ErrorIs(t, err, errOutboxClosed)
	o.after(mark+1, func() { paid = nil })
	require.Nil(t, paid, "what will never be written is paid at once")
}

// TestAnswersWaitForRoom: a queue that nobody writes takes no answers beyond its
// bound, until it is closed.
func TestAnswersWaitForRoom(t *testing.T) {
	o := newOutbox()
	require.NoError(t, o.addWithRoom(frameResponse, 1, make([]byte, queuedBytes)))
	refused := make(chan error)
	go func() { refused <- o.addWithRoom(frameResponse, 2, nil) }()
	_, err := o.add(frameHeartbeat, 0, nil)
	require.NoError(t, err, "what must not wait does not")
	o.close()
	require.ErrorIs(t, <-refused, errOutboxClosed)
}
