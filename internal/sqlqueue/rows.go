package sqlqueue

import (
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/queue"
)

type buildRow struct {
	bun.BaseModel `bun:"alias:b"`

	ID           idColumn     `bun:"id"`
	Project      string       `bun:"project"`
	Pool         string       `bun:"pool"`
	Labels       string       `bun:"labels"`
	State        State        `bun:"state"`
	Spec         []byte       `bun:"spec"`
	SourceDigest digestColumn `bun:"source_digest"`
	SourceSize   *int64       `bun:"source_size"`
	Epoch        int64        `bun:"epoch"`
	AttemptsUsed int          `bun:"attempts_used"`
	MaxAttempts  int          `bun:"max_attempts"`
	RunTimeout   int64        `bun:"run_timeout"`
	QueueTimeout *int64       `bun:"queue_timeout"`
	BackoffBase  int64        `bun:"backoff_base"`
	BackoffMax   int64        `bun:"backoff_max"`
	RetryFailed  bool         `bun:"retry_failed"`
	Priority     int          `bun:"priority"`
	LimitKey     string       `bun:"limit_key"`
	IdemKey      *string      `bun:"idem_key"`
	Metadata     *string      `bun:"metadata"`
	RetryOf      idColumn     `bun:"retry_of"`
	CreatedAt    timeColumn   `bun:"created_at"`
	NotBefore    timeColumn   `bun:"not_before"`
	Worker       string       `bun:"worker"`
	StartedAt    timeColumn   `bun:"started_at"`
	FinishedAt   timeColumn   `bun:"finished_at"`
	Reason       string       `bun:"reason"`
	ExitCode     *int         `bun:"exit_code"`
	Signal       string       `bun:"signal"`
}

func (r *buildRow) build() (queue.Build, error) {
	labels, err := ParseLabels(r.Labels)
	if err != nil {
		return queue.Build{}, err
	}
	metadata, err := ParseMetadata(text(r.Metadata))
	if err != nil {
		return queue.Build{}, err
	}
	b := queue.Build{
		ID: queue.ID(r.ID), Project: r.Project, Pool: r.Pool, Labels: labels, State: r.State.Public(), Spec: r.Spec,
		Epoch: r.Epoch, AttemptsUsed: r.AttemptsUsed, MaxAttempts: r.MaxAttempts, Worker: r.Worker,
		RunTimeout: Duration(r.RunTimeout), RetryFailed: r.RetryFailed,
		Backoff:  queue.Backoff{Base: Duration(r.BackoffBase), Max: Duration(r.BackoffMax)},
		Priority: r.Priority, ConcurrencyKey: r.LimitKey, IdempotencyKey: text(r.IdemKey), Metadata: metadata, RetryOf: queue.ID(r.RetryOf),
		CreatedAt: time.Time(r.CreatedAt), NotBefore: time.Time(r.NotBefore),
		StartedAt: time.Time(r.StartedAt), FinishedAt: time.Time(r.FinishedAt),
		Reason: r.Reason, ExitCode: r.ExitCode, Signal: r.Signal,
	}
	if r.QueueTimeout != nil {
		b.QueueTimeout = Duration(*r.QueueTimeout)
	}
	if r.SourceSize != nil {
		b.Source = &queue.Source{Digest: queue.Digest(r.SourceDigest), Size: *r.SourceSize}
	}
	return b, nil
}

// text reads a column of text. Null becomes empty.
func text(column *string) string {
	if column == nil {
		return ""
	}
	return *column
}

// An attemptRow is a row of attempt with what is stored of its log.
type attemptRow struct {
	bun.BaseModel `bun:"alias:a"`

	BuildID     idColumn     `bun:"build_id"`
	Epoch       int64        `bun:"epoch"`
	Worker      string       `bun:"worker"`
	StartedAt   timeColumn   `bun:"started_at"`
	EndedAt     timeColumn   `bun:"ended_at"`
	Outcome     State        `bun:"outcome"`
	Reason      string       `bun:"reason"`
	ExitCode    *int         `bun:"exit_code"`
	Signal      string       `bun:"signal"`
	LogSHA256   digestColumn `bun:"log_sha256"`
	LogComplete bool         `bun:"log_complete"`
	LogLength   int64        `bun:"log_length,scanonly"`
	LogCut      bool         `bun:"log_cut,scanonly"`
}

func (r *attemptRow) attempt() queue.Attempt {
	return queue.Attempt{
		AttemptID: queue.AttemptID{Build: queue.ID(r.BuildID), Epoch: r.Epoch},
		Worker:    r.Worker, StartedAt: time.Time(r.StartedAt), EndedAt: time.Time(r.EndedAt), Outcome: r.Outcome.Public(),
		Reason: r.Reason, ExitCode: r.ExitCode, Signal: r.Signal,
		LogLength: r.LogLength, LogSHA256: queue.Digest(r.LogSHA256), LogComplete: r.LogComplete, LogCut: r.LogCut,
	}
}

type artifactRow struct {
	bun.BaseModel `bun:"alias:a"`

	BuildID   idColumn     `bun:"build_id"`
	Epoch     int64        `bun:"epoch"`
	Name      string       `bun:"name"`
	Project   string       `bun:"project"`
	Digest    digestColumn `bun:"digest"`
	Size      int64        `bun:"size"`
	Committed bool         `bun:"committed"`
	CreatedAt timeColumn   `bun:"created_at"`
}

func (r *artifactRow) artifact() queue.Artifact {
	return queue.Artifact{
		AttemptID: queue.AttemptID{Build: queue.ID(r.BuildID), Epoch: r.Epoch},
		Project:   r.Project, Name: r.Name, Digest: queue.Digest(r.Digest), Size: r.Size,
		Committed: r.Committed, CreatedAt: time.Time(r.CreatedAt),
	}
}

type classRow struct {
	bun.BaseModel `bun:"alias:c"`

	ID     queue.ClassID `bun:"id"`
	Pool   string        `bun:"pool"`
	Labels string        `bun:"labels"`
}

func (r *classRow) class() (queue.Class, error) {
	labels, err := ParseLabels(r.Labels)
	return queue.Class{ID: r.ID, Pool: r.Pool, Labels: labels}, err
}
