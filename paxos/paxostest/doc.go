// Package paxostest holds what the implementations of paxos are tested with: a
// suite that each of them must pass ([Run]) and a state machine that notices
// when it is called wrongly ([Machine]).
//
// The suite looks at nothing but the interfaces of package paxos and what
// [Cluster] adds to them: restarts, power cuts and hosts out of reach.
package paxostest
