// Package memauth keeps keys in memory.
//
// It is the smallest complete [auth.Backend]: what it does is what the contract
// says and no more. It serves tests, and services whose keys may be forgotten when
// the process ends. It does not look at contexts, since no operation waits.
package memauth
