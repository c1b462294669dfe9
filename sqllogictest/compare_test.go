package sqllogictest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	other "github.com/dolthub/sqllogictest/go/logictest/parser"
	"github.com/stretchr/testify/require"
)

// TestAgainstAnotherReader reads scripts of the original format with this
// package and with the Go reader of DoltHub, which must agree on what runs and
// what is expected. ROWLOCK_SLT_CORPUS adds a folder of scripts.
func TestAgainstAnotherReader(t *testing.T) {
	paths := []string{"testdata/scripts/original.slt"}
	if corpus := os.Getenv("ROWLOCK_SLT_CORPUS"); corpus != "" {
		paths = append(paths, corpus)
	}
	files, err := Find(paths...)
	require.NoError(t, err)
	for _, file := range files {
		compareReaders(t, file)
	}
}

func compareReaders(t *testing.T, file string) {
	t.Helper()
	text, err := readFile(file)
	require.NoError(t, err)
	plain := filepath.Join(t.TempDir(), "a.test")
	require.NoError(t, os.WriteFile(plain, text, 0o644))

	theirs, err := other.ParseTestFile(plain)
	require.NoError(t, err, file)
	script, err := Load(file)
	require.NoError(t, err)
	ours := slices.DeleteFunc(script.Records, func(r Record) bool { return r.Kind == HashThreshold })
	require.Equal(t, len(theirs), len(ours), "records of %s", file)
	for i, their := range theirs {
		our := &ours[i]
		at := our.Position.String()
		require.Equal(t, their.ShouldExecuteForEngine("mysql"), our.Applies([]string{"mysql"}), at)
		require.Equal(t, map[other.RecordType]Kind{other.Statement: Statement, other.Query: Query, other.Halt: Halt}[their.Type()], our.Kind, at)
		require.Equal(t, plainSQL(their.Query()), plainSQL(our.SQL), at)
		if our.Kind == Statement {
			require.Equal(t, their.ExpectError(), our.WantError != nil, at)
		}
		if our.Kind == Query {
			require.Equal(t, their.Schema(), our.Types, at)
			require.Equal(t, their.Label(), our.Label, at)
			require.Equal(t, their.SortString(), our.Sort.String(), at)
			require.Equal(t, their.IsHashResult(), our.WantHash != "", at)
			require.Equal(t, len(their.Result()), len(our.Want), at)
		}
	}
}

// plainSQL drops what the other reader loses: line ends, comments and its own
// "----" that it appends.
func plainSQL(text string) string {
	var words []string
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words = append(words, strings.Fields(line)...)
	}
	return strings.TrimSuffix(strings.Join(words, ""), resultMark)
}
