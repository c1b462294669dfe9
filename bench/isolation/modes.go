package main

// The loads, with the levels at which what they ask for is promised.
var modes = []mode{
	{"append", []string{serializable, repeatableRead, readCommitted, innodb}, newAppends},
	{"register", []string{serializable, repeatableRead, readCommitted}, newRegisters},
	{"bank", []string{serializable, repeatableRead, readCommitted, innodb}, newBank},
	{"fork", []string{serializable, repeatableRead}, newForks},
	{"monotonic", []string{serializable, repeatableRead}, newMonotonic},
	{"unique", []string{serializable, repeatableRead, readCommitted, innodb}, newUnique},
	{"autoincrement", []string{repeatableRead, readCommitted}, newAutoincrement},
	{"ddl", []string{repeatableRead, readCommitted}, newDDL},
}

func modeNames() []string {
	var names []string
	for _, m := range modes {
		names = append(names, m.name)
	}
	return names
}
