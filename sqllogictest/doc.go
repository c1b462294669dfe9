// Package sqllogictest runs SQL scripts against any database/sql endpoint.
//
// It reads the format of SQLite's sqllogictest
// (https://www.sqlite.org/sqllogictest/doc/trunk/about.wiki) and the extensions
// that today's public collections use, which come from the Rust program
// sqllogictest-rs: expected error texts, row counts, includes, named
// connections, retries, variables, sub-tests.
//
// # Order of events
//
//	Find   names of scripts, from files, folders and globs
//	Load   one script with everything it includes, parsed completely
//	Run    every script in a database of its own, several at a time
//	Report counts by folder, the first failures, JSON, JUnit, rewritten files
//
// A script is parsed to its end before its first record runs, so a malformed
// script changes nothing: its report holds the file, the line and the reason,
// and the other scripts still run.
//
// # What a record means
//
// A record runs when its skipif and onlyif lines allow it for the names in
// Options.Engines; otherwise it counts as skipped. A statement passes when its
// outcome is the one written beside it. A query passes when the number of
// columns agrees, the values agree, and no earlier query with the same label
// in the same script gave another result.
//
// Values are written as the original program writes them: integers for I,
// three decimals for R, and text for T where an empty string is (empty), NULL
// is NULL and bytes outside printable ASCII are '@'. Expected results may be
// one value a line (the original format), one row a line with values separated
// by blanks (sqllogictest-rs), or a count and an MD5 hash.
//
// # What protects what
//
// One goroutine runs one script, in order; scripts share nothing but the
// report, which has its own mutex, and the server. A statement that exceeds
// its time limit fails alone: its connection is thrown away and a new one takes
// its place, so a session variable set before does not survive it.
//
// # What it does not do
//
// It does not run "system" records unless told to, because they are shell
// commands. It imports nothing of the database it tests.
package sqllogictest
