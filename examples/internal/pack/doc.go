// Package pack makes the archive that a build starts from: a gzip-compressed tar of a directory.
//
// # What is packed
//
// Of a git checkout, what git tracks and what it does not know but would not ignore: the output of
//
//	git ls-files --cached --others --exclude-standard
//
// with submodules and checkouts inside it likewise, in the state in which the files are on disk. Of any other directory, and if there
// is no git or [Options.Everything] is set, all files but those in .git directories.
//
// Directories, regular files and symbolic links are packed. A link must be relative and lead to somewhere inside the directory, in a
// form that package worker unpacks. Sockets, devices and pipes are errors, as is a file that cannot be read or that changes its
// size meanwhile.
//
// # What the archive depends on
//
// It is the same, byte for byte, for the same names, contents, links and execute permissions. Times, owners and other permissions are
// left out, and entries are sorted by name. So a source that was packed before need not be uploaded again.
package pack
