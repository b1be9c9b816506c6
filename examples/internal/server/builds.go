package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// InProject is part of what every route about a project takes. The guard reads it. Its name is exported for huma, which looks into
// no other.
type InProject struct {
	Project string `query:"project" doc:"Project, if the caller is an admin. Default: default."`
}

// OneBuild is part of what every route about a build takes.
type OneBuild struct {
	InProject
	ID string `path:"id" doc:"Id of the build."`
}

type submitInput struct {
	InProject
	Body api.NewBuild
}

type submitOutput struct {
	Location string `header:"Location"`
	Body     api.Build
}

func (s *Server) submit(ctx context.Context, in *submitInput) (*submitOutput, error) {
	c := callerOf(ctx)
	params, err := paramsOf(c.project, in.Body)
	if err != nil {
		return nil, err
	}
	prepared, err := s.Queue.Prepare(params)
	if err != nil {
		return nil, err
	}
	if !c.UsesPool(prepared[0].Pool) {
		return nil, auth.ErrForbidden
	}
	if err := s.checkSource(ctx, c.project, params.Source); err != nil {
		return nil, err
	}
	params.ID = prepared[0].ID
	id, err := s.Queue.Submit(ctx, params)
	if err != nil {
		return nil, err
	}
	build, err := s.Queue.Get(ctx, c.project, id)
	if err != nil {
		return nil, err
	}
	return &submitOutput{Location: "/v1/builds/" + id.String(), Body: buildOf(build)}, nil
}

// checkSource refuses a build whose source its worker would not find.
func (s *Server) checkSource(ctx context.Context, project string, source *queue.Source) error {
	if source == nil {
		return nil
	}
	size, err := s.blobs.Stat(ctx, project, source.Digest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errSourceMissing
	case err == nil && size != source.Size:
		return worker.ErrBlobMismatch
	}
	return err
}

type listInput struct {
	InProject
	State  []string `query:"state,explode" enum:"pending,offered,running,cancelling,succeeded,failed,canceled,timed_out,expired,lost" doc:"Only builds in one of these states. May be repeated."`
	Pool   string   `query:"pool" doc:"Only builds of this pool."`
	Worker string   `query:"worker" doc:"Only builds that this worker holds, or held last."`
	Limit  int      `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Largest number of builds."`
	Cursor string   `query:"cursor" doc:"next_cursor of the page before."`
}

type listOutput struct{ Body api.BuildPage }

func (s *Server) listBuilds(ctx context.Context, in *listInput) (*listOutput, error) {
	filter := queue.Filter{Project: callerOf(ctx).project, Pool: in.Pool, Worker: in.Worker, Limit: in.Limit}
	for _, name := range in.State {
		state, err := queue.ParseState(name)
		if err != nil {
			return nil, err
		}
		filter.States = append(filter.States, state)
	}
	if in.Cursor != "" {
		var err error
		if filter.Before, err = parseBuildCursor(in.Cursor); err != nil {
			return nil, err
		}
	}
	builds, err := s.Queue.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := api.BuildPage{Builds: make([]api.Build, len(builds))}
	for i, b := range builds {
		page.Builds[i] = buildOf(b)
	}
	if len(builds) == in.Limit {
		page.NextCursor = buildCursor(builds[len(builds)-1].ID)
	}
	return &listOutput{Body: page}, nil
}

type buildOutput struct{ Body api.Build }

func (s *Server) getBuild(ctx context.Context, in *OneBuild) (*buildOutput, error) {
	id, err := queue.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	c := callerOf(ctx)
	build, err := s.Queue.Get(ctx, c.project, id)
	if err != nil {
		return nil, err
	}
	attempts, err := s.Queue.Attempts(ctx, c.project, id)
	if err != nil {
		return nil, err
	}
	shown := buildOf(build)
	if c.Role.Can(auth.Submit) { // a spec may hold what only submitters should know
		shown.Spec = build.Spec
	}
	for _, a := range attempts {
		shown.Attempts = append(shown.Attempts, attemptOf(a))
	}
	return &buildOutput{Body: shown}, nil
}

func (s *Server) retryBuild(ctx context.Context, in *OneBuild) (*submitOutput, error) {
	old, err := queue.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	c := callerOf(ctx)
	build, err := s.Queue.Get(ctx, c.project, old)
	if err != nil {
		return nil, err
	}
	if !c.UsesPool(build.Pool) {
		return nil, auth.ErrForbidden
	}
	id, err := s.Queue.Retry(ctx, c.project, old)
	if errors.Is(err, queue.ErrConflict) {
		return nil, errNotEnded
	}
	if err != nil {
		return nil, err
	}
	if build, err = s.Queue.Get(ctx, c.project, id); err != nil {
		return nil, err
	}
	return &submitOutput{Location: "/v1/builds/" + id.String(), Body: buildOf(build)}, nil
}

type explainOutput struct{ Body api.Explanation }

func (s *Server) explainBuild(ctx context.Context, in *OneBuild) (*explainOutput, error) {
	id, err := queue.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	found, err := s.Queue.Explain(ctx, callerOf(ctx).project, id)
	if err != nil {
		return nil, err
	}
	shown := api.Explanation{State: found.Build.State.String(), Position: found.Position, Verdicts: make([]api.Verdict, len(found.Verdicts))}
	for i, v := range found.Verdicts {
		shown.Verdicts[i] = api.Verdict{Requirement: string(v.Requirement), Met: v.Met, Text: v.Text}
	}
	return &explainOutput{Body: shown}, nil
}

type cancelInput struct {
	OneBuild
	Body *api.Cancel
}

type cancelOutput struct {
	Status int
	Body   api.Canceled
}

func (s *Server) cancelBuild(ctx context.Context, in *cancelInput) (*cancelOutput, error) {
	id, err := queue.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	state, err := s.Queue.Cancel(ctx, callerOf(ctx).project, id, reason)
	if err != nil {
		return nil, err
	}
	out := &cancelOutput{Status: http.StatusAccepted, Body: api.Canceled{State: state.String()}}
	if state.Terminal() {
		out.Status = http.StatusOK
	}
	return out, nil
}

// paramsOf reads what a client submits.
func paramsOf(project string, b api.NewBuild) (queue.Params, error) {
	p := queue.Params{
		Project: project, Pool: b.Pool, Labels: b.Labels, Spec: b.Spec, MaxAttempts: b.MaxAttempts,
		QueueTimeout: time.Duration(b.QueueTimeoutMS) * time.Millisecond, RunTimeout: time.Duration(b.RunTimeoutMS) * time.Millisecond,
		RetryFailed: b.RetryFailed, Priority: b.Priority, ConcurrencyKey: b.ConcurrencyKey, IdempotencyKey: b.IdempotencyKey,
		Metadata: b.Metadata,
	}
	if b.NotBefore != nil {
		p.NotBefore = *b.NotBefore
	}
	var err error
	if b.ID != "" {
		if p.ID, err = queue.ParseID(b.ID); err != nil {
			return queue.Params{}, err
		}
	}
	if b.Source != nil {
		p.Source = &queue.Source{Size: b.Source.Size}
		if p.Source.Digest, err = queue.ParseDigest(b.Source.SHA256); err != nil {
			return queue.Params{}, err
		}
	}
	return p, nil
}
