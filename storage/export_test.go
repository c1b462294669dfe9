package storage

// EncodeFormat gives tests the format file of any version.
var EncodeFormat = encodeFormat

// FormatVersion is the one this program writes.
const FormatVersion = formatVersion
