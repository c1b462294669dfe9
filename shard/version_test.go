package shard

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

func TestVersionRanges(t *testing.T) {
	for _, c := range []struct {
		a, b   Versions
		common Version
	}{
		{Versions{1, 1}, Versions{1, 1}, 1},
		{Versions{1, 3}, Versions{2, 5}, 3},
		{Versions{2, 3}, Versions{1, 2}, 2},
		{Versions{1, 2}, Versions{3, 4}, 0},
		{Versions{}, Versions{1, 1}, 0},
	} {
		require.Equal(t, c.common, c.a.Common(c.b))
		require.Equal(t, c.common, c.b.Common(c.a))
	}
	require.True(t, Supported().Valid())
	require.LessOrEqual(t, uint64(NewestVersion), uint64(255), "the hello has a byte for it")
	require.Equal(t, "2 to 4", Versions{2, 4}.String())
	require.Equal(t, "2", Versions{2, 2}.String())
}

// A release comes in if the cluster's version is one that it speaks.
func TestVersionRefusals(t *testing.T) {
	for _, c := range []struct {
		release Versions
		cluster Version
		want    string
	}{
		{Versions{2, 4}, 2, ""},
		{Versions{2, 4}, 4, ""},
		{Versions{2, 4}, 0, ""},
		{Versions{2, 4}, 5, "it speaks version 2 to 4 between nodes, and the cluster is at version 5 already: start a newer release"},
		{Versions{2, 4}, 1, "it speaks version 2 to 4 between nodes, and the cluster is at version 1 still: upgrade by way of a release that speaks both"},
		{Versions{}, 1, "it speaks version 0 between nodes, and the cluster is at version 1 already: start a newer release"},
	} {
		require.Equal(t, c.want, c.release.Refusal(c.cluster))
	}
}

// The cluster's version is the newest that every member speaks, and never falls.
func TestRaisedVersion(t *testing.T) {
	member := func(newest Version, state MemberState) Member {
		return Member{Versions: Versions{1, newest}, State: state}
	}
	for _, c := range []struct {
		name     string
		now      Version
		preserve bool
		members  []Member
		want     Version
	}{
		{"nobody is upgraded", 1, false, []Member{member(1, MemberActive), member(1, MemberActive)}, 1},
		{"one is upgraded", 1, false, []Member{member(2, MemberActive), member(1, MemberActive)}, 1},
		{"the other is upgraded", 1, false, []Member{member(1, MemberActive), member(2, MemberActive)}, 1},
		{"all are upgraded", 1, false, []Member{member(2, MemberActive), member(2, MemberActive)}, 2},
		{"by different steps", 1, false, []Member{member(4, MemberActive), member(3, MemberActive), member(5, MemberActive)}, 3},
		{"one that drains counts", 1, false, []Member{member(2, MemberActive), member(1, MemberDraining)}, 1},
		{"one that leaves counts", 1, false, []Member{member(2, MemberActive), member(1, MemberLeaving)}, 1},
		{"one that was removed does not", 1, false, []Member{member(1, MemberRemoved), member(2, MemberActive)}, 2},
		{"the operator holds it", 1, true, []Member{member(2, MemberActive), member(2, MemberActive)}, 1},
		{"it never falls", 3, false, []Member{member(2, MemberActive)}, 3},
		{"nobody is there", 3, false, nil, 3},
	} {
		require.Equal(t, c.want, raised(&ClusterState{Version: c.now, Preserve: c.preserve, Members: c.members}), c.name)
	}
}

// Records from before there were ranges of versions are read as of the first version.
func TestFirstFormOfRecords(t *testing.T) {
	const member = "0301680" + "16e017a03633a3103733a32010104808080808080808080" + "01"
	first := sampleMember
	first.Versions = Versions{1, 1}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	d := newStoredDecoder(unhex("0101" + member + "01"))
	require.Equal(t, []Member{first}, list(&d, (*decoder).member))
	require.NoError(t, d.done())

	notes := unhex("01" + "020809" + "01010000000000000000000000000000000472696e6703" + "01" + member + "01" + "0000")
	lives, s, err := decodeNotes(notes)
	require.NoError(t, err)
	require.Equal(t, []uint64{8, 9}, lives)
	require.Equal(t, ClusterState{Cluster: sampleState.Cluster, Ring: sampleState.Ring, Replication: 3, Version: VersionFirst, Members: []Member{first}}, s)
	v, err := NotedVersion(notes)
	require.NoError(t, err)
	require.Equal(t, VersionFirst, v)
}

