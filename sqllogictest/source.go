package sqllogictest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxIncludes bounds how deep scripts may include each other.
const maxIncludes = 32

var scriptSuffixes = []string{".test", ".slt"}

// Find returns the scripts behind paths, each once and in order: a file is
// itself whatever its name, a folder gives every *.test and *.slt below it,
// plain or with .gz or .zst behind, and anything else is a glob. A path that
// matches nothing is an error.
func Find(paths ...string) ([]string, error) {
	var found []string
	for _, path := range paths {
		matched, err := find(path)
		if err != nil {
			return nil, err
		}
		if len(matched) == 0 {
			return nil, fmt.Errorf("no script at %s", path)
		}
		found = append(found, matched...)
	}
	seen := make(map[string]bool, len(found))
	return slices.DeleteFunc(found, func(name string) bool {
		twice := seen[name]
		seen[name] = true
		return twice
	}), nil
}

func find(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return walk(path)
	case err == nil:
		return []string{filepath.Clean(path)}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("find scripts: %w", err)
	}
	names, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("glob %s: %w", path, err)
	}
	var found []string
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("find scripts: %w", err)
		}
		if !info.IsDir() {
			found = append(found, name)
			continue
		}
		below, err := walk(name)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return found, nil
}

func walk(folder string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && isScript(path) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find scripts: %w", err)
	}
	return found, nil
}

func isScript(path string) bool {
	return slices.Contains(scriptSuffixes, filepath.Ext(trimCompression(path)))
}

func trimCompression(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path, ".gz"), ".zst")
}

// Load reads the script at path with everything it includes. Included names
// are relative to the file that names them and may be globs.
func Load(path string) (*Script, error) {
	script := &Script{Path: path}
	if err := load(script, path, nil, 0); err != nil {
		return nil, err
	}
	return script, nil
}

func load(script *Script, path string, from *Position, depth int) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	p, err := parse(path, from, bytes.NewReader(text))
	if err != nil {
		return err
	}
	done := 0
	for _, in := range p.includes {
		script.Records = append(script.Records, p.records[done:in.at]...)
		done = in.at
		if depth == maxIncludes {
			return &SyntaxError{in.pos, "includes are nested too deep; does a script include itself?"}
		}
		if err := loadIncluded(script, in, depth); err != nil {
			return err
		}
	}
	script.Records = append(script.Records, p.records[done:]...)
	return nil
}

func loadIncluded(script *Script, in include, depth int) error {
	pattern := in.pattern
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(in.pos.File), pattern)
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return &SyntaxError{in.pos, fmt.Sprintf("include %q: %v", in.pattern, err)}
	}
	if len(names) == 0 {
		return &SyntaxError{in.pos, fmt.Sprintf("include %q matches no file", in.pattern)}
	}
	for _, name := range names {
		if err := load(script, name, &in.pos, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// readFile reads a file that may be compressed; its name says how.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open script: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".gz":
		zr, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("open gzip script %s: %w", path, err)
		}
		r = zr
	case ".zst":
		zr, err := zstd.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("open zstd script %s: %w", path, err)
		}
		defer zr.Close()
		r = zr
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read script %s: %w", path, err)
	}
	return text, nil
}

// writeFile replaces a file by way of a temporary one beside it, compressed as
// its name says.
func writeFile(path string, text []byte) error {
	var buf bytes.Buffer
	var w io.WriteCloser
	switch filepath.Ext(path) {
	case ".gz":
		w = gzip.NewWriter(&buf)
	case ".zst":
		zw, err := zstd.NewWriter(&buf)
		if err != nil {
			return fmt.Errorf("compress %s: %w", path, err)
		}
		w = zw
	}
	if w != nil {
		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("compress %s: %w", path, err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("compress %s: %w", path, err)
		}
		text = buf.Bytes()
	}
	temporary := path + ".rewrite"
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return fmt.Errorf("rewrite script: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("rewrite script: %w", err)
	}
	return nil
}
