// Package token defines the text of Slipway's secrets, and build tokens.
//
// A text is the prefix slw, one or more public fields and a secret with its
// checksum, joined by underscores:
//
//	slw_worker_06c2k9r4q1v8e7h3m5t0a2bd_<secret><crc>
//	slw_build_0198c2f07d4e7cc398c4dc0c0c07398f_3_<secret><crc>
//
// The secret is 256 random bits in 43 characters of base 62. The checksum is the
// CRC-32 (IEEE) of everything before it, in 6 characters: it tells a typing error
// from a wrong key without a lookup, and lets scanners of leaked secrets know one
// when they see it. It proves nothing.
//
// Only the SHA-256 of the 256 bits is ever stored. Nothing here formats, logs or
// returns in an error the text it was given.
package token
