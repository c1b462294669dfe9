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

// EmptiedSnapshot is emptiedSnapshot.
const EmptiedSnapshot = emptiedSnapshot

// SnapshotSize returns the length of the newest snapshot file of a replica,
// and whether it ever held a state.
func SnapshotSize(h paxos.Host, g paxos.GroupID, r paxos.ReplicaID) (size int64, full bool, err error) {
	ss, err := h.(*host).store.GetSnapshot(uint64(g), uint64(r))
	if err != nil || ss.Index == 0 {
		return 0, false, err
	}
	size, err = h.(*host).snapshotSize(ss.Filepath)
	return size, !ss.Dummy, err
}
