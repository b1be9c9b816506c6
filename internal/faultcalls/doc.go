// Package faultcalls knows every call of a queue's backend, and what must hold when one of them fails half-way.
//
// A [Scene] is a database in which each call finds something to do. A [Course] is how a call goes there when nothing fails: what it
// changes, what it returns, and what the same call returns and changes when it is made once more. When it is then made with a
// fault, whatever that is, [Course.Check] looks at what is stored now and makes the call again without one:
//
//   - The error says that the outcome is unknown, and nothing is returned beside it.
//   - The change was made wholly or not at all; the calls that make theirs in steps have made some of those.
//   - No epoch has fallen, nothing that had ended has changed, each build is in one place.
//   - The repeated call answers and leaves what it does when nothing fails: what was done is not done again.
//
// The package serves the tests of backends on SQL databases, and is never part of a program.
package faultcalls
