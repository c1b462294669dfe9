// Package transport carries requests and consensus traffic between the nodes of
// a cluster, over one TCP listener per node.
//
// # Connections
//
// A connection carries one kind of thing, in the direction in which it was
// opened: requests, consensus messages, or snapshots. The side that opens it
// says hello: the versions it speaks, kind, cluster, its node id, and which node it
// wants. The other side answers with a verdict and its own versions; they talk in the
// highest that both speak, and not at all if there is none. A node without an id says so with zeros; it
// may send requests, by which it joins, and nothing else. With TLS both sides
// have proved before that they hold a node's certificate of the same authority.
//
// # Requests
//
// All requests to a node share one connection. Frames are numbered, so that
// answers come in any order; what callers put in while the writer writes goes
// out in its next write. Every call ends with its context. The other side is
// told, and the handler's context ends; it ends too when the connection does.
//
// An error says nothing about whether the request was carried out, unless it is
// ErrUnreachable or ErrTooLarge: then it was not sent.
//
// What is under way to one node is bounded (Options.InFlight); calls beyond it
// wait, in order, until their contexts end. Answers wait while more than 16 MiB
// of them are queued on a connection. Who calls is trusted to keep to the bound:
// the side that answers starts one goroutine a request without asking.
//
// # Nodes that do not answer
//
// Both sides of a connection for requests send a frame at least twice a second,
// and give the connection up when five of their own beats have passed without a
// byte from the other side. So a node that is stopped, or behind a cut cable, is
// known after 2.5 to 3 seconds, and all calls to it end. While a node is known to
// be out of reach calls to it fail at once; attempts go on in the background, at
// growing distances up to a second, as long as somebody calls, and at once when
// the node itself comes along. Connections for consensus traffic are watched by
// those who use them.
//
// # What protects what
//
// A CRC-32C covers every frame, a length is never believed before the bytes are
// there, and whatever does not fit ends the connection and not the process. A
// certificate says that its holder is a node of the cluster, not which one: ids
// are not in it.
//
// # What it does not do
//
// It does not repeat requests, spread them over several connections, or put
// small ones in front of large ones. It knows no members: addresses come from
// Options.Resolve.
package transport
