package queue

import (
	"context"
)

// A Pool is what is set for a pool of workers. Pools need not be made: one that was never changed has the zero settings.
type Pool struct {
	Name string
	// Paused pools give out no builds. What is offered or runs goes on.
	Paused bool
	// Fair pools share their slots among the projects that have builds waiting, by weight, instead of going by the time of the
	// submit: however many builds a project submits, those of another are not behind all of them.
	Fair bool
	// Weights are the shares of projects in a fair pool that are not 1.
	Weights map[string]int
}

// A PoolChange says what to change of a pool. What is nil stays.
type PoolChange struct {
	Paused *bool
	Fair   *bool
	// Weights are those that change, each from 1 to [MaxWeight]; 0 sets one back.
	Weights map[string]int
}

// A Project is what is set for a project. Projects need not be made: one that was never changed has the zero settings.
type Project struct {
	Name string
	// Paused projects have no builds claimed. What is offered or runs goes on.
	Paused bool
	// ArtifactQuota is how many bytes of artifacts the project may have, reserved ones included. Zero: any.
	ArtifactQuota int64
	// ArtifactBytes is how many it has.
	ArtifactBytes int64
}

// A ProjectChange says what to change of a project. What is nil stays.
type ProjectChange struct {
	Paused        *bool
	ArtifactQuota *int64
}

// A Limit is how many builds of a project with the same concurrency key are claimed or running at a time.
type Limit struct {
	Project, Key string
	// Max is the limit. Zero: none.
	Max int
	// Used is how many builds have been admitted and not ended. It may be above a limit that was lowered, until they end.
	Used int
}

// Limits of what is set.
const (
	// MaxWeight is the largest weight of a project in a fair pool.
	MaxWeight = 1000
	// MaxLimit is the largest limit of a concurrency key.
	MaxLimit = 10_000
)

// ChangePool sets what a pool does. A pause takes effect with the call: no build of the pool is claimed after it returns.
//
// Errors: [ErrInvalid].
func (q *Queue) ChangePool(ctx context.Context, name string, change PoolChange) error {
	err := CheckName("pool", name)
	for project, weight := range change.Weights {
		if err == nil {
			err = CheckName("project", project)
		}
		if err == nil && (weight < 0 || weight > MaxWeight) {
			err = invalid("weight", "must be between 0 and %d", MaxWeight)
		}
	}
	if err == nil && len(change.Weights) > MaxPage {
		err = invalid("weights", "must be at most %d at once", MaxPage)
	}
	if err == nil {
		err = q.backend.ChangePool(ctx, name, change)
	}
	if err == nil {
		q.tell(Hint{Waiting: true, Any: true})
	}
	return wrap("change pool", ID{}, err)
}

// Pools returns the pools that were ever changed, ordered by name.
func (q *Queue) Pools(ctx context.Context) ([]Pool, error) {
	pools, err := q.backend.Pools(ctx)
	return pools, wrap("pools", ID{}, err)
}

// ChangeProject sets what a project may do. A pause takes effect with the call: no build of the project is claimed after it returns.
//
// Errors: [ErrInvalid].
func (q *Queue) ChangeProject(ctx context.Context, name string, change ProjectChange) error {
	err := CheckName("project", name)
	if err == nil && change.ArtifactQuota != nil && *change.ArtifactQuota < 0 {
		err = invalid("artifact quota", "must not be negative")
	}
	if err == nil {
		err = q.backend.ChangeProject(ctx, name, change)
	}
	if err == nil {
		q.tell(Hint{Waiting: true, Any: true})
	}
	return wrap("change project", ID{}, err)
}

// Projects returns the projects that were ever changed or have artifacts, ordered by name, at most limit of those after the name given.
//
// Errors: [ErrInvalid].
func (q *Queue) Projects(ctx context.Context, after string, limit int) ([]Project, error) {
	if limit < 1 || limit > MaxPage {
		return nil, wrap("projects", ID{}, invalid("limit", "must be between 1 and %d", MaxPage))
	}
	projects, err := q.backend.Projects(ctx, after, limit)
	return projects, wrap("projects", ID{}, err)
}

// SetLimit says how many builds of a project with a concurrency key may be claimed or running at a time; zero takes the limit away. The
// limit is exact from the return of the call on: no further build is admitted beyond it, whichever process asks. Builds that are
// beyond it already are not disturbed.
//
// Errors: [ErrInvalid].
func (q *Queue) SetLimit(ctx context.Context, project, key string, max int) error {
	err := CheckName("project", project)
	if err == nil {
		err = checkText("concurrency key", key)
	}
	switch {
	case err != nil:
	case key == "":
		err = invalid("concurrency key", "must not be empty")
	case max < 0 || max > MaxLimit:
		err = invalid("limit", "must be between 0 and %d", MaxLimit)
	default:
		err = q.backend.SetLimit(ctx, Limit{Project: project, Key: key, Max: max})
	}
	if err == nil {
		q.tell(Hint{Waiting: true})
	}
	return wrap("set limit", ID{}, err)
}

// Limits returns the limits of a project, ordered by key in the order of its bytes, at most limit of those after the key given.
//
// Errors: [ErrInvalid].
func (q *Queue) Limits(ctx context.Context, project, after string, limit int) ([]Limit, error) {
	if err := CheckName("project", project); err != nil {
		return nil, wrap("limits", ID{}, err)
	}
	if limit < 1 || limit > MaxPage {
		return nil, wrap("limits", ID{}, invalid("limit", "must be between 1 and %d", MaxPage))
	}
	limits, err := q.backend.Limits(ctx, project, after, limit)
	return limits, wrap("limits", ID{}, err)
}
