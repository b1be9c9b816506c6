package server

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

// buildOf is a build as clients see it, without its spec and attempts.
func buildOf(b queue.Build) api.Build {
	shown := api.Build{
		ID: b.ID, Project: b.Project, Pool: b.Pool, Labels: b.Labels, State: b.State.String(), Epoch: b.Epoch,
		AttemptsUsed: b.AttemptsUsed, MaxAttempts: b.MaxAttempts, Worker: b.Worker,
		RunTimeoutMS: b.RunTimeout.Milliseconds(), QueueTimeoutMS: b.QueueTimeout.Milliseconds(),
		RetryFailed: b.RetryFailed, Priority: b.Priority, ConcurrencyKey: b.ConcurrencyKey, IdempotencyKey: b.IdempotencyKey,
		Metadata: b.Metadata, NotBefore: timeOf(b.NotBefore),
		CreatedAt: b.CreatedAt.UTC(), StartedAt: timeOf(b.StartedAt), FinishedAt: timeOf(b.FinishedAt),
		Reason: b.Reason, ExitCode: b.ExitCode, Signal: b.Signal,
	}
	if shown.Labels == nil {
		shown.Labels = map[string]string{}
	}
	if !b.RetryOf.IsZero() {
		shown.RetryOf = &b.RetryOf
	}
	if b.Source != nil {
		shown.Source = &api.Source{SHA256: b.Source.Digest.String(), Size: b.Source.Size}
	}
	return shown
}

func attemptOf(a queue.Attempt) api.Attempt {
	shown := api.Attempt{
		Epoch: a.Epoch, Worker: a.Worker, StartedAt: a.StartedAt.UTC(), EndedAt: timeOf(a.EndedAt),
		Reason: a.Reason, ExitCode: a.ExitCode, Signal: a.Signal, LogLength: a.LogLength, LogComplete: a.LogComplete, LogCut: a.LogCut,
	}
	if a.Outcome != 0 {
		shown.Outcome = a.Outcome.String()
	}
	if a.LogSHA256 != (queue.Digest{}) {
		shown.LogSHA256 = a.LogSHA256.String()
	}
	return shown
}

func keyOf(k auth.Key) api.Key {
	shown := api.Key{
		ID: k.ID, Kind: string(k.Kind), Role: string(k.Role), Name: k.Name, Project: k.Project, Worker: k.Worker, Pools: k.Pools,
		Uses: k.Uses, EnrolledBy: k.EnrolledBy,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: timeOf(k.ExpiresAt), RevokedAt: timeOf(k.RevokedAt), LastUsedAt: timeOf(k.LastUsedAt),
	}
	return shown
}

// timeOf returns nil for a time that is not known.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// Cursors are opaque to clients: what is in them may change.

func buildCursor(last queue.ID) string { return base64.RawURLEncoding.EncodeToString(last[:]) }

func parseBuildCursor(cursor string) (queue.ID, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) != len(queue.ID{}) {
		return queue.ID{}, errCursor
	}
	id := queue.ID(b)
	if _, err := queue.ParseID(id.String()); err != nil {
		return queue.ID{}, errCursor
	}
	return id, nil
}

func nameCursor(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func parseNameCursor(cursor string) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || !utf8.Valid(b) {
		return "", errCursor
	}
	return string(b), nil
}

func keyCursor(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func parseKeyCursor(cursor string) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) == 0 {
		return "", errCursor
	}
	return string(b), nil
}

var errCursor = invalid("query.cursor: must be the next_cursor of a page")
