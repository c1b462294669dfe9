package main

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// The memory is the least of the machine's and of what the control groups allow,
// those of version 1 and 2, with their parents.
func TestMemoryOf(t *testing.T) {
	meminfo := "MemTotal:       24576 kB\nMemFree:        1 kB\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing known":     {nil, 0},
		"no group":          {map[string]string{"proc/meminfo": meminfo}, 24 * mib},
		"damaged":           {map[string]string{"proc/meminfo": "MemTotal: x\nMemTotal:\n", "proc/self/cgroup": "0\nx:y\n\n"}, 0},
		"no limit":          {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 24 * mib},
		"its own":           {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1048576\n"}, mib},
		"its parent's":      {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "9048576\n", "sys/fs/cgroup/a/memory.max": "1048576\n"}, mib},
		"inside":            {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, mib},
		"a path of outside": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "1048576\n"}, mib},
		"version 1":         {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "7:cpu:/c\n5:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576\n"}, mib},
		"version 1, none":   {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "5:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 24 * mib},
		"more than there is": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "999999999999\n"}, 24 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for f, text := range test.files {
				root[f] = &fstest.MapFile{Data: []byte(text)}
			}
			require.Equal(t, test.want, memoryOf(root))
		})
	}
}

// What is left open follows the memory; what is given stands.
func TestSizes(t *testing.T) {
	machine := func(kb string) fstest.MapFS {
		return fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: " + kb + " kB\n")}}
	}
	for name, test := range map[string]struct {
		config  startConfig
		machine fstest.MapFS
		want    sizes
	}{
		"unknown":          {startConfig{}, fstest.MapFS{}, sizes{256 * mib, 64 * mib, 1024 * mib, 0}},
		"64 MiB":           {startConfig{}, machine("65536"), sizes{16 * mib, 4 * mib, 64 * mib, 56 * mib}},
		"1 GiB":            {startConfig{}, machine("1048576"), sizes{128 * mib, 16 * mib, 256 * mib, 896 * mib}},
		"64 GiB":           {startConfig{}, machine("67108864"), sizes{8192 * mib, 64 * mib, 1024 * mib, 57344 * mib}},
		"given memory":     {startConfig{MemoryMB: 1024}, machine("67108864"), sizes{128 * mib, 16 * mib, 256 * mib, 896 * mib}},
		"given, each":      {startConfig{CacheMB: 7, TxnMB: 9}, machine("1048576"), sizes{7 * mib, 16 * mib, 9 * mib, 896 * mib}},
		"given, all three": {startConfig{MemoryMB: 1024, CacheMB: 900, TxnMB: 2000}, fstest.MapFS{}, sizes{900 * mib, 16 * mib, 2000 * mib, 896 * mib}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.config.sizes(test.machine)) })
	}
}
