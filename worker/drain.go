package worker

// Drain has the agent accept nothing more, and [Agent.Run] return nil when what it has is finished and reported. There is no way back.
// It returns at once, may be called at any time, by any goroutine and more than once; before Run it has Run end as soon as it begins.
// To stop what runs as well, end the context of Run.
func (a *Agent) Drain() { a.drain() }
