package server

import (
	"context"
	"encoding/base64"
	"math"
	"mime"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

type artifactsInput struct {
	OneBuild
	Epoch int64 `query:"epoch" minimum:"1" maximum:"2147483647" doc:"Attempt. Default: the newest."`
}

type artifactsOutput struct{ Body api.Artifacts }

func (s *Server) listArtifacts(ctx context.Context, in *artifactsInput) (*artifactsOutput, error) {
	id, err := queue.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	rows, err := s.artifacts(ctx, queue.AttemptID{Build: id, Epoch: in.Epoch})
	if err != nil {
		return nil, err
	}
	list := api.Artifacts{Artifacts: make([]api.Artifact, len(rows))}
	for i, row := range rows {
		list.Artifacts[i] = api.Artifact{Name: row.Name, Size: row.Size, SHA256: row.Digest.String(), Epoch: row.Epoch}
	}
	return &artifactsOutput{Body: list}, nil
}

// artifacts returns those of an attempt: none if the newest is asked for and the build has not been attempted.
func (s *Server) artifacts(ctx context.Context, id queue.AttemptID) ([]queue.Artifact, error) {
	project := callerOf(ctx).project
	rows, err := s.Queue.Artifacts(ctx, project, id)
	if id.Epoch == 0 && isNotFound(err) {
		_, err = s.Queue.Get(ctx, project, id.Build)
	}
	return rows, err
}

var artifactQuery = []parameter{{name: "epoch", doc: "Attempt. Default: the newest.", least: 1, most: math.MaxInt32}}

// download sends an artifact as a file to be saved, never to be shown in the place where it came from.
func (s *Server) download(w http.ResponseWriter, r *http.Request) error {
	build, err := queue.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := queue.CheckArtifactName(name); err != nil {
		return err
	}
	c := callerOf(r.Context())
	rows, err := s.artifacts(r.Context(), queue.AttemptID{Build: build, Epoch: c.query["epoch"]})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(a queue.Artifact) bool { return a.Name == name })
	if i < 0 {
		return queue.ErrNotFound
	}
	content, err := s.blobs.Open(r.Context(), c.project, rows[i].Digest)
	if err != nil {
		return err
	}
	defer content.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+rows[i].Digest.String()+`"`)
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(rows[i].Digest[:])+":")
	paced := s.pacedWriter(w)
	defer paced.finish()
	http.ServeContent(&rangeGuard{pacedWriter: paced}, r, "", time.Time{}, content)
	return nil
}

// A rangeGuard puts a problem in the place of the text that [http.ServeContent] sends for a range that there is not.
type rangeGuard struct {
	*pacedWriter
	refused bool
}

// WriteHeader implements [http.ResponseWriter].
func (g *rangeGuard) WriteHeader(status int) {
	if status != http.StatusRequestedRangeNotSatisfiable {
		g.pacedWriter.WriteHeader(status)
		return
	}
	g.refused = true
	for _, name := range []string{"Content-Disposition", "Content-Length", "ETag", "Repr-Digest"} {
		g.Header().Del(name)
	}
	errRange.Write(g.pacedWriter)
}

// Write implements [http.ResponseWriter].
func (g *rangeGuard) Write(b []byte) (int, error) {
	if g.refused {
		return len(b), nil
	}
	return g.pacedWriter.Write(b)
}
