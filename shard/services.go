package shard

import (
	"context"
	"fmt"
	"slices"
)

// Members returns the nodes of the cluster that were not removed, by number, as
// this node last heard.
func (n *Node) Members() []Member {
	return slices.DeleteFunc(slices.Clone(n.state.Load().Members), func(m Member) bool { return m.State == MemberRemoved })
}

// Self returns this node's number.
func (n *Node) Self() uint64 { return n.c.NodeID }

// Handle makes f answer what Ask sends under the number of a service. It is
// called before the node is asked anything, once for each service.
func (n *Node) Handle(service byte, f func(ctx context.Context, from uint64, body []byte) ([]byte, error)) {
	n.services.Lock()
	defer n.services.Unlock()
	if n.services.by[service] != nil {
		panic(fmt.Sprintf("shard: service %d is handled twice", service))
	}
	n.services.by[service] = f
}

// Ask sends a message to a node's service and returns its answer. It is sent
// once; an error leaves open whether it arrived.
func (n *Node) Ask(ctx context.Context, node uint64, service byte, body []byte) ([]byte, error) {
	response := &ServiceResponse{}
	err := n.router.callNode(ctx, nodeAddr(node), System, methodService, &ServiceRequest{Service: service, From: n.c.NodeID, Body: body}, response)
	if err != nil {
		return nil, fmt.Errorf("ask node %d: %w", node, err)
	}
	return response.Body, nil
}

func (n *Node) serveService(ctx context.Context, q *ServiceRequest) (Message, error) {
	n.services.Lock()
	f := n.services.by[q.Service]
	n.services.Unlock()
	if f == nil {
		return nil, &Error{Code: Unavailable, Detail: fmt.Sprintf("no service %d here", q.Service)}
	}
	body, err := f(ctx, q.From, q.Body)
	if err != nil {
		return nil, err
	}
	return &ServiceResponse{Body: body}, nil
}
