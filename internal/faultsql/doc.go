// Package faultsql makes chosen operations of a database/sql driver fail, before they are carried out or after.
//
// Operations are counted: preparing a statement, executing one, querying, reading the next row or finding that there is none, beginning
// a transaction and committing it. What tidies up (closing, rolling back, also by a statement) is not counted and never fails. The loop
// that this is made for lets each operation of a call fail in its turn:
//
//	for n := 0; ; n++ {
//		connector.Break(faultsql.Fault{N: n})
//		err := call()
//		if !connector.Mend() {
//			break // the call has fewer operations than that
//		}
//		// err must tell of it, and what the database keeps must make sense.
//	}
//
// For databases on the other side of a network package faultconn breaks the connections themselves.
//
// The package serves tests and is never part of a program.
package faultsql
