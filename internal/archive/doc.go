// Package archive unpacks archives that nobody vouches for: zip, and tar that is plain or compressed with gzip or Zstandard.
//
// Which format it is, its first bytes tell; names and types that a client declares are not asked for. [Extract] holds all formats to
// the same rules.
//
// # What an archive may hold
//
// Directories, regular files, symbolic links and, in a tar, hard links to files that came before. A symbolic link must be relative,
// stay within the tree and go up only at its beginning, so that no chain of links leaves the tree. Names are kept byte by byte, and
// must be relative, without empty parts, "." and ".." except for "./" at the beginning, without NUL, and in a zip without backslashes,
// which some programs take for separators. In a tar on Unix a backslash is a character like others. No name may come twice, and none
// below a symbolic link. Names that differ in case are two where the file system says so, and else one that came twice.
//
// Permissions are kept without the set-id and sticky bits; a directory's owner can always read, write and search it. Owners and times
// are not kept. Devices, pipes, sockets, encrypted entries and zip files of several parts are refused.
//
// # What bounds it
//
// [Limits] bound the bytes, the entries, the depth and the ratio. The sizes that an archive declares are checked first, and then those
// that come. Memory does not grow with the archive, but for the symbolic links, which are made at the end so that nothing is ever
// written through one: their text is 16 MiB at most. A zip's directory is read one entry at a time. gzip takes 32 KiB and Zstandard
// the window that a frame asks for, of up to 128 MiB, what zstd itself takes without --long=N of more than 27.
//
// Everything is written through an [os.Root]. What an archive that is refused had written before is left there, within the root.
package archive
