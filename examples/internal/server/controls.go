package server

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

type poolsOutput struct{ Body api.Pools }

func (s *Server) listPools(ctx context.Context, _ *struct{}) (*poolsOutput, error) {
	pools, err := s.Queue.Pools(ctx)
	if err != nil {
		return nil, err
	}
	out := &poolsOutput{Body: api.Pools{Pools: make([]api.Pool, len(pools))}}
	for i, p := range pools {
		out.Body.Pools[i] = api.Pool{Name: p.Name, Paused: &p.Paused, Fair: &p.Fair, Weights: p.Weights}
	}
	return out, nil
}

type changePoolInput struct {
	Name string `path:"name" doc:"Name of the pool."`
	Body api.Pool
}

func (s *Server) changePool(ctx context.Context, in *changePoolInput) (*struct{}, error) {
	if in.Body.Name != "" && in.Body.Name != in.Name {
		return nil, invalid("body.name: must be that of the path, or left out")
	}
	change := queue.PoolChange{Paused: in.Body.Paused, Fair: in.Body.Fair, Weights: in.Body.Weights}
	if err := s.Queue.ChangePool(ctx, in.Name, change); err != nil {
		return nil, err
	}
	s.opts.Logger.InfoContext(ctx, "pool changed", "pool", in.Name, "by", callerOf(ctx).KeyID, "request_id", requestID(ctx))
	return nil, nil
}

// A Page is part of what every list by name takes.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Largest number of entries."`
	Cursor string `query:"cursor" doc:"next_cursor of the page before."`
}

type listProjectsInput struct{ Page }

type projectsOutput struct{ Body api.ProjectPage }

func (s *Server) listProjects(ctx context.Context, in *listProjectsInput) (*projectsOutput, error) {
	after, err := parseNameCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	projects, err := s.Queue.Projects(ctx, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &projectsOutput{Body: api.ProjectPage{Projects: make([]api.Project, len(projects))}}
	for i, p := range projects {
		out.Body.Projects[i] = api.Project{
			Name: p.Name, Paused: &p.Paused, ArtifactQuota: &p.ArtifactQuota, ArtifactBytes: p.ArtifactBytes,
		}
	}
	if len(projects) == in.Limit {
		out.Body.NextCursor = nameCursor(projects[len(projects)-1].Name)
	}
	return out, nil
}

type changeProjectInput struct {
	Name string `path:"name" doc:"Name of the project."`
	Body api.Project
}

func (s *Server) changeProject(ctx context.Context, in *changeProjectInput) (*struct{}, error) {
	if in.Body.Name != "" && in.Body.Name != in.Name || in.Body.ArtifactBytes != 0 {
		return nil, invalid("body: only paused and artifact_quota can be changed")
	}
	change := queue.ProjectChange{Paused: in.Body.Paused, ArtifactQuota: in.Body.ArtifactQuota}
	if err := s.Queue.ChangeProject(ctx, in.Name, change); err != nil {
		return nil, err
	}
	s.opts.Logger.InfoContext(ctx, "project changed", "project", in.Name, "by", callerOf(ctx).KeyID, "request_id", requestID(ctx))
	return nil, nil
}

type listLimitsInput struct {
	Page
	Name string `path:"name" doc:"Name of the project."`
}

type limitsOutput struct{ Body api.LimitPage }

func (s *Server) listLimits(ctx context.Context, in *listLimitsInput) (*limitsOutput, error) {
	after, err := parseNameCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	limits, err := s.Queue.Limits(ctx, in.Name, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &limitsOutput{Body: api.LimitPage{Limits: make([]api.Limit, len(limits))}}
	for i, l := range limits {
		out.Body.Limits[i] = api.Limit{Key: l.Key, Max: l.Max, Used: l.Used}
	}
	if len(limits) == in.Limit {
		out.Body.NextCursor = nameCursor(limits[len(limits)-1].Key)
	}
	return out, nil
}

type setLimitInput struct {
	Name string `path:"name" doc:"Name of the project."`
	Body api.Limit
}

func (s *Server) setLimit(ctx context.Context, in *setLimitInput) (*struct{}, error) {
	if in.Body.Used != 0 {
		return nil, invalid("body.used: cannot be changed")
	}
	if err := s.Queue.SetLimit(ctx, in.Name, in.Body.Key, in.Body.Max); err != nil {
		return nil, err
	}
	s.opts.Logger.InfoContext(ctx, "limit set", "project", in.Name, "key", in.Body.Key, "max", in.Body.Max, "by", callerOf(ctx).KeyID,
		"request_id", requestID(ctx))
	return nil, nil
}

type statsInput struct {
	InProject
	Days int `query:"days" minimum:"1" maximum:"400" default:"30" doc:"How many days, in UTC, up to today."`
}

type statsOutput struct{ Body api.Stats }

func (s *Server) stats(ctx context.Context, in *statsInput) (*statsOutput, error) {
	today := time.Now()
	found, err := s.Queue.Stats(ctx, callerOf(ctx).project, today.AddDate(0, 0, 1-in.Days), today)
	if err != nil {
		return nil, err
	}
	out := &statsOutput{Body: api.Stats{
		Pending: found.Pending, Offered: found.Offered, Running: found.Running, Cancelling: found.Cancelling,
		Days: make([]api.DayStats, len(found.Days)),
	}}
	for i, d := range found.Days {
		out.Body.Days[i] = api.DayStats{
			Day: d.Day.UTC().Format(time.DateOnly), Submitted: d.Submitted, Succeeded: d.Succeeded, Failed: d.Failed, Canceled: d.Canceled,
			TimedOut: d.TimedOut, Expired: d.Expired, Lost: d.Lost, Attempts: d.Attempts,
			WaitedMS: d.Waited.Milliseconds(), RanMS: d.Ran.Milliseconds(),
		}
	}
	return out, nil
}
