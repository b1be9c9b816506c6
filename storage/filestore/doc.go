// Package filestore keeps blobs as files of a local directory. It is a
// storage.Backend for one host: for the embedded controller, and for whatever
// fits on one file system.
//
//	b, err := filestore.New("/var/lib/slipway/blobs", nil)
//	if err != nil {
//		return err
//	}
//	defer b.Close()
//	store := storage.New(b, nil)
//
// # On disk
//
// Below the directory, files have mode 0600 and directories 0700:
//
//	blobs/<project>/<2 hex>/<64 hex>   a blob, never written to again
//	tmp/<random>                       a Put under way, or the remains of a crash
//
// A Put that finds the blob makes sure that it is durable, and is done.
// Otherwise it goes in this order:
//
//  1. The free space of the file system must cover the declared size, the other
//     Puts under way and Options.MinFreeBytes.
//  2. The content is written to a new file in tmp, and the file is synced.
//  3. The directories of the blob are made.
//  4. The file is linked to its final name. That the name exists is as good:
//     it has the same digest. This is the moment of publication.
//  5. The file in tmp is removed.
//  6. The directory of the blob and the two above it are synced. Then Put
//     returns.
//
// # What it guarantees
//
// A blob is there whole or not at all, for readers at any moment as well as
// after the process was killed or the power failed at any moment. When Put has
// returned nil, the blob survives both, if the disk honours a sync. A failed
// Put leaves no temporary file, unless removing it fails too; a crash can leave
// one, which New removes when it is a day old.
//
// No path leaves the directory, as all go through os.Root. Symbolic links below
// the directory are refused wherever they stand, even those that point inside;
// the directory itself may be reached through one.
//
// # What it does not
//
// It does not verify what it reads; storage.Store does that for whole blobs. It
// trusts the owner of the directory: who can write there can replace blobs. The
// guard against a full disk is a forecast, as other programs use the disk too;
// when it fails, writing does, with the same storage.ErrNoSpace. Delete is not
// synced. Empty directories stay.
//
// The file system must have hard links; New tries that out. The guard, and
// telling a full disk from other errors, work on Linux, macOS and FreeBSD. On
// Windows directories cannot be synced: there a blob may be gone after a loss
// of power, but is never in part.
package filestore
