// Package explore walks through the states of a model, for tests.
//
// A model is a first state and a function from a state to the steps that lead
// out of it. All visits every state that can be reached, breadth first, so that
// the trace to a broken one is as short as any; Walk takes one random path after
// the other where there are too many. States are compared, so a model must put
// everything that matters into its state and nothing else.
//
// The models of the transaction protocol call the real code where it is a
// function of state and message (the state machine, the decision, the lock
// table); where it is not, package shard drives its replicas through a scheduler
// of its own.
//
// Seed gives random tests their seed: printed, and repeated with -seed.
package explore
