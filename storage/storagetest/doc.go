// Package storagetest checks that a storage.Backend keeps its contract.
//
// The author of a backend calls Run from a test:
//
//	func TestBackend(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storage.Backend {
//			return mybackend.New(t.TempDir())
//		})
//	}
//
// Decorators are backends too: run the suite through them as well, and hand
// FileOpener and Pinger on if they are to be kept.
//
// What only the backend's own tests can show is durability (kill the process
// in the middle of a Put), that ErrNoSpace is returned when room runs out, and
// that a failed Put leaves nothing behind where List does not look.
package storagetest
