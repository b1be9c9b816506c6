package queue

import "time"

// Circumstances are what a pending build waits in: the facts that [Queue.Explain] makes its verdicts of.
type Circumstances struct {
	Build Build
	// Now is the backend's time.
	Now time.Time
	// Class is the number of the build's class; zero if it is not known yet.
	Class ClassID
	// Queued says that the build may be claimed; else it is held.
	Queued bool
	// Ahead counts the queued builds of its class that come first, or, of a build that is held, those of its lane that do; to MaxCount.
	Ahead int
	// Avoids is a worker that is not given the build until AvoidsUntil.
	Avoids      string
	AvoidsUntil time.Time
	// Limit is of its concurrency key, with how much of it is used; the zero Limit if there is none.
	Limit Limit
	// Pool and Project are as they are set, weights left out.
	Pool    Pool
	Project Project
	// Workers are those with a session that serves the build's pool, has not ended, and is on a controller that is alive, ordered by
	// name, at most 1,000.
	Workers []WorkerFacts
}

// WorkerFacts are what a live session says of its worker.
type WorkerFacts struct {
	Worker string
	Labels Labels
	Slots  int
	Busy   int // slots that are offered a build or run one
}
