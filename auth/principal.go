package auth

import (
	"context"
	"slices"
)

// StaticAdmin is the KeyID of the principal behind [Options.AdminKey].
const StaticAdmin = "static-admin"

// A Principal is a caller whose key was checked. The zero Principal may do nothing.
type Principal struct {
	// KeyID is the public id of the key, or [StaticAdmin].
	KeyID string
	// Role is what the caller may do.
	Role Role
	// Project is the one project of a submitter or viewer, empty for others.
	Project string
	// Pools are the pools of a submitter or worker. None means every pool for a
	// submitter, as far as its host grants them, and no pool for a worker.
	Pools []string
	// Worker is the name of a worker, empty for others.
	Worker string
}

// Authorize returns nil if the caller may do p in the project. The error is
// [ErrForbidden] if the role does not have the permission, and [ErrNotFound] if
// it has, but the project is another's: what is in it does not exist for the
// caller. For what belongs to no project, such as keys and pools, ask [Role.Can].
func (c Principal) Authorize(p Permission, project string) error {
	if !c.Role.Can(p) {
		return ErrForbidden
	}
	if !c.InProject(project) {
		return ErrNotFound
	}
	return nil
}

// InProject reports whether the caller belongs to the project: an admin to every
// one, a submitter or viewer to its own, a worker to none, since it reaches builds
// by the tokens of their attempts.
func (c Principal) InProject(project string) bool {
	switch c.Role {
	case Admin:
		return project != ""
	case Submitter, Viewer:
		return project != "" && project == c.Project
	default:
		return false
	}
}

// UsesPool reports whether the caller may submit to the pool or, as a worker,
// take builds from it. A submitter without pools may use every pool that its
// host grants to its project.
func (c Principal) UsesPool(pool string) bool {
	switch c.Role {
	case Admin:
		return pool != ""
	case Submitter:
		return pool != "" && (len(c.Pools) == 0 || slices.Contains(c.Pools, pool))
	case Worker:
		return pool != "" && slices.Contains(c.Pools, pool)
	default:
		return false
	}
}

type contextKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the principal that [Keys.Middleware] or [NewContext] put
// into the context. Without one it returns the zero Principal and false.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	return p, ok
}
