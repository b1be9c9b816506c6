// Package storelogs lets a queue.Queue keep archived logs in a storage.Backend. Neither of those packages knows the other; this one
// knows both.
//
//	logs, err := filestore.New("/var/lib/slipway/logs", nil)
//	if err != nil {
//		return err
//	}
//	q := queue.New(backend, &queue.Options{Archive: storelogs.New(logs), Retention: 30 * 24 * time.Hour})
//
// # Names
//
// A log is looked for, and removed, by the attempt that wrote it. So its object is not named by its bytes, as the blobs of a storage.Store
// are, but by its attempt: in place of the digest, the key has the two halves of the build's id, the second first, the epoch as a big-endian
// number of 8 bytes, and the text "slip log". Projects are those of the queue.
//
// That is why New asks for a backend and not for a Store, which would refuse those keys, and why the backend must take a key for a name, as
// filestore and memstore do. Give logs a backend of their own, such as another directory: a Store on the same one lists logs among its
// blobs, and takes them for damaged.
//
// # What it guarantees
//
// An object is there whole or not at all, and as durable as the backend gets, once Put has returned nil.
//
// One that is there already is kept if it unpacks into the same log, by whatever compressor it was made. Else it is of an attempt that is no
// more: where a database was set back, to a backup or a standby that lagged behind, an attempt of the same number may run again, and write
// another log. Then it is removed, and the new one put. If that fails in between there is none until Put is called again, as the queue does
// while its database has the log.
package storelogs
