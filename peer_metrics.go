//go:build cgo || gms_pure_go

package rowlock

import (
	"cmp"
	"fmt"

	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/sqlfront"
)

// peerMetrics are the counters of the connections with other nodes.
func (n *Node) peerMetrics() []sqlfront.MetricInfo {
	if n.transport == nil {
		return nil
	}
	var rows []sqlfront.MetricInfo
	for _, p := range n.transport.Peers() {
		rows = append(rows, peerRows(p)...)
	}
	return rows
}

func peerRows(p transport.PeerStats) []sqlfront.MetricInfo {
	connected := 0.0
	if p.Connected {
		connected = 1
	}
	rows := []sqlfront.MetricInfo{
		{Name: "peer_connected", Value: connected, Help: "1 while requests can be sent to the node at once"},
		{Name: "peer_calls", Value: float64(p.Calls), Help: "requests sent to the node"},
		{Name: "peer_errors", Value: float64(p.Errors), Help: "those of them without an answer"},
		{Name: "peer_served", Value: float64(p.Served), Help: "requests that the node sent here"},
		{Name: "peer_connects", Value: float64(p.Connects), Help: "connections for requests opened to the node"},
		{Name: "peer_bytes_out", Value: float64(p.BytesOut), Help: "bytes of requests and responses sent to the node"},
		{Name: "peer_bytes_in", Value: float64(p.BytesIn), Help: "bytes of requests and responses from the node"},
		{Name: "peer_in_flight", Value: float64(p.InFlight), Help: "requests under way to the node, now"},
		{Name: "peer_in_flight_bytes", Value: float64(p.InFlightBytes), Help: "what they take of the bound, now"},
	}
	for i := range rows {
		// Nodes that join have no number yet.
		rows[i].Name += fmt.Sprintf("{peer=%q}", cmp.Or(string(p.Addr), "joining"))
	}
	return rows
}
