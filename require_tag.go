//go:build !cgo && !gms_pure_go

package rowlock

// Without cgo the SQL engine needs the build tag gms_pure_go, see doc.go. The
// name below does not exist, so that the compiler prints it.
const _ = build_rowlock_with_the_tag_gms_pure_go__for_example__CGO_ENABLED_0_go_build_tags_gms_pure_go
