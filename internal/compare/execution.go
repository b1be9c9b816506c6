package main

import (
	"cmp"
	"slices"
)

// An execution is the time in which a worker had a build run, in nanoseconds since 1970, and the concurrency key of the build.
type execution struct {
	key        string
	begin, end int64
}

// peaks returns how many executions of each key there were at the same time, at most. One that begins when another ends is not at the
// same time.
func peaks(all []execution) map[string]int {
	type step struct {
		at  int64
		by  int
		key string
	}
	var steps []step
	for _, e := range all {
		if e.begin < e.end {
			steps = append(steps, step{e.begin, 1, e.key}, step{e.end, -1, e.key})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.at, b.at), a.by-b.by) })
	now, most := make(map[string]int), make(map[string]int)
	for _, s := range steps {
		now[s.key] += s.by
		most[s.key] = max(most[s.key], now[s.key])
	}
	return most
}
