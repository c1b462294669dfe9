// Package codec turns SQL values into bytes and back: keys that sort as SQL sorts, and rows that survive a change of schema.
//
// # Keys
//
// A [KeyCodec] encodes the columns of one index, in index order. Compared bytewise, two keys stand in the same order as the
// values do under the column types' own comparison, NULL first (last in a descending column). Every column's encoding is
// self-delimiting, so the encoding of the first n columns is a prefix of the encoding of all of them: a prefix is a range.
//
// Strings are compared by the weights of their collation, not by their bytes. The key therefore holds the weights, and a
// column of a case-insensitive collation, or one with a prefix length, cannot be read back from its key ([KeyCodec.Decodable]
// says so). The weights are those of the SQL engine, one per character, and shorter strings sort first: trailing spaces count
// in every collation, also in those that MySQL documents as PAD SPACE, because a comparison in a filter and a comparison by
// key have to agree.
//
// [KeyCodec.Spans] turns the ranges the planner hands to an index into key spans, and says whether the spans hold exactly the
// rows of the ranges or rows that have to be checked again, with a [Check]. A bound need not be a value of its column: an index
// takes bounds in the [BoundType] of the column, which loses nothing, and a bound between two values parts them exactly. Only
// among floats a bound that is none keeps the float next to it inside the span: how such a number compares is up to the
// condition.
//
// # Rows
//
// A [RowCodec] writes a row as a version byte, the version of the schema that wrote it, and one tagged value per column, each
// under the column's stable id. A reader takes the columns it knows and skips the rest; a column that is missing has the
// default the reader's descriptor holds. Columns are thus added and dropped without touching a row.
//
// # Concurrency
//
// Both codecs are immutable after construction and safe for concurrent use. Decoded strings and byte slices never alias the
// input.
//
// # What it does not do
//
// It does not validate SQL: values are expected as the column type's Convert returns them, anything else is converted first.
// It reads no clock, no disk and no network. It knows nothing of tables, indexes or shards.
package codec
