package dragon

import (
	"errors"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/rowlockdb/rowlock/paxos"
)

// LogFirst returns the first index that is left in the log of a replica, 0
// when the log is empty.
func LogFirst(h paxos.Host, g paxos.GroupID, r paxos.ReplicaID) (uint64, error) {
	s, err := h.(*host).store.ReadRaftState(uint64(g), uint64(r), 1)
	if errors.Is(err, raftio.ErrNoSavedLog) || err == nil && s.EntryCount == 0 {
		return 0, nil
	}
	return s.FirstIndex, err
}

// CheckSettings is checkSettings on a directory.
func CheckSettings(dir string) error { return checkSettings(findSettings(dir)) }

// NewHostFS is newHostFS.
var NewHostFS = newHostFS
