// Package sqlitequeue keeps the builds of package queue in an SQLite database file. It is the backend of a service that runs on
// one machine and wants no database server: the file is all there is to back up (by VACUUM INTO, while the service runs).
//
//	db, err := sqlitequeue.Open("/var/lib/service/queue.db", nil)
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	backend, err := sqlitequeue.New(db, nil)
//	if err != nil {
//		return err
//	}
//	if err := backend.Migrate(ctx); err != nil {
//		return err
//	}
//	q := queue.New(backend, nil)
//
// It can share a file with the tables of the service, and should, so that [Submit] may add builds, and [Finish] end them, in the
// service's own transactions. Its own tables begin with slipway_. The driver is modernc.org/sqlite, which needs no C compiler.
//
// # What it guarantees
//
// Everything that [queue.Backend] asks for, which package queuetest checks. A change that was acknowledged survives the death of
// the process at any point and, with the settings of [Open], a power failure. A change that was not is there wholly or not
// at all. Any number of goroutines, of backends and of processes of one host may work on one file. Limits, quotas and statistics are
// exact, because one change is made at a time: what it counts stays true until it has decided.
//
// Every call ends within [Options.Timeout], also while another process holds the file's lock: then, and if the file cannot be opened, read
// or written, or there is no room for it, with an error that wraps [queue.ErrUnavailable]. Finding work, leases and what is due goes by
// indexes of only such builds, and costs the same however many others are stored. What takes time in proportion to builds is to make a pool
// fair that has builds queued, and to end that.
//
// # What it does not
//
// SQLite has one writer at a time, so that changes wait for each other: batches, such as [queue.Queue.SubmitMany], cost little more than
// one change. Readers do not wait. Processes do not hear of each other's changes: they poll. The file must be on a local disk, because
// SQLite's locks do not work across hosts; for several hosts there is package pgqueue.
//
// Times are those of the host's clock, which all processes that use the file share. It is read once in each change, after the
// change has got the write lock, so that times are in the order of changes. Should the clock be set back, leases, offers and
// back-offs last longer by as much.
//
// A program with another database/sql handle may use it instead of [Open]'s, if it is of the same driver. Then how durable changes
// are is up to that handle's synchronous setting, and transactions for [Submit] should begin with the write lock (_txlock=immediate).
//
// # Schema
//
// [Backend.Migrate] makes and changes the tables; nothing else does, and no call of another method makes it unnecessary.
// It is safe at each start of each process. A schema has a version and the lowest version of programs that can work with it: older
// programs go on beside newer ones until that number says that they cannot, and are refused then with [ErrTooNew]. [Migrations]
// returns the statements.
//
// Triggers count what is counted of builds and artifacts, and keep programs of version 1 from queueing what they do not know must be
// admitted. Such programs know no pauses: what is paused, they go on claiming.
package sqlitequeue
