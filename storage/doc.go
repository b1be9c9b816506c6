// Package storage keeps blobs: sources and artifacts of builds. A blob is a
// sequence of bytes that never changes, named by its SHA-256 digest within a
// project. The package knows bytes only. Names, owners, quotas and whether a
// blob is still wanted are rows of a database that is elsewhere.
//
// A Store is what users call. It checks names, sizes and digests while bytes
// stream through it, and leaves keeping them to a Backend: package filestore on
// a local file system, package memstore in memory, or your own.
//
//	backend, err := filestore.New(dir, nil)
//	if err != nil {
//		return err
//	}
//	defer backend.Close()
//	store := storage.New(backend, &storage.Options{MaxBlobBytes: 1 << 30})
//
//	blob := storage.Blob{Digest: digest, Size: size} // declared by the sender
//	err = store.Put(ctx, "web", blob, request.Body)
//	if errors.Is(err, storage.ErrDigest) {
//		// other bytes came than were declared; nothing is stored
//	}
//
//	r, err := store.Open(ctx, "web", digest, 0, -1)
//
// # What it guarantees
//
// A blob is visible whole or not at all, and only if its bytes have the size
// and digest under which it can be found. No reader, crash or cancellation in
// the middle of a Put shows a part of it.
//
// Once Put has returned nil, the blob is as durable as the backend gets. So
// write the row that refers to a blob after Put, never before.
//
// The same blob is kept once per project. Projects share nothing: what only
// another project has does not exist, so nobody can read it, or learn that it is
// there, by knowing its digest.
//
// Sizes are enforced before and while bytes are read: Put takes at most one
// byte more than was declared from its reader, and nothing when too much was
// declared.
//
// Names cannot escape. A Key can only be made valid, and its string is safe as
// a path of a file and as the name of an object.
//
// # What it does not guarantee
//
// It does not know which blobs are referred to. Delete deletes; see there for
// what must not happen at the same time.
//
// It does not repair. Bytes that changed on disk are found when a whole blob is
// read by Open, not by OpenSeeker and not by a look at Stat. A client that has
// the digest should check it.
//
// It has no quota, and it does not authorize: who may name a project may read
// and delete what is in it.
//
// # Serving over HTTP
//
// OpenSeeker fits http.ServeContent, which answers ranges and conditions. With
// a backend that is a FileOpener the reader is an *os.File, and the kernel can
// send it without copying, provided that the http.ResponseWriter is still an
// io.ReaderFrom after all middleware. Errors of this package hold facts of the
// server: answer with a status of your own (ErrNotFound 404, ErrInvalid 400,
// ErrTooLarge 413, ErrDigest 422, ErrNoSpace 507) and log the error.
//
// # Implementing a Backend
//
// A Backend has five methods and no policy: the Store has checked the arguments
// and verifies content on its way. What is left is to publish atomically, to
// be exact about ErrNotFound and about ranges, to list in order, and never to
// let one slow upload hold up other calls. The comment of Backend is the whole
// contract. FileOpener and Pinger are optional.
//
// # Testing
//
// Package storagetest holds the contract as a test suite for any Backend. Tests
// of code that uses a Store need no fakes: storage.New(memstore.New(), nil) is
// the real thing.
package storage
