package transport

import (
	"errors"
	"fmt"

	"github.com/rowlockdb/rowlock/shard"
)

// What a caller may decide by; compare with errors.Is.
var (
	// ErrUnreachable: the node could not be asked. The request was not sent.
	ErrUnreachable = fmt.Errorf("node is out of reach: %w", shard.ErrNotSent)
	// ErrLost: the connection ended while the request was under way. Nobody
	// here knows whether it was carried out.
	ErrLost = errors.New("connection lost with the request under way")
	// ErrRefused: the node has nobody who answers requests, yet or any more.
	ErrRefused = errors.New("node does not answer requests")
	// ErrTooLarge: the request is longer than MaxMessage. It was not sent.
	ErrTooLarge = errors.New("message is too large")
	// ErrClosed: this side was closed.
	ErrClosed = errors.New("transport is closed")
	// ErrNotLoopback: an address that other machines reach, without
	// certificates and without Options.Insecure.
	ErrNotLoopback = errors.New("without certificates only loopback addresses are allowed")
)

// Why a connection was refused. Errors of Call and Dial that carry one of them
// are ErrUnreachable too.
var (
	// ErrVersion: the other side speaks no version that this one does.
	ErrVersion = errors.New("no version of the inter-node protocol in common")
	// ErrCluster: the other side is a member of another cluster.
	ErrCluster = errors.New("node of another cluster")
	// ErrNotMember: the other side is no member of a cluster yet.
	ErrNotMember = errors.New("node is not a member of a cluster yet")
	// ErrWrongNode: another node answers at the address.
	ErrWrongNode = errors.New("another node answers at this address")
	// ErrUnidentified: a connection without a node id may only carry requests.
	ErrUnidentified = errors.New("a node without an id may only send requests")
	// ErrCertificate: one side does not take the other's certificate, or has
	// none while the other wants one.
	ErrCertificate = errors.New("certificate not accepted")
	// ErrProtocol: what came is not the inter-node protocol.
	ErrProtocol = errors.New("not the inter-node protocol")
)

// errCut is why a node is out of reach that Cut has put there.
var errCut = errors.New("cut off")

// errSilent ends a connection on which nothing came for too long.
var errSilent = errors.New("nothing was heard from the node")
