package worker

import (
	"fmt"
	"sync"
)

// maxConnections is how many connections one worker may have to a hub at a time. It needs one, and for a moment a few more: those that it
// has given up and whose end the hub has not seen yet. Whoever opens more, and perhaps never says hello, takes nobody else's place.
const maxConnections = 16

// A gate counts the connections of a hub. Memory and file descriptors are taken by connections, whether they have said hello or not, and
// also while they are ending.
type gate struct {
	most int // of all workers together

	mu       sync.Mutex
	open     int
	byWorker map[string]int
}

func newGate(most int) *gate { return &gate{most: most, byWorker: make(map[string]int)} }

// enter counts a connection of that worker in, unless there are too many. Whoever was let in must leave.
func (g *gate) enter(worker string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open >= g.most:
		return fmt.Errorf("worker: %d connections are open, as many as HubOptions.MaxSessions allows: %w", g.open, ErrUnavailable)
	case g.byWorker[worker] >= maxConnections:
		return fmt.Errorf("worker: %d connections of worker %q are open, as many as one may have: %w", maxConnections, worker, ErrUnavailable)
	}
	g.open++
	g.byWorker[worker]++
	return nil
}

func (g *gate) leave(worker string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.byWorker[worker]--; g.byWorker[worker] == 0 {
		delete(g.byWorker, worker)
	}
}
