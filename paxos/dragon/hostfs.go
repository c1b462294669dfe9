package dragon

import (
	"io"
	"os"
	"strings"

	"github.com/lni/vfs"
)

// hostFS gives Dragonboat's directory a fixed name. Dragonboat keeps its files
// under a directory named after the machine, so a machine with a new name
// would find nothing of what it had; here every such path is translated to
// one that does not depend on the name.
type hostFS struct {
	vfs.FS
	from, to string // absolute directories
}

// fixedHost is the name that takes the machine's place.
const fixedHost = "host"

func newHostFS(fs vfs.FS, dir, hostname string) *hostFS {
	return &hostFS{FS: fs, from: fs.PathJoin(dir, hostname), to: fs.PathJoin(dir, fixedHost)}
}

// path translates a path that lies at or under the machine's directory.
func (h *hostFS) path(p string) string {
	rest, ok := strings.CutPrefix(p, h.from)
	if !ok || rest != "" && !os.IsPathSeparator(rest[0]) {
		return p
	}
	return h.to + rest
}

func (h *hostFS) Create(name string) (vfs.File, error) { return h.FS.Create(h.path(name)) }

func (h *hostFS) Link(oldname, newname string) error {
	return h.FS.Link(h.path(oldname), h.path(newname))
}

func (h *hostFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return h.FS.Open(h.path(name), opts...)
}

func (h *hostFS) OpenDir(name string) (vfs.File, error) { return h.FS.OpenDir(h.path(name)) }

func (h *hostFS) OpenForAppend(name string) (vfs.File, error) {
	return h.FS.OpenForAppend(h.path(name))
}

func (h *hostFS) Remove(name string) error { return h.FS.Remove(h.path(name)) }

func (h *hostFS) RemoveAll(name string) error { return h.FS.RemoveAll(h.path(name)) }

func (h *hostFS) Rename(oldname, newname string) error {
	return h.FS.Rename(h.path(oldname), h.path(newname))
}

func (h *hostFS) ReuseForWrite(oldname, newname string) (vfs.File, error) {
	return h.FS.ReuseForWrite(h.path(oldname), h.path(newname))
}

func (h *hostFS) MkdirAll(dir string, perm os.FileMode) error {
	return h.FS.MkdirAll(h.path(dir), perm)
}

func (h *hostFS) Lock(name string) (io.Closer, error) { return h.FS.Lock(h.path(name)) }

func (h *hostFS) List(dir string) ([]string, error) { return h.FS.List(h.path(dir)) }

func (h *hostFS) Stat(name string) (os.FileInfo, error) { return h.FS.Stat(h.path(name)) }

func (h *hostFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	return h.FS.GetDiskUsage(h.path(path))
}