// The version in the notes is read whatever a later release writes behind it.
func TestNotedVersion(t *testing.T) {
	b := encodeNotes([]uint64{8, 9}, &sampleState)
	require.Equal(t, "0204020809", hex.EncodeToString(b[:5]))
	lives, s, err := decodeNotes(b)
	require.NoError(t, err)
	require.Equal(t, []uint64{8, 9}, lives)
	require.Equal(t, sampleState.Version, s.Version)
	require.True(t, s.Preserve)
	for _, c := range []struct {
		notes string
		want  Version
	}{{"", 0}, {"\x02\x07what a later release says", 7}, {"\x09\x07of a later form", 7}} {
		v, err := NotedVersion([]byte(c.notes))
		require.NoError(t, err)
		require.Equal(t, c.want, v)
	}
	for _, bad := range []string{"\x00\x01", "\x02", "\x02\x80"} {
		_, err := NotedVersion([]byte(bad))
		require.Error(t, err, "% x", bad)
	}
	_, _, err = decodeNotes([]byte("\x09\x07of a later form"))
	require.ErrorIs(t, err, ErrNewer)
}

// memoryOf is a Memory that may fail.
type memoryOf struct {
	b   []byte
	err error
}

func (m *memoryOf) Load() ([]byte, error) { return m.b, nil }
func (m *memoryOf) Save(b []byte) error {
	if m.err == nil {
		m.b = b
	}
	return m.err
}

// A gate opens when the version is noted down, not before, and never closes.
func TestGateOpensWhenNoted(t *testing.T) {
	m := &memoryOf{err: errors.New("disk")}
	n := &Node{c: Config{Memory: m}}
	require.False(t, n.Active(1))
	require.Error(t, n.note(&ClusterState{Version: 2}))
	require.False(t, n.Active(1))
	m.err = nil
	require.NoError(t, n.note(&ClusterState{Version: 2}))
	require.True(t, n.Active(2))
	require.False(t, n.Active(3))
	v, err := NotedVersion(m.b)
	require.NoError(t, err)
	require.EqualValues(t, 2, v)
	require.NoError(t, n.note(&ClusterState{Version: 1}), "a picture that came late")
	require.EqualValues(t, 2, n.Version())
}

// A release that is too old, or too new, does not touch what a node has written.
func TestNotesOfAnotherVersion(t *testing.T) {
	for _, c := range []struct {
		noted   Version
		refused bool
	}{{1, true}, {2, false}, {3, false}, {4, true}} {
		m := &memoryOf{b: encodeNotes([]uint64{8}, &ClusterState{Version: c.noted})}
		before := string(m.b)
		n := &Node{c: Config{NodeID: 1, Memory: m, Versions: Versions{2, 3}}, router: &Router{directory: NewDirectory()}}
		err := n.remember()
		if !c.refused {
			require.NoError(t, err)
			require.True(t, n.Active(c.noted))
			continue
		}
		require.Equal(t, Refused, CodeOf(err))
		require.ErrorContains(t, err, "it speaks version 2 to 3")
		require.Equal(t, before, string(m.b))
		require.False(t, n.Active(1))
	}
}

// A node that comes back with a release that is too old is refused by any other node's
// picture before its replicas run.
func TestPictureOfANewerVersion(t *testing.T) {
	for version, refused := range map[Version]bool{0: false, 1: false, 2: true} {
		n := &Node{c: Config{NodeID: 2, Versions: Versions{1, 1}}}
		n.router = &Router{self: "2", directory: NewDirectory(), transport: pictured{&ClusterState{Version: version}}}
		n.state.Store(&ClusterState{Version: 1, Members: []Member{{ID: 1}, {ID: 2}}})
		n.memory.lives = []uint64{50}
		require.Equal(t, refused, CodeOf(n.checkLife(t.Context())) == Refused)
	}
}

