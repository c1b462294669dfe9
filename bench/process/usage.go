package process

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc's CPU times on Linux, whatever the kernel's own.
const clockTick = 10 * time.Millisecond

// CPU is the processor time that a process has used, in user and system mode,
// threads that ended included.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	ticks, err := parseTicks(string(stat))
	if err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	return time.Duration(ticks) * clockTick, nil
}

// parseTicks adds the 14th and 15th field of stat. The second field is a name in
// brackets, which may hold anything.
func parseTicks(stat string) (int, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields after the name", len(fields))
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return user + system, err
}

// Memory is what a process holds of the machine's memory, in bytes.
type Memory struct {
	Resident int64
	Peak     int64 // the most it was ever
}

// MemoryOf reads it from the system.
func MemoryOf(pid int) (Memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of %d: %w", pid, err)
	}
	return parseMemory(string(status)), nil
}

var memoryLine = regexp.MustCompile(`(?m)^(VmRSS|VmHWM):\s+(\d+) kB`)

func parseMemory(status string) (m Memory) {
	for _, found := range memoryLine.FindAllStringSubmatch(status, -1) {
		kb, _ := strconv.ParseInt(found[2], 10, 64)
		if found[1] == "VmRSS" {
			m.Resident = kb << 10
		} else {
			m.Peak = kb << 10
		}
	}
	return m
}

// MachineCPU is the processor time that everything on the machine has used.
func MachineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("processor time of the machine: %w", err)
	}
	return parseMachine(string(stat))
}

// parseMachine reads the line of all processors: user, nice, system, idle, iowait,
// irq, softirq. What a hypervisor took comes behind and is not used here.
func parseMachine(stat string) (busy time.Duration, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("processor time of the machine: %q", line)
	}
	for _, i := range []int{1, 2, 3, 6, 7} {
		ticks, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, fmt.Errorf("processor time of the machine: %w", err)
		}
		busy += time.Duration(ticks) * clockTick
	}
	return busy, nil
}
