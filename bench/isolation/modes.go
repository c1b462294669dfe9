package main

var modes = []mode{
	{"append", []string{serializable, repeatableRead, readCommitted, innodb}, newAppends},
}

func modeNames() []string {
	var names []string
	for _, m := range modes {
		names = append(names, m.name)
	}
	return names
}
