// Package fastpath recognises the statements that applications send all day, and
// nothing else: it is text and syntax trees in, a short description out. It knows
// no session, no schema and no row.
//
// # What it promises
//
// Two texts of the same shape parse to the same tree, up to the values of their
// literals (Shape). What Recognise describes means what the description says and
// nothing more: every clause that the description has no place for, and every
// construct that this package does not know, is refused. Refusing is never wrong;
// the engine runs the statement then.
//
// # The order of events
//
// A text is cut into its shape and its literals, without parsing it. The first
// text of a shape is parsed and described; later ones only bring their values.
// Whoever has the schema decides whether the description is that of a statement
// by primary key, and executes it (package sqlfront, fast_*.go).
//
// # What it does not do
//
// It does not look at types: whether a literal means the same to a column as to
// the engine is decided where the column is known. Texts with comments, quotes
// inside of strings, double quotes, variables, or several statements are left to
// the engine without a second look.
package fastpath
