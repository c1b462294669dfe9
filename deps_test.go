package rowlock_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is the prefix of our own packages.
const module = "github.com/rowlockdb/rowlock"

// mayImport says which of our packages each of our packages may import, tests
// apart. A name with "/..." stands for the package and all below it. A package
// is judged by the longest name that fits it; one that fits none may import
// nothing of ours.
var mayImport = map[string][]string{
	"cmd/...":      {"", "sqllogictest"},
	"examples/...": {""},
	"bench/...":    {"", "bench/process", "bench/workload", "bench/isolation/history", "sqllogictest", "ring/...", "locks/...", "storage/...", "paxos/...", "shard/...", "txn/...", "sqlfront/..."},

	// The checker of histories is arithmetic; it trusts nothing that it judges.
	"bench/isolation/history": {},
	// A workload is the same on every server; it knows none.
	"bench/workload": {},

	"":                 {"sqlfront", "txn", "shard", "shard/transport", "ring", "storage", "paxos", "paxos/dragon"},
	"sqlfront/...":     {"sqlfront/...", "txn/...", "storage/...", "ring"},
	"sqlfront/codec":   {"storage/..."},
	"sqlfront/reduce":  {"sqlfront/codec"},
	"sqlfront/wire":    {"txn"},
	"txn/...":          {"txn/...", "shard", "storage", "ring"},
	"shard/...":        {"shard/...", "ring", "locks", "storage", "paxos", "paxos/alone"},
	"ring/...":         {"ring/..."},
	"locks/...":        {"locks/..."},
	"storage/...":      {"storage/..."},
	"paxos/...":        {"paxos/..."},
	"sqllogictest/...": {},
	"shard/transport":  {"shard"},
	"paxos/alone":      {"paxos"},
	"paxos/memory":     {"paxos"},
	"paxos/logstore":   {"paxos"},
}

// onlyIn says which of our packages may import a foreign module, tests apart.
// The longest name that fits an import counts.
var onlyIn = map[string][]string{
	"github.com/lni/dragonboat/v4":     {"paxos/dragon/...", "paxos/logstore/..."},
	"github.com/lni/vfs":               {"paxos/dragon/...", "paxos/logstore/..."},
	"github.com/cockroachdb/pebble/v2": {"storage/...", "paxos/logstore/..."},
	// The consensus host hands a file system through to its log store.
	"github.com/cockroachdb/pebble/v2/vfs": {"storage/...", "paxos/logstore/...", "paxos/dragon"},
	"github.com/cockroachdb/pebble":        {},
	"github.com/dolthub/go-mysql-server":   {"sqlfront/...", "bench/..."},
	"github.com/dolthub/vitess":            {"sqlfront/..."},
	"github.com/go-sql-driver/mysql":       {"", "cmd/...", "examples/...", "bench/...", "sqlfront/..."},
	"github.com/spf13/cobra":               {"cmd/..."},
	"github.com/knadh/koanf":               {"cmd/..."},
	"github.com/jedib0t/go-pretty/v6":      {"cmd/...", "bench/..."},
	"github.com/reeflective/readline":      {"cmd/..."},
	"storj.io/drpc":                        {"bench/rpc"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// ours lists the module's packages with their imports.
func ours(t *testing.T) []goPackage {
	t.Helper()
	tags := "-tags=gms_pure_go"
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", tags, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// TestImports fails on an import that goes up, sideways, or past the package
// that a foreign module is kept behind.
func TestImports(t *testing.T) {
	for _, p := range ours(t) {
		name, _ := own(p.ImportPath)
		for _, imported := range p.Imports {
			if problem := judge(name, imported); problem != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, problem)
			}
		}
	}
}

// own cuts the module's prefix off; "" is the root package.
func own(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func judge(name, imported string) string {
	if target, ok := own(imported); ok {
		rule := longest(name, mayImport)
		if !fitsAny(target, mayImport[rule]) {
			return "not in the list of " + rule
		}
		return ""
	}
	for foreign := imported; foreign != "."; foreign = path.Dir(foreign) {
		if allowed, ok := onlyIn[foreign]; ok {
			if !fitsAny(name, allowed) {
				return foreign + " is kept behind " + strings.Join(allowed, ", ")
			}
			return ""
		}
	}
	return ""
}

// longest is the most specific rule for a package.
func longest(name string, rules map[string][]string) string {
	best := "no rule"
	for rule := range rules {
		if fits(name, rule) && (best == "no rule" || len(rule) > len(best)) {
			best = rule
		}
	}
	return best
}

func fits(name, rule string) bool {
	base, below := strings.CutSuffix(rule, "/...")
	return name == base || below && strings.HasPrefix(name, base+"/")
}

func fitsAny(name string, rules []string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool { return fits(name, rule) })
}

// TestImportsRule shows that the rules above catch what they are for.
func TestImportsRule(t *testing.T) {
	for _, c := range []struct {
		name, imported string
		allowed        bool
	}{
		{"cmd/rowlock", module, true},
		{"cmd/rowlock", module + "/shard", false},
		{"txn", module + "/shard", true},
		{"shard", module + "/txn", false},
		{"locks", module + "/storage", false},
		{"storage", module + "/storage/keycodec", true},
		{"sqllogictest", module + "/storage", false},
		{"paxos/memory", module + "/paxos/dragon", false},
		{"storage", "github.com/cockroachdb/pebble/v2/vfs", true},
		{"shard", "github.com/cockroachdb/pebble/v2", false},
		{"storage", "github.com/cockroachdb/pebble", false},
		{"shard", "github.com/lni/dragonboat/v4/raftio", false},
		{"txn", "github.com/dolthub/go-mysql-server/sql", false},
		{"newpackage", module + "/ring", false},
	} {
		if got := judge(c.name, c.imported) == ""; got != c.allowed {
			t.Errorf("%q importing %q: allowed %v, want %v", c.name, c.imported, got, c.allowed)
		}
	}
}

// pins are versions that must stay exactly as they are: the consensus library
// does not compile with any newer release of its own store.
var pins = map[string]string{
	"github.com/cockroachdb/pebble": "v0.0.0-20221207173255-0f086d933dac",
}

func TestPins(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pins {
		m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(name) + ` (\S+)`).FindSubmatch(text)
		if m == nil || string(m[1]) != want {
			t.Errorf("go.mod has %s at %q, want %s", name, m, want)
		}
	}
}
