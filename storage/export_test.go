package storage

// EncodeFormat gives tests the format file of any version.
var EncodeFormat = encodeFormat
