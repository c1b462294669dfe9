package dragon

import _ "unsafe" // for go:linkname

// Dragonboat keeps the entries of a group that are not applied yet in a slice, and
// makes a new one each time they are: with room for 512 entries, 40 KiB that are
// cleared, scanned and collected for each single commit of a group. That was nine
// tenths of what a commit allocates below SQL. The size is a constant of its own
// that only a file in the working directory can change (see settingsFiles), which
// is not for a database to ask for; so its variables are set here. They are how
// much room a slice begins with, and below how much free room a shrunk one is
// replaced; more entries make the slice grow as any other.
//
// A release of Dragonboat without these variables would link all the same:
// TestEntrySlices sees to it that they are what they seem.

//go:linkname entrySliceSize github.com/lni/dragonboat/v4/internal/raft.entrySliceSize
var entrySliceSize uint64

//go:linkname minEntrySliceSize github.com/lni/dragonboat/v4/internal/raft.minEntrySliceSize
var minEntrySliceSize uint64

// foundEntrySlice is what Dragonboat had set, for the test.
var foundEntrySlice = [2]uint64{entrySliceSize, minEntrySliceSize}

func init() {
	// Before any group is made. The second must be smaller than the first.
	entrySliceSize, minEntrySliceSize = 16, 4
}
