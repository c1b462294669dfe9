package dragon

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The pinned release's own values: others mean that the variables are no longer
// Dragonboat's, and that what a commit allocates has to be looked at again.
func TestEntrySlices(t *testing.T) {
	require.Equal(t, [2]uint64{512, 96}, foundEntrySlice)
	require.Less(t, minEntrySliceSize, entrySliceSize)
}
