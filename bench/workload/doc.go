// Package workload makes load on MySQL servers for the programs beside it, the same
// on every server: sysbench's scripts, and transfers between the accounts of a
// bank. It starts no server (package process does) and judges nothing.
//
// Latencies are those of whole transactions as the client sees them.
package workload
