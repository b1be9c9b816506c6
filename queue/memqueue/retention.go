package memqueue

import (
	"slices"

	"github.com/slipway-build/slipway/queue"
)

// forget removes sessions and controllers that nothing refers to any more.
func (b *Backend) forget(r *round) {
	inUse := make(map[*session]bool)
	for _, bd := range b.builds {
		inUse[bd.session] = true
	}
	served := make(map[*controller]bool)
	for id, s := range b.sessions {
		if s.ended() && !inUse[s] && due(s.lostAt.Add(forget), r.now) && r.room(&r.done.Forgotten) {
			delete(b.sessions, id)
		} else {
			served[s.controller] = true
		}
	}
	for id, c := range b.controllers {
		if !served[c] && due(c.aliveUntil.Add(forget), r.now) && r.room(&r.done.Forgotten) {
			delete(b.controllers, id)
		}
	}
}

// clear removes what builds that have ended do not need any more, in the end the builds.
func (b *Backend) clear(r *round) {
	var ended []*build
	for _, bd := range b.builds {
		r.takeBack(bd)
		if bd.state.Terminal() {
			ended = append(ended, bd)
		}
	}
	slices.SortFunc(ended, func(x, y *build) int { return x.finishedAt.Compare(y.finishedAt) })
	for _, bd := range ended {
		switch {
		case r.Retention > 0 && due(bd.finishedAt.Add(r.Retention), r.now) && !bd.archiving(r):
			if r.room(&r.done.Deleted) {
				b.delete(bd)
			}
		case bd.IdempotencyKey != "" && due(bd.finishedAt.Add(r.KeepKeys), r.now):
			if r.room(&r.done.Forgotten) {
				bd.forgetKey()
			}
		}
	}
}

// takeBack removes the reservations of attempts that have ended.
func (r *round) takeBack(bd *build) {
	for _, a := range bd.attempts {
		for _, row := range a.artifacts {
			if !a.EndedAt.IsZero() && !row.Committed && r.room(&r.done.Forgotten) {
				bd.drop(a, row)
			}
		}
	}
}

// archiving reports whether somebody is archiving a log of the build.
func (bd *build) archiving(r *round) bool {
	return slices.ContainsFunc(bd.attempts, func(a *attempt) bool { return a.log.archiving(r.now) })
}

// forgetKey makes the build's idempotency key one that is not known.
func (bd *build) forgetKey() {
	delete(bd.project.keys, bd.IdempotencyKey)
	bd.IdempotencyKey = ""
}

// delete removes a build with all that belongs to it.
func (b *Backend) delete(bd *build) {
	for _, a := range bd.attempts {
		if a.log.mayBeArchived() {
			b.dropped[a.AttemptID] = &dropped{DroppedLog: queue.DroppedLog{AttemptID: a.AttemptID, Project: bd.Project}}
		}
		for _, row := range a.artifacts {
			bd.drop(a, row)
		}
	}
	if bd.IdempotencyKey != "" {
		bd.forgetKey()
	}
	delete(b.builds, bd.ID)
}
