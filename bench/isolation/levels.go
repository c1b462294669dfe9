package main

import "github.com/rowlockdb/rowlock/bench/isolation/history"

// level is an isolation level with what is promised there.
type level struct {
	name, title string
	setup       []string // for each session
	model       history.Model
	// must: the level has at least one of these under load, or the load is too
	// gentle to prove anything.
	must []string
}

const (
	serializable   = "serializable"
	repeatableRead = "repeatable-read"
	readCommitted  = "read-committed"
	innodb         = "off"
)

var levels = []level{
	{name: serializable, title: "SERIALIZABLE", setup: isolation("SERIALIZABLE"), model: history.StrictSerializable},
	{name: repeatableRead, title: "REPEATABLE READ", setup: isolation("REPEATABLE READ"), model: history.StrongSnapshotIsolation},
	{name: readCommitted, title: "READ COMMITTED", setup: isolation("READ COMMITTED"), model: history.ReadCommitted},
	{
		name: innodb, title: "REPEATABLE READ, snapshot_isolation=OFF",
		setup: append(isolation("REPEATABLE READ"), "SET SESSION snapshot_isolation = OFF"),
		model: history.ReadCommitted,
		must:  []string{history.LostUpdate, history.GSingle},
	},
}

func isolation(name string) []string {
	return []string{"SET SESSION TRANSACTION ISOLATION LEVEL " + name}
}

func levelNames() []string {
	var names []string
	for _, l := range levels {
		names = append(names, l.name)
	}
	return names
}

// mode is a load with the levels at which its expectation holds.
type mode struct {
	name   string
	levels []string
	new    func(*execution) load
}
