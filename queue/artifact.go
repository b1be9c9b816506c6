package queue

import (
	"context"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxArtifactName is the largest length of an artifact's name, in bytes.
const MaxArtifactName = 255

// CheckArtifactName returns an error that wraps [ErrInvalid] unless name is a relative, slash-separated path of valid UTF-8 without
// empty, "." and ".." parts, backslashes, control and invisible formatting characters, at most [MaxArtifactName] bytes long.
// Names are labels for people and never become paths of the server.
func CheckArtifactName(name string) error {
	if name == "" || len(name) > MaxArtifactName {
		return invalid("artifact name", "must be 1 to %d bytes long", MaxArtifactName)
	}
	if !utf8.ValidString(name) {
		return invalid("artifact name", "must be valid UTF-8")
	}
	for _, r := range name {
		if r == '\\' || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return invalid("artifact name", "must not contain backslashes, control or invisible characters")
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return invalid("artifact name", `must be a relative path without empty, "." and ".." parts`)
		}
	}
	return nil
}

// ReserveArtifact notes that a running attempt is about to upload an artifact. If the result is Committed, the same bytes
// are there already and need not be sent.
//
// Errors: [ErrInvalid]; [ErrStaleLease]; [ErrConflict] if the attempt has that name with other content; [ErrQuota] if the project would
// have more than its quota, see [Queue.ChangeProject].
func (q *Queue) ReserveArtifact(ctx context.Context, a NewArtifact) (Artifact, error) {
	if err := CheckArtifactName(a.Name); err != nil {
		return Artifact{}, wrap("reserve artifact", a.Build, err)
	}
	if a.Size < 0 || a.Size == math.MaxInt64 {
		return Artifact{}, wrap("reserve artifact", a.Build, invalid("artifact size", "must be a number of bytes"))
	}
	row, err := q.backend.ReserveArtifact(ctx, a, time.Time{})
	return row, wrap("reserve artifact", a.Build, err)
}

// CommitArtifact shows a reserved artifact to readers. Call it when its bytes are in the storage.
//
// Errors: [ErrInvalid]; [ErrStaleLease]; [ErrNotFound] if nothing of that name is reserved.
func (q *Queue) CommitArtifact(ctx context.Context, id AttemptID, name string) (Artifact, error) {
	if err := CheckArtifactName(name); err != nil {
		return Artifact{}, wrap("commit artifact", id.Build, err)
	}
	row, err := q.backend.CommitArtifact(ctx, id, name, time.Time{})
	return row, wrap("commit artifact", id.Build, err)
}

// ReleaseArtifact takes back a reservation whose bytes will not come, so that the project has the room again. It does nothing if there is
// none of that name, or if it is committed. Reservations of attempts that have ended are taken back without it.
//
// Errors: [ErrInvalid]; [ErrStaleLease].
func (q *Queue) ReleaseArtifact(ctx context.Context, id AttemptID, name string) error {
	if err := CheckArtifactName(name); err != nil {
		return wrap("release artifact", id.Build, err)
	}
	return wrap("release artifact", id.Build, q.backend.ReleaseArtifact(ctx, id, name, time.Time{}))
}

// Artifacts returns the committed artifacts of an attempt, ordered by name. An epoch of zero stands for the newest attempt.
//
// Errors: [ErrNotFound].
func (q *Queue) Artifacts(ctx context.Context, project string, id AttemptID) ([]Artifact, error) {
	if err := CheckName("project", project); err != nil {
		return nil, wrap("artifacts", id.Build, err)
	}
	if id.Epoch < 0 {
		return nil, wrap("artifacts", id.Build, invalid("epoch", "must not be negative"))
	}
	rows, err := q.backend.ListArtifacts(ctx, project, id)
	return rows, wrap("artifacts", id.Build, err)
}
