// Command faults runs builds through Slipway's real programs, lets one thing after another go wrong around them, and sees that nothing is
// lost and nothing done twice.
//
//	go run ./internal/faults [-run REGEXP] [-parallel N] [-schedules N] [-seed N]
//	go run ./internal/faults -cancels N
//
// A cell is a fault at a moment in the life of a build: while it is offered, running, being canceled, uploading or finishing. Each has a
// controller, or two, on a schema of its own in a real PostgreSQL, and an agent behind a proxy. The build writes numbered lines to its
// output and, beside that, to a file per attempt: what is stored has to be what was written. After each cell
//
//   - the build has come to one end, which its newest attempt has, and that was claimed last;
//   - no two attempts of it were alive at the same time;
//   - a build that had ended before the fault, which was over soon, is not attempted again;
//   - the log of an attempt that reported its end is what the build wrote, byte for byte; that of an attempt that was lost is the
//     beginning of it, not longer, and is not called complete;
//   - no process of the build is alive;
//   - a further build with the same concurrency key, whose limit is 1, gets the only slot and succeeds.
//
// After the cells come random schedules: several faults in a row, from a seed that is printed.
package main
