package dragon

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftpb"
	"github.com/stretchr/testify/require"
)

func sampleFrames(t testing.TB) map[string][]byte {
	batch := raftpb.MessageBatch{SourceAddress: "a", BinVer: 1, Requests: []raftpb.Message{
		{Type: raftpb.Heartbeat, From: 1, To: 2, ShardID: 3, Term: 4},
		{Type: raftpb.Replicate, From: 1, To: 2, ShardID: 3, Term: 4, Entries: []raftpb.Entry{{Index: 5, Term: 4, Cmd: []byte("command")}}},
	}}
	chunk := raftpb.Chunk{ShardID: 3, ReplicaID: 2, From: 1, ChunkId: 7, ChunkSize: 4, Data: []byte("data")}
	first, err := appendFrame(nil, frameBatch, batch.SizeUpperLimit(), &batch)
	require.NoError(t, err)
	second, err := appendFrame(nil, frameChunk, chunk.Size(), &chunk)
	require.NoError(t, err)
	return map[string][]byte{"batch": first, "chunk": second, "end": appendEnd(nil)}
}

// TestFrameHeaders pins what stands in front of Dragonboat's own bytes.
func TestFrameHeaders(t *testing.T) {
	head := func(name string) string { return hex.EncodeToString(sampleFrames(t)[name][:frameHeader]) }
	require.Equal(t, "0000000003562285c1", head("end"))
	require.Equal(t, "02", head("chunk")[8:10])
	require.Equal(t, "01", head("batch")[8:10])
}

// TestFrameDamage changes every bit: no frame is taken for another.
func TestFrameDamage(t *testing.T) {
	for name, b := range sampleFrames(t) {
		for bit := range 8 * len(b) {
			damaged := bytes.Clone(b)
			damaged[bit/8] ^= 1 << (bit % 8)
			_, _, err := newFrameReader(bytes.NewReader(damaged)).next()
			require.Error(t, err, "%s with bit %d changed", name, bit)
		}
		for n := range b {
			_, _, err := newFrameReader(bytes.NewReader(b[:n])).next()
			require.Error(t, err, "%s cut at %d", name, n)
		}
	}
}

// FuzzWireFrames: whatever is taken has exactly one encoding.
func FuzzWireFrames(f *testing.F) {
	var all []byte
	for _, b := range sampleFrames(f) {
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newFrameReader(bytes.NewReader(b))
		var again []byte
		for {
			kind, payload, err := r.next()
			if err != nil {
				break
			}
			frame := append(make([]byte, frameHeader), payload...)
			seal(frame, kind)
			again = append(again, frame...)
		}
		require.True(t, bytes.HasPrefix(b, again))
	})
}

func TestLargeFrames(t *testing.T) {
	for _, n := range []int{keptBytes - 100, keptBytes, 9 * keptBytes} {
		chunk := raftpb.Chunk{ChunkId: 1, Data: bytes.Repeat([]byte{7}, n)}
		b, err := appendFrame(nil, frameChunk, chunk.Size(), &chunk)
		require.NoError(t, err)
		r := newFrameReader(bytes.NewReader(append(b, b...)))
		for range 2 {
			_, payload, err := r.next()
			require.NoError(t, err)
			var got raftpb.Chunk
			require.NoError(t, got.Unmarshal(payload))
			require.Equal(t, chunk, got)
		}
	}
}

// pipeWire gives out one end of a pipe and the other to whoever wants it.
type pipeWire struct {
	serve atomic.Pointer[func(net.Conn, bool)]
	far   func(net.Conn, bool)
}

func (p *pipeWire) Serve(f func(net.Conn, bool)) {
	if p.serve.Store(nil); f != nil {
		p.serve.Store(&f)
	}
}

func (p *pipeWire) Dial(_ context.Context, _ string, snapshot bool) (net.Conn, error) {
	near, far := net.Pipe()
	go p.far(far, snapshot)
	return near, nil
}

// TestSilentHost: what is sent to a host that says nothing fails soon, and at
// once when this host closes.
func TestSilentHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &pipeWire{far: func(conn net.Conn, _ bool) { io.ReadFull(conn, make([]byte, 20)) }}
		end := wireFactory{wire: wire}.Create(config.NodeHostConfig{}, nil, nil)
		require.NoError(t, end.Start())
		begun := time.Now()
		conn, err := end.GetConnection(context.Background(), "2")
		require.NoError(t, err)
		require.Error(t, conn.SendMessageBatch(raftpb.MessageBatch{SourceAddress: "a host that is not heard"}))
		require.Equal(t, wireSilence, time.Since(begun))
		conn.Close()

		ctx, cancel := context.WithCancel(context.Background())
		snapshots, err := end.GetSnapshotConnection(ctx, "2")
		require.NoError(t, err)
		begun = time.Now()
		time.AfterFunc(time.Second, cancel)
		require.Error(t, snapshots.SendChunk(raftpb.Chunk{Data: make([]byte, 100)}))
		snapshots.Close()
		require.Equal(t, time.Second, time.Since(begun))
		require.NoError(t, end.Close())
	})
}

// TestQuietWire: a connection on which nothing is sent for long stays, and what
// was sent before a snapshot's connection closes has been handled.
func TestQuietWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &pipeWire{}
		var messages, chunks int
		end := wireFactory{wire: wire}.Create(config.NodeHostConfig{},
			func(raftpb.MessageBatch) { messages++ },
			func(raftpb.Chunk) bool {
				time.Sleep(time.Second)
				chunks++
				return true
			})
		require.NoError(t, end.Start())
		wire.far = *wire.serve.Load()
		conn, err := end.GetConnection(context.Background(), "2")
		require.NoError(t, err)
		for range 3 {
			time.Sleep(time.Hour)
			require.NoError(t, conn.SendMessageBatch(raftpb.MessageBatch{SourceAddress: "a"}))
		}
		synctest.Wait()
		require.Equal(t, 3, messages)
		conn.Close()

		snapshots, err := end.GetSnapshotConnection(context.Background(), "2")
		require.NoError(t, err)
		for range 5 {
			require.NoError(t, snapshots.SendChunk(raftpb.Chunk{Data: []byte("data")}))
		}
		snapshots.Close()
		require.Equal(t, 5, chunks)
		require.NoError(t, end.Close())
	})
}
