// Package authtest checks that a backend of package auth keeps its contract.
//
// An author calls [Run] from a test of the backend:
//
//	func TestBackend(t *testing.T) {
//		authtest.Run(t, func(t *testing.T) auth.Backend { return mybackend.New(…) })
//	}
package authtest
