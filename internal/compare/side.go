package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A side is one way to keep a queue in a database. Its methods may be called concurrently; those that submit return when what
// they added is durable.
type side interface {
	submit(ctx context.Context, o order) error

	// submitMany and submitCopy add orders in one call, all or none. The second may be any way that is meant for large
	// amounts and can do less.
	submitMany(ctx context.Context, all []order) error
	submitCopy(ctx context.Context, all []order) error

	// submitTx adds an order in a transaction of the caller's, which inserts a row into the caller's own table first.
	submitTx(ctx context.Context, o order) error

	// consume starts and ends builds until ctx ends, or w.total have, and returns when nothing of that goes on any more.
	consume(ctx context.Context, w watcher) error

	// keep does in the background what a process that submits should do, until ctx ends.
	keep(ctx context.Context) error
}

// A watcher is told what a side does. Its functions may be called concurrently.
type watcher struct {
	total   int              // how many builds are expected; zero if that is not known
	started func(n int64)    // the work on order n begins
	ended   func(builds int) // the ends of so many builds are durable
}

// A contender is a side with its settings, as it takes part in a measurement.
type contender struct {
	name string
	// migrate makes its tables in an empty database.
	migrate func(ctx context.Context, pool *pgxpool.Pool) error
	// open opens what migrate made, in any number of processes.
	open func(pool *pgxpool.Pool) (side, error)
	// unended counts the builds that have not ended.
	unended string
	// settings are what a reader should know.
	settings string
}

// contenders lists whoever takes part in something.
func contenders() []contender {
	return []contender{
		slipwayContender(), riverContender(riverDefaults), riverContender(riverTuned), riverContender(riverBurning),
		bareContender(false), bareContender(true),
	}
}

// contenderNamed returns the zero contender if there is none of that name.
func contenderNamed(name string) contender {
	for _, c := range contenders() {
		if c.name == name {
			return c
		}
	}
	return contender{}
}

// ownTable is the table of the caller that submitTx writes to.
const (
	ownTable  = `CREATE TABLE own (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)`
	insertOwn = `INSERT INTO own (note) VALUES ($1)`
	ownNote   = "something of the caller's"
)
