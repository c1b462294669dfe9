package dragon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lni/vfs"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
)

// Defaults of Options. What a data directory is made with cannot change later;
// it is in host.go, not here.
const (
	// DefaultRTT is the length of a tick: the unit of elections, heartbeats and
	// timeouts.
	DefaultRTT = 10 * time.Millisecond
	// soloElection is how many ticks a group with one voter waits before it
	// elects itself (once to twice as many, by chance).
	soloElection = 10
	// peerElection is the same for groups with several voters: half a second to
	// a second at the default tick.
	peerElection = 50
	// DefaultLogBytes is how much of the log of a group is written between two
	// snapshots, which let it be dropped.
	DefaultLogBytes = 64 << 20
)

// Options for Open.
type Options struct {
	// Dir belongs to this package alone. It is created when it does not exist.
	Dir string
	// NodeHostID is the id of this host, a UUID in its usual text form. Empty
	// means the stored one, or a new one in a new directory.
	NodeHostID string
	// Address is the host:port under which other hosts reach this one. Empty
	// means that the host talks to nobody outside the process, except by Wire.
	Address string
	// Listen is the host:port to listen on, Address when empty.
	Listen string
	// Resolve turns a node target, which is a host id, into an address, for Wire
	// into what its Dial takes. Nil means that the target is looked up as it is.
	Resolve func(target string) (address string, err error)
	// TLS makes hosts prove who they are to each other. Nil is plain TCP.
	TLS *TLS
	// Wire carries the traffic between hosts over connections of somebody else;
	// Address stays empty then. A host that has once been used with an Address
	// cannot change over to one.
	Wire Wire
	// SnapshotRate bounds what this host sends in snapshots over Wire, in bytes a
	// second, all groups together; 0 is no bound.
	SnapshotRate int64
	// Network connects hosts of one process; used when Address and Wire are empty.
	Network *Network
	// RTT is the tick, DefaultRTT when zero; whole milliseconds, the same on
	// all hosts.
	RTT time.Duration
	// Election is the election timeout in ticks; zero chooses by the number of
	// founding voters.
	Election uint64
	// LogBytes is DefaultLogBytes when zero.
	LogBytes int64
	// SnapshotEntries is how many entries are applied between two snapshots
	// when LogBytes has not come first; 50,000 when zero.
	SnapshotEntries uint64
	// Overhead is how many entries stay in the log behind a snapshot, for
	// replicas that lag; zero chooses by the number of founding voters.
	Overhead uint64
	// Failed is called, once and on any goroutine, when the host cannot go on
	// because its disk, its log or a state machine failed. It must not block. From
	// then on nothing is acknowledged, and proposals under way end with
	// paxos.ErrUnknownOutcome. nil panics.
	Failed func(error)
	// Logger gets this host's messages, and Dragonboat's, which has one logger
	// for the whole process: that of the host opened last. Nil drops them.
	Logger *slog.Logger
	// FS and LogFS replace the disk in tests: the first for Dragonboat's own
	// files, the second for the log.
	FS    vfs.FS
	LogFS pebblevfs.FS
}

// TLS names the files of mutual TLS, in PEM.
type TLS struct{ CA, Cert, Key string }

// uuidForm is what Dragonboat takes for a node target.
var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// withDefaults checks the options and fills in what is missing.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("dragon: no directory given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("dragon: directory %s: %w", o.Dir, err)
	}
	o.Dir = dir
	if o.NodeHostID != "" && !uuidForm.MatchString(o.NodeHostID) {
		return o, fmt.Errorf("dragon: host id %q is not a UUID in lower case", o.NodeHostID)
	}
	if o.Wire != nil && (o.Address != "" || o.Network != nil) {
		return o, errors.New("dragon: a host has one of Address, Wire and Network")
	}
	if o.RTT == 0 {
		o.RTT = DefaultRTT
	}
	if o.RTT < time.Millisecond || o.RTT%time.Millisecond != 0 {
		return o, fmt.Errorf("dragon: tick of %s is not a whole number of milliseconds", o.RTT)
	}
	if o.LogBytes == 0 {
		o.LogBytes = DefaultLogBytes
	}
	if o.SnapshotEntries == 0 {
		o.SnapshotEntries = 50_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Network == nil {
		o.Network = NewNetwork()
	}
	if o.Resolve == nil {
		o.Resolve = func(target string) (string, error) { return target, nil }
	}
	return o, nil
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Dragonboat reads these files from the working directory when the program
// starts and changes its inner constants by them, without a word.
var settingsFiles = []string{"dragonboat-soft-settings.json", "dragonboat-hard-settings.json"}

// foundSettings holds those of them that were there when the program started.
var foundSettings = findSettings(".")

func findSettings(dir string) []string {
	var found []string
	for _, name := range settingsFiles {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			found = append(found, name)
		}
	}
	return found
}

// checkSettings refuses to run with constants that somebody overrode.
func checkSettings(found []string) error {
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("dragon: the working directory holds %v, which would change Dragonboat's inner constants: move it away", found)
}
