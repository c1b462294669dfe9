package history

import "slices"

// Names of anomalies that are not cycles.
const (
	AbortedRead       = "G1a"                // a value of a transaction that was rolled back was read
	IntermediateRead  = "G1b"                // a value that its transaction itself overwrote was read
	Internal          = "internal"           // a transaction disagrees with what it read before
	OwnWriteMissed    = "own-write-missed"   // a transaction does not see what it wrote
	FutureRead        = "future-read"        // a transaction sees what it writes later
	LostUpdate        = "lost-update"        // two transactions read one version and both replaced it
	DirtyUpdate       = "dirty-update"       // a committed version is built upon one that was rolled back
	IncompatibleOrder = "incompatible-order" // two reads of a list of which none is a prefix of the other
	DuplicateElements = "duplicate-elements" // a list holds an element twice
	UnwrittenRead     = "unwritten-read"     // a value that nobody wrote was read
	CyclicVersions    = "cyclic-versions"    // the versions of a register have no order
	DuplicateWrite    = "duplicate-write"    // the history writes a value twice: the load is wrong
)

// Names of cycles. Each stands also with "-process" and "-realtime" behind it:
// a cycle that needs such an edge.
const (
	G0           = "G0"            // writes only
	G1c          = "G1c"           // writes and reads of them
	GSingle      = "G-single"      // one anti-dependency
	GNonadjacent = "G-nonadjacent" // several, never one after the other
	G2Item       = "G2-item"       // two in sequence: write skew
)

const (
	process  = "-process"
	realtime = "-realtime"
)

// Model is what a database promises: the anomalies that it excludes.
type Model struct {
	Name    string
	forbids []string
}

// Forbids reports whether the model excludes an anomaly.
func (m Model) Forbids(name string) bool { return slices.Contains(m.forbids, name) }

// Forbidden lists what the model excludes.
func (m Model) Forbidden() []string { return slices.Clone(m.forbids) }

// never lists what no database may show at any level.
var never = []string{DuplicateElements, UnwrittenRead, CyclicVersions, DuplicateWrite, FutureRead, OwnWriteMissed}

// The models that we promise. Each holds all that the one before it holds.
var (
	// ReadCommitted is Adya's PL-2.
	ReadCommitted = Model{"read committed", slices.Concat(never,
		[]string{G0, AbortedRead, IntermediateRead, G1c, DirtyUpdate, IncompatibleOrder})}

	// SnapshotIsolation is Adya's PL-SI by its cycles: no cycle in which every
	// two anti-dependencies are apart.
	SnapshotIsolation = Model{"snapshot isolation", slices.Concat(ReadCommitted.forbids,
		[]string{Internal, LostUpdate, GSingle, GNonadjacent})}

	// StrongSnapshotIsolation: a snapshot holds all that was acknowledged before
	// the transaction began.
	StrongSnapshotIsolation = Model{"strong snapshot isolation", slices.Concat(SnapshotIsolation.forbids,
		variants(G0, G1c, GSingle, GNonadjacent))}

	// Serializable is Adya's PL-3.
	Serializable = Model{"serializability", slices.Concat(SnapshotIsolation.forbids, []string{G2Item})}

	// StrictSerializable: the order agrees with time, too.
	StrictSerializable = Model{"strict serializability", slices.Concat(StrongSnapshotIsolation.forbids,
		[]string{G2Item}, variants(G2Item))}
)

func variants(names ...string) []string {
	var all []string
	for _, name := range names {
		all = append(all, name+process, name+realtime)
	}
	return all
}
