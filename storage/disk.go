package storage

import "fmt"

// Disk tells how much of the disk under the engine is free for it, and how large it
// is. It is an error where the file system does not know.
func (e *Engine) Disk() (free, total uint64, err error) {
	usage, err := e.opts.FS.GetDiskUsage(e.opts.Dir)
	if err != nil {
		return 0, 0, fmt.Errorf("look at the space of %s: %w", e.opts.Dir, err)
	}
	return usage.AvailBytes, usage.TotalBytes, nil
}
