// Package shard makes replicated token ranges look like one key space.
//
// A shard is a replica group (package paxos) over a part of a node's engine
// (package storage). One replica of each shard owns it, in an epoch: the owner
// holds the lock table (package locks), decides timestamps and answers
// requests. Clients reach owners through a Router, which hashes nothing itself
// but asks the stored ring (package ring).
//
// # What is promised
//
// A transaction's fate is a set of write-once registers, one vote per shard
// (Gray and Lamport, "Consensus on Transaction Commit"): all PREPARED is
// committed, at the largest prepare timestamp; one ABORTED is aborted. Every
// answer about a vote is the register's content, read back from the result of
// an applied command, never an intention. A read at timestamp R returns the
// same rows for ever, and all of those whose commit was acknowledged before R
// was drawn. What was acknowledged is in the log.
//
// # Evaluate above, apply below
//
// The owner turns a request into a finished Command. A Machine, below
// consensus, compares the command's epoch with the register, then looks at the
// transaction's vote, then at the fence, then writes, data and applied index in
// one batch. It knows no clock, no lock and no randomness, so replicas agree.
//
// # The order of a commit on its owner
//
//  1. In one step: the transaction's locks are checked against its token,
//     pinned, and its keys become memory locks with an unknown timestamp.
//  2. The timestamp is chosen: one more than the largest of maxTS, the floor and
//     the start. If that could lie below a version the transaction follows, the
//     answer is NeedFloor and nothing has happened.
//  3. The command is proposed. If the outcome is unknown the very same bytes
//     are proposed again until one copy is applied.
//  4. The register's answer releases the memory locks, and the row locks too
//     unless the vote is PREPARED; then they stay pinned until Resolve.
//
// # The order of a snapshot read
//
// The timestamp R is the oracle's; maxTS is raised to R; ownership is proved by
// something that began after the request arrived (a lease is looked at last, when
// everything has been read); memory locks that could end
// up at or below R are waited for; a storage snapshot is opened, unless the cache of
// rows has all that is asked for, and no intent matters; intents at or
// below R are judged by the vote in that same snapshot, and one that is
// undecided is waited for and its key read again from a later snapshot.
// Exchanging any two of these steps loses a version.
//
// # How ownership is proved
//
// An epoch is sole, if its owner is the only voter: then nobody else can own the
// shard (H14). Otherwise the owner holds a lease, which counts from the issue of a
// barrier that was confirmed in its epoch and which the next owner waits out after
// its epoch has begun and before it draws its first timestamp (H1). Otherwise it
// waits for a barrier that began after the request arrived; one is under way, and
// one waits behind it for all who came since.
//
// # Reads elsewhere
//
// An owner closes a timestamp by a command of its own epoch, proposed after maxTS was
// raised to it and when no memory lock could end up at or below it (H12). A replica
// that has applied that, and reads the register and the rows in one storage snapshot,
// answers reads below as the owner would; what an undecided vote has written it leaves
// to the owner. Nobody closes anything unless somebody reads so (nearby).
//
// # A change of owner
//
// Locks of memory die with their owner, and the token says so (H2). Two kinds of
// locks are in the log (H3): those that a transaction asked to have durable,
// which end with its vote register and nothing else; and those that an owner
// wrote down when it handed the shard over, which only the epoch directly after,
// naming that flush, inherits. From the flush on the old owner is frozen, until
// the successor serves or an epoch of its own begins.
//
// # A change of members
//
// The serving owner alone proposes members (Replica.AddLearner, AddVoter,
// RemoveReplica). An epoch in which it is the only voter, and reads without
// asking anybody, is over and applied before a second voter is proposed, and none
// begins while a change of its own could still come true (H14). A mover's request
// names the membership that it was planned from, and is refused in any other.
//
// # A cluster
//
// Records of the system shard say which nodes there are and how many replicas are
// wanted; where the replicas are is known to their groups alone. Each node reports
// what its replicas do to the system shard's owner (registrar), which plans from that
// one step of each move at a time (mover) and may forget it all. It also asks what the
// owners are sent (loadSurvey) and lets two of them change places where their nodes do
// not work alike (planExchange). Nothing that must be
// right depends on a report, or on who is believed to be up. The numbers of nodes,
// of a shard's replicas and of a node's openings ascend and are never used again; a
// replica that was purged never runs again.
//
// # One group while alone
//
// The data shards of a node that founds a cluster share one group, the trunk, until the
// first of them is to have a second member. It has no log (paxos/alone): what is applied
// can be seen a moment before it is durable, see appliedFirst for who waits. A Trunk
// applies it: what the machines that it
// carries write goes into one batch over their spaces, with one applied index for all. The
// votes of a transaction come there as one entry, and if each of them would be PREPARED
// the entry commits: it leaves what the Prepares and the Resolves that follow from them
// would have left. A shard's way there is its lane, which goes over to a group of the
// shard's own when all have left (trunkLife). Order: leave is applied and durable, own
// groups are started with the machines as they are, lanes go over, the trunk is removed; a
// member is added only after that, to a log whose first entry is gone.
//
// A cluster of version 10, which no release offers yet, has a trunk with members (trunk_company.go):
// the group of nodes that all have all data shards. Who applies its end founds the shards' own
// groups, with the same members and the same state (trunk_part.go).
//
// # Versions
//
// The cluster has one version, a record of the system shard (version.go). Nodes say
// with each opening which versions their release speaks; the registrar raises the
// cluster's to the newest that all of them speak, and refuses a node that does not speak
// it. A node uses what a version brought (Active) once it has noted the version in its
// own directory, which no older release opens from then on. What a release does not know
// it refuses, as a request, or stops at, as a command of a log: it never leaves it out.
//
// # What protects what
//
// A tenure is an owner's memory for one epoch and dies with it. tenure.mu
// guards the tables of transactions and gateways; the lock table has a mutex of
// its own and is called with tenure.mu held where a check and a change must be
// one step, never when the call may wait. Order: localReplicas.starting,
// registrar, Replica.takeover, tenure.mu,
// resolver.mu or garbage.mu, the lock table's. Machine's registers are written
// by the applying goroutine alone and published through atomics.
//
// # What is not done
//
// This package does not decide transactions: a coordinator or a recoverer above
// it does. It moves replicas, never a row from one shard to another:
// the number of shards is fixed.
package shard
