// Command compare measures Slipway's queue on PostgreSQL against River's, and
// against what its own documentation promises.
//
//	compare [-suite river] [-runs 3] [-only regexp] [-duration 1m] [-quick] [-json] [-profile directory]
//
// It starts a throw-away PostgreSQL server that writes as durably as one in
// production, measures, and stops it. Figures go to standard output; what was
// measured with, progress, and in the end what was promised and missed go to
// standard error. The exit status is 1 if something could not be measured, and
// says nothing about the figures.
//
// # The suite river
//
// Each figure is measured for three sides, by the same code, through the same
// five methods: Slipway, River, and plain SQL that does the least a queue can
// get by with. Every side gets a pool of the same size, orders of the same 100
// bytes, and for each measurement a new database on the same server, which
// is vacuumed and checkpointed before the clock starts. The sides take turns;
// every second round goes the other way around. What is printed is the median:
//
//	figure  slipway  river  ratio  bare
//
// A ratio above 1 says that Slipway is better, whichever way the figure goes.
// Both libraries are used as their users would, through their public packages.
//
// A submit is timed until it returns, when the build is durable. The latency of
// a build is counted from the return of its submit to the start of the function
// that does the work; figures named from-call count from before the submit.
// Submits come at random, with the same times for every side, and wait for
// no other.
//
// # Other suites
//
//   - backlog: what a claim costs with a million builds waiting, nine tenths of
//     which nobody can serve, beside what it costs with a thousand.
//   - snapshot: what it costs when a transaction elsewhere has kept an old
//     snapshot for a minute.
//   - limits: builds with concurrency keys, claimed by processes of which some are
//     killed. What runs is counted by what they tell and by what is stored.
//   - fair: how soon a small project's builds are claimed beside a large one's, and
//     how exactly weights are kept.
//   - million: lists and statistics of a million builds that have ended, and what
//     claims cost while most of them are deleted.
//   - crash: a server that is killed ten times under load, and stopped for long once.
//     What is stored in the end is held against what everybody was told.
//   - idle: 10,000 workers of another process that wait at a controller in a third:
//     its memory, its time, its statements; how soon one of them is offered a build
//     that is for it alone; and how soon all are back after a restart and after a kill.
//   - logs: how fast the logs of an agent's builds arrive in the database, beside COPY
//     of as many bytes in rows of the same size.
//
// They print figure, value, limit, and whether the limit was kept. The suite all
// is all of them in order, each on a server of its own.
package main
