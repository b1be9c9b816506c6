// Command demo shows Slipway's main job on this machine, from nothing to a clean end, and fails on any deviation. `make demo` runs it.
//
// It builds the controller, the agent and the command line, starts the first two as processes of their own on a free loopback port with
// keys made for the occasion, and then
//
//   - submits this repository's source with a command that compiles the agent, follows the log while it grows, downloads the
//     artifact, checks it and runs it
//   - has a build fail with exit code 3
//   - cancels a build that runs, and sees all its processes gone in time
//   - kills the agent in the middle of a build, sees that nothing of the build lives on, and another agent finish it
//   - kills the controller in the middle of a build and starts it again, and sees the build finish undisturbed with a whole log
//
// The queue is in SQLite, or in a new schema of the PostgreSQL database named by SLIPWAY_TEST_DATABASE_URL. Bytes are in files of a
// temporary directory. Afterwards nothing of all this is left, whatever happened, and it looks that nothing is.
//
// It needs Go, git and a C compiler, and takes about a minute; after five it gives up.
package main
