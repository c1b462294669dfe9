package main

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// sizes are what a server may keep in memory, in bytes.
type sizes struct {
	cache    int64 // of stored blocks
	memTable int64 // of one table in memory; there may be four
	txn      int64 // writes of one transaction
	limit    int64 // from which on the garbage collector works harder; 0: never
}

// sizesFor divides memory, 0 if it is not known. The garbage collector lets what is
// kept grow to about twice its size before it looks, so that cache and tables in
// memory may take half of it in all, and one transaction a quarter.
func sizesFor(memory int64) sizes {
	const mib = 1 << 20
	if memory <= 0 {
		return sizes{cache: 256 * mib, memTable: 64 * mib, txn: 1024 * mib}
	}
	return sizes{
		cache:    min(max(memory/8, 16*mib), 8<<30),
		memTable: min(max(memory/64, 4*mib), 64*mib),
		txn:      min(max(memory/4, 64*mib), 1024*mib),
		limit:    memory - memory/8,
	}
}

// sizes are those of the configuration, and of what it leaves open those that fit
// the memory of the machine.
func (c *startConfig) sizes(machine fs.FS) sizes {
	memory := c.MemoryMB << 20
	if memory == 0 {
		memory = memoryOf(machine)
	}
	s := sizesFor(memory)
	if c.CacheMB > 0 {
		s.cache = c.CacheMB << 20
	}
	if c.TxnMB > 0 {
		s.txn = c.TxnMB << 20
	}
	return s
}

// memoryOf is the memory that this process may use: the machine's, or the least
// limit of a control group that it is in. root is the file system; 0 is unknown.
func memoryOf(root fs.FS) int64 {
	memory := int64(math.MaxInt64)
	if text, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				memory = min(memory, number(f[1], 1<<10))
			}
		}
	}
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		switch {
		case part[0] == "0":
			memory = min(memory, leastOf(root, "sys/fs/cgroup", part[2], "memory.max"))
		case part[1] == "memory":
			memory = min(memory, leastOf(root, "sys/fs/cgroup/memory", part[2], "memory.limit_in_bytes"))
		}
	}
	if memory == math.MaxInt64 {
		return 0
	}
	return memory
}

// leastOf is the least limit of a control group and those above it. In a container
// the group's path may be one that only the machine outside knows: then there is
// the mount alone.
func leastOf(root fs.FS, mount, group, file string) int64 {
	least := int64(math.MaxInt64)
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		if text, err := fs.ReadFile(root, path.Join(mount, group, file)); err == nil {
			least = min(least, number(strings.TrimSpace(string(text)), 1))
		}
		if group == "/" {
			return least
		}
	}
}

// number reads a count of units; what is none ("max") is no limit.
func number(text string, unit int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return math.MaxInt64
	}
	return n * unit
}
