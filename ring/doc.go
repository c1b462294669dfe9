// Package ring maps keys to tokens and shards to nodes; arithmetic, without clock, network or disk.
//
// There are two mappings, and they move independently:
//
//	placement key --TokenOf--> Token --Ring.Shard--> ShardID    rows, fixed for the cluster's life
//	ShardID --Placement--> [NodeID ...]                         replicas, moved one by one
//
// # Rows to shards
//
// A row's placement key is hashed to a 64-bit Token. A Ring is a sorted list of points, each of
// them a virtual node of a shard; a shard owns the tokens after the previous point up to and
// including its own, and the first point also owns what lies after the last (Karger et al.,
// "Consistent Hashing and Random Trees", 1997; virtual nodes as in Dynamo, 2007).
//
// The ring is stored, not recomputed: the bytes of AppendBinary are what the cluster keeps in its
// system shard. A change of the hash library, or of the way points are made, therefore cannot move
// a row; golden tests hold both functions in place all the same. With and Without make the ring of
// the next epoch. Adding the (N+1)th shard takes about 1/(N+1) of the tokens and moves nothing
// between the others. Diff lists exactly what changes hands.
//
// # Shards to nodes
//
// Place spreads the replicas of all shards. It promises, in this order:
//
//  1. a shard's replicas are on distinct nodes, and in distinct zones when there are enough zones
//     (otherwise no zone holds more of them than is unavoidable);
//  2. every node holds its share of the replicas, rounded down or up, the share being in
//     proportion to its capacity as far as rule 1 allows;
//  3. every node is preferred owner of its share of the shards, rounded down or up;
//  4. as few replicas move as rules 1 and 2 allow, then as few owners change.
//
// Rules 1, 2 and 4 are one minimum-cost flow and rule 3 a second one, so the figures are optima and
// not results of luck. Equal inputs give equal outputs, whatever order the inputs come in.
//
// # What it does not do
//
// It does not move anything, remember anything or know which nodes are alive. Virtual nodes even
// out shards, not keys: one very hot key stays on one shard.
package ring
