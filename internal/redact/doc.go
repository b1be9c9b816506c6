// Package redact hides secrets in a stream of bytes that is cut into writes at any places.
//
// Every byte that is part of a secret is hidden, so of two secrets that begin at one place the longer one wins, and of two that overlap
// nothing remains. What touches is hidden together: one [Marker] stands for it.
//
// Looked for are, of each secret,
//
//   - the secret itself, also without the white space around it,
//   - its lines, each without the white space around it, since programs print a key of many lines a line at a time,
//   - what it is in a URL, in a query or a path, with hexadecimal digits of either case,
//   - what it is in a JSON string,
//   - what it is in base64, of either alphabet, also as a part of something longer that is encoded, such as the name and password of
//     HTTP's basic authentication. Then four bits of it may show at either end, where a character also stands for what is beside it.
//
// Encodings cost a scan nothing but a little of its stride. What is not found: other encodings (hexadecimal, compressed, encrypted),
// base64 that is broken into lines, and a secret with something put in between its bytes. A program that wants to tell a secret can.
//
// Whatever is shorter than [MinLength] is not looked for: it can be guessed, stands in ordinary text by chance, and where it is hidden
// the marker tells what it was.
package redact
