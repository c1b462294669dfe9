package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/rowlockdb/rowlock/shard"
)

const (
	// DefaultInFlight is how many bytes of requests may be under way to one node.
	DefaultInFlight = 128 << 20
	// DefaultBeat makes a silent node known after two and a half to three seconds.
	DefaultBeat = 500 * time.Millisecond
)

// Handler answers an encoded request of another node. ctx ends when the caller
// has gone, or its connection; see Caller.
type Handler func(ctx context.Context, request []byte) []byte

// Options for Listen.
type Options struct {
	// Listen is the host:port to listen on; port 0 chooses one.
	Listen string
	// Advertise is the host:port that others reach this node by, when it is not
	// the one it listens on.
	Advertise string
	// Self is who this node is, asked at every connection and every call. A node
	// that joins says so with an empty Identity and changes it once.
	Self func() Identity
	// Resolve turns a node's address into host:port. Addresses that contain a
	// colon are not asked for. It must not wait.
	Resolve func(shard.NodeAddr) (string, error)
	// Handler answers requests; nil refuses them until SetHandler.
	Handler Handler
	// TLS makes nodes prove that they belong together. Nil is plain TCP, between
	// loopback addresses only.
	TLS *TLS
	// Insecure allows other addresses without TLS.
	Insecure bool
	// Versions is what this side speaks; zero means shard.Supported().
	Versions shard.Versions
	// InFlight is DefaultInFlight when zero.
	InFlight int64
	// Beat is DefaultBeat when zero; the same on all nodes.
	Beat time.Duration
	// Logger gets what an operator should see; nil drops it.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Self == nil {
		return o, errors.New("transport: Options.Self is missing")
	}
	if o.Resolve == nil {
		o.Resolve = func(to shard.NodeAddr) (string, error) { return "", fmt.Errorf("no address of node %s is known", to) }
	}
	o.Versions = cmp.Or(o.Versions, shard.Supported())
	o.InFlight = cmp.Or(o.InFlight, DefaultInFlight)
	o.Beat = cmp.Or(o.Beat, DefaultBeat)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TLS == nil && !o.Insecure {
		if err := onlyLoopback(o.Listen); err != nil {
			return o, fmt.Errorf("transport: listen on %s: %w", o.Listen, err)
		}
	}
	return o, nil
}

// onlyLoopback fails unless only this machine reaches the address. A name is
// loopback when everything it stands for is.
func onlyLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" {
		return ErrNotLoopback
	}
	ips, err := net.LookupIP(host)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return ErrNotLoopback
		}
	}
	return nil
}