// futureCommands are what a release after this one might write to a log.
func futureCommands() map[string][]byte {
	flags := (&Command{Kind: KindBeginEpoch, Epoch: 1, Node: 1, Process: 99}).AppendBinary(nil)
	flags[len(flags)-1] = 1 << 6
	return map[string][]byte{
		"a kind":                {formatVersion, 200, 1},
		"a version":             {formatVersion + 1, byte(KindPutRecord), 1},
		"a flag of an epoch":    flags,
		"a kind with a payload": append([]byte{formatVersion, 199, 1}, "payload"...),
	}
}

// A replica that meets a command it does not know stops there: what came before is
// applied, what comes after is not, whoever asks.
func TestCommandsOfALaterRelease(t *testing.T) {
	for name, command := range futureCommands() {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, new(Command).Decode(command), ErrNewer)
			e := newTestEngine(t)
			m, err := openTestMachine(e, 1)
			require.NoError(t, err)
			_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 99})
			require.NoError(t, err)
			known := (&Command{Kind: KindPutRecord, Epoch: 1, Name: "n", Value: []byte("v")}).AppendBinary(nil)
			entries := []paxos.Entry{{Index: 2, Command: command}, {Index: 3, Command: known}}
			err = m.Apply(entries)
			require.ErrorIs(t, err, ErrNewer)
			require.ErrorContains(t, err, "entry 2")
			require.Nil(t, entries[0].Result)
			require.Nil(t, entries[1].Result)
			require.ErrorIs(t, m.Apply([]paxos.Entry{{Index: 3, Command: known}}), ErrNewer, "it is not left out either")
			_, stored, err := m.Record("n")
			require.NoError(t, err)
			require.False(t, stored)
			again, err := openTestMachine(e, 1)
			require.NoError(t, err)
			require.EqualValues(t, 1, again.index, "the next start meets it again")
		})
	}
}

// Damage is not taken for a newer release, nor the other way round.
func TestDamageIsNotNewer(t *testing.T) {
	require.NotErrorIs(t, new(Command).Decode([]byte{formatVersion, byte(KindPutRecord)}), ErrNewer)
	require.NotErrorIs(t, new(Command).Decode([]byte{0, byte(KindPutRecord)}), ErrNewer)
	require.NotErrorIs(t, new(Command).Decode(nil), ErrNewer)
}

// An owner register with a flag of a later release keeps the shard from being opened.
func TestOwnerOfALaterRelease(t *testing.T) {
	e := newTestEngine(t)
	b := e.Space(1).NewBatch()
	o := (&ownership{Epoch: 1, Node: 1, Process: 2}).AppendBinary(nil)
	o[len(o)-1] = 1 << 5
	b.PutMeta(metaOwner, o)
	b.SetApplied(storage.Applied{Replica: 1, Index: 1})
	require.NoError(t, b.Commit())
	_, err := openTestMachine(e, 1)
	require.ErrorIs(t, err, ErrNewer)
}

// A request that this release does not know is answered, at once, with an error that
// says that nothing was done.
func TestRequestsOfALaterRelease(t *testing.T) {
	s := &Server{Replica: func(ID) *Replica { t.Error("a replica was asked"); return nil }}
	header := (&envelope{method: methodRead, shard: 1, timeout: time.Minute}).appendHeader(nil)
	method := append([]byte(nil), header...)
	method[1] = 250
	for name, c := range map[string]struct {
		request []byte
		want    string
	}{
		"a method":               {append(method, "whatever"...), "method 250"},
		"an envelope":            {append([]byte{formatVersion + 1}, header[1:]...), "newer release"},
		"a message":              {append(append([]byte(nil), header...), formatVersion+1, 1, 2, 3), "newer release"},
		"a message's own damage": {append(append([]byte(nil), header...), formatVersion, 1, 2, 3), "malformed"},
		"nothing":                {nil, "malformed"},
	} {
		err := decodeResponse(s.Serve(t.Context(), c.request), &Done{})
		require.Equal(t, BadRequest, CodeOf(err), name)
		require.ErrorContains(t, err, c.want, name)
		require.ErrorContains(t, err, "this node speaks version "+Supported().String(), name)
	}
}
