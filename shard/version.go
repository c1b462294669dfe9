package shard

import (
	"fmt"
	"slices"
)

// Version numbers what nodes say to each other and write down for each other:
// messages, commands, records, frames.
//
// A cluster has one version, stored in the system shard. It only rises, to the
// newest version that every member has said it speaks. What version v brought is
// used once the cluster is at v: code that sends such a message, or proposes such a
// command, asks Node.Active(v) first. Whoever receives it does not ask: it can come
// from a node that has heard of the new version before this one.
type Version uint64

// The versions, with what each brought.
const (
	// VersionFirst is everything up to the first release.
	VersionFirst Version = 1
	// VersionLoads is LoadsRequest.
	VersionLoads Version = 2
	// VersionReadMany is ReadManyRequest.
	VersionReadMany Version = 3
	// VersionReduce is ReduceRequest and FilteredRead.
	VersionReduce Version = 4
	// VersionGiveBack is ReleaseRequest.Spans.
	VersionGiveBack Version = 5
	// VersionBlocks is tables whose rows are placed by blocks (sqlfront).
	VersionBlocks Version = 6
	// VersionBundle is several requests to a node in one message.
	VersionBundle Version = 7
	// VersionTrunk is a log that the shards of a node that is alone share.
	VersionTrunk Version = 8
	// VersionAlone is such a node without that log.
	VersionAlone Version = 9
	// VersionCompany is a trunk with members: the shards of a cluster whose every node has
	// all of them share one log.
	VersionCompany Version = 10
)

// What this release speaks. OldestVersion rises when code for an old version is
// removed: the release cannot take part in a cluster that is older. What a node
// sends before it knows the cluster's version, to join, to register, to ask for the
// state, has the form of its oldest version.
const (
	OldestVersion = VersionFirst
	NewestVersion = VersionAlone // VersionCompany is not offered yet: docs/decisions/0097
)

// Versions is a range of versions, both ends in it.
type Versions struct{ Oldest, Newest Version }

// Supported is what this release speaks.
func Supported() Versions { return Versions{OldestVersion, NewestVersion} }

// String names the range: "1", "1 to 3".
func (v Versions) String() string {
	if v.Oldest == v.Newest {
		return fmt.Sprint(uint64(v.Newest))
	}
	return fmt.Sprintf("%d to %d", v.Oldest, v.Newest)
}

// Valid reports whether it is a range of versions that there can be.
func (v Versions) Valid() bool { return v.Oldest > 0 && v.Oldest <= v.Newest }

// Common returns the highest version in both ranges, 0 if there is none.
func (v Versions) Common(o Versions) Version {
	if high := min(v.Newest, o.Newest); high >= max(v.Oldest, o.Oldest) {
		return high
	}
	return 0
}

// Refusal says why a release that speaks v may not work in a cluster, or on data, of
// this version; empty if it may. 0 is a version that is not known.
func (v Versions) Refusal(cluster Version) string {
	switch {
	case cluster == 0:
		return ""
	case cluster > v.Newest && !mutated("V2.older-release"):
		return fmt.Sprintf("it speaks version %s between nodes, and the cluster is at version %d already: start a newer release", v, cluster)
	case cluster < v.Oldest && !mutated("V2.newer-release"):
		return fmt.Sprintf("it speaks version %s between nodes, and the cluster is at version %d still: upgrade by way of a release that speaks both", v, cluster)
	}
	return ""
}

// raised is the version that a cluster should have: the newest that every member has
// said it speaks, those that are down too, for they come back with what they had.
func raised(s *ClusterState) Version {
	if s.Preserve && !mutated("V3.raised-though-preserved") {
		return s.Version
	}
	var newest []Version
	for _, m := range s.Members {
		if m.State != MemberRemoved {
			newest = append(newest, m.Versions.Newest)
		}
	}
	if len(newest) == 0 {
		return s.Version
	}
	all := slices.Min(newest)
	if mutated("V1.one-is-enough") {
		all = slices.Max(newest)
	}
	if mutated("V1.lowered") {
		return all
	}
	return max(s.Version, all)
}

func appendVersions(b []byte, v Versions) []byte {
	return appendUint(appendUint(b, uint64(v.Newest)), uint64(v.Oldest))
}

func (d *decoder) versions() Versions {
	v := Versions{Newest: Version(d.uint())}
	v.Oldest = v.Newest
	if !d.first {
		v.Oldest = Version(d.uint())
	}
	return v
}

// Version is the cluster's version as this node has noted it down: if it stops now, no
// release that does not speak it opens its directory.
func (n *Node) Version() Version { return Version(n.version.Load()) }

// Active reports whether what version v brought may be sent and proposed: every
// member of the cluster understands it, and none will be replaced by one that does not.
func (n *Node) Active(v Version) bool { return n.Version() >= v }

// activate opens the gates up to a version that has been noted down.
func (n *Node) activate(v Version) {
	for {
		now := n.version.Load()
		if uint64(v) <= now || n.version.CompareAndSwap(now, uint64(v)) {
			return
		}
	}
}
