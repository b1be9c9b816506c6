//go:build !(linux || darwin || freebsd)

package filestore

// isNoSpace cannot tell; a full disk is like any other failure of a Put.
func isNoSpace(error) bool { return false }
