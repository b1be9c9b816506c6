package api

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Headers of a piece of a log.
const (
	// LogEpoch is the attempt that the piece is of.
	LogEpoch = "Slipway-Log-Epoch"
	// LogOffset is where in the log the piece begins.
	LogOffset = "Slipway-Log-Offset"
	// LogLength is how many bytes of the log are stored.
	LogLength = "Slipway-Log-Length"
	// LogCut is "true" if the log was longer than it may be: its rest was dropped.
	LogCut = "Slipway-Log-Cut"
	// LogClosed is "true" if no more comes: the attempt has ended or, if the request named no epoch, the build has.
	LogClosed = "Slipway-Log-Closed"
)

// A NewBuild is what a client submits.
type NewBuild struct {
	ID             string            `json:"id,omitempty" doc:"UUID version 7 to give to the build, so that a submit can be repeated safely. Default: a new one."`
	Pool           string            `json:"pool,omitempty" doc:"Set of workers to run on. Default: default."`
	Labels         map[string]string `json:"labels,omitempty" doc:"Labels that a worker must have."`
	Spec           []byte            `json:"spec" doc:"What the workers' executor makes the build from, at most 256 KiB."`
	Source         *Source           `json:"source,omitempty" doc:"Archive to unpack for the build; it must have been uploaded."`
	QueueTimeoutMS int64             `json:"queue_timeout_ms,omitempty" minimum:"0" maximum:"2592000000" doc:"End the build if it waits longer, in milliseconds. Default: never."`
	RunTimeoutMS   int64             `json:"run_timeout_ms,omitempty" minimum:"0" maximum:"2592000000" doc:"End an attempt that runs longer, in milliseconds."`
	MaxAttempts    int               `json:"max_attempts,omitempty" minimum:"0" maximum:"100" doc:"How often the build may be started when workers are lost."`
	RetryFailed    bool              `json:"retry_failed,omitempty" doc:"Attempt the build again also when it failed by its own doing."`
	Priority       int               `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Each step counts as much as having been submitted a minute earlier."`
	NotBefore      *time.Time        `json:"not_before,omitempty" doc:"When the build may start at the earliest. Default: at once."`
	ConcurrencyKey string            `json:"concurrency_key,omitempty" doc:"Builds of the project with one key share its limit."`
	IdempotencyKey string            `json:"idempotency_key,omitempty" doc:"A second submit with the key adds nothing and answers with the first build."`
	Metadata       map[string]string `json:"metadata,omitempty" doc:"Kept for the submitter, at most 4 KiB."`
}

// A Source names an uploaded archive.
type Source struct {
	SHA256 string `json:"sha256" doc:"64 hexadecimal digits."`
	Size   int64  `json:"size" minimum:"0" maximum:"1125899906842624" doc:"Bytes."`
}

// A Build is a build as the API shows it.
type Build struct {
	ID             queue.ID          `json:"id"`
	Project        string            `json:"project"`
	Pool           string            `json:"pool"`
	Labels         map[string]string `json:"labels"`
	State          string            `json:"state"`
	Spec           []byte            `json:"spec,omitempty"`
	Source         *Source           `json:"source,omitempty"`
	Epoch          int64             `json:"epoch"`
	AttemptsUsed   int               `json:"attempts_used"`
	MaxAttempts    int               `json:"max_attempts"`
	Worker         string            `json:"worker,omitempty"`
	RunTimeoutMS   int64             `json:"run_timeout_ms"`
	QueueTimeoutMS int64             `json:"queue_timeout_ms,omitempty"`
	RetryFailed    bool              `json:"retry_failed,omitempty"`
	Priority       int               `json:"priority,omitempty"`
	ConcurrencyKey string            `json:"concurrency_key,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	RetryOf        *queue.ID         `json:"retry_of,omitempty"`
	CreatedAt      time.Time         `json:"created_at"`
	NotBefore      *time.Time        `json:"not_before,omitempty" doc:"When a build that is held back may start."`
	StartedAt      *time.Time        `json:"started_at,omitempty"`
	FinishedAt     *time.Time        `json:"finished_at,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	ExitCode       *int              `json:"exit_code,omitempty"`
	Signal         string            `json:"signal,omitempty"`
	// Attempts is left out of lists.
	Attempts []Attempt `json:"attempts,omitempty"`
}

// An Attempt is one start of a build.
type Attempt struct {
	Epoch     int64      `json:"epoch"`
	Worker    string     `json:"worker"`
	StartedAt time.Time  `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Outcome   string     `json:"outcome,omitempty" doc:"State that the attempt's end led to; lost if it was lost."`
	Reason    string     `json:"reason,omitempty"`
	ExitCode  *int       `json:"exit_code,omitempty"`
	Signal    string     `json:"signal,omitempty"`
	LogLength int64      `json:"log_length"`
	// LogSHA256 is the worker's sum of the log; LogComplete says that all of it is stored.
	LogSHA256   string `json:"log_sha256,omitempty"`
	LogComplete bool   `json:"log_complete"`
	// LogCut says that the log was longer than it may be.
	LogCut bool `json:"log_cut,omitempty"`
}

// An Explanation says why a build is pending.
type Explanation struct {
	State    string    `json:"state"`
	Position int       `json:"position,omitempty" doc:"Place in its queue, 1 if it is next; left out if it is not queued."`
	Verdicts []Verdict `json:"verdicts" doc:"One for each thing that the build needs; none unless it is pending."`
}

// A Verdict tells whether one thing that a build needs is there.
type Verdict struct {
	Requirement string `json:"requirement" doc:"time, class, pool, project, limit, worker, label, slot or turn."`
	Met         bool   `json:"met"`
	Text        string `json:"text" doc:"One line for people."`
}

// A Pool is what is set for a pool of workers. In a change, what is left out stays.
type Pool struct {
	Name    string         `json:"name,omitempty"`
	Paused  *bool          `json:"paused,omitempty" doc:"Builds of the pool are not started."`
	Fair    *bool          `json:"fair,omitempty" doc:"Projects share the pool by weight."`
	Weights map[string]int `json:"weights,omitempty" doc:"Shares of projects in a fair pool, 1 to 1000; 0 in a change sets one back to 1."`
}

// Pools are those for which something is set.
type Pools struct {
	Pools []Pool `json:"pools"`
}

// A Project is what is set for a project. In a change, what is left out stays.
type Project struct {
	Name          string `json:"name,omitempty"`
	Paused        *bool  `json:"paused,omitempty" doc:"Builds of the project are not started."`
	ArtifactQuota *int64 `json:"artifact_quota,omitempty" minimum:"0" doc:"Bytes of artifacts that the project may have; 0 is any."`
	ArtifactBytes int64  `json:"artifact_bytes,omitempty" doc:"How many it has."`
}

// A ProjectPage is a page of a list of projects.
type ProjectPage struct {
	Projects   []Project `json:"projects"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// A Limit is how many builds of a project with one concurrency key run at a time.
type Limit struct {
	Key  string `json:"key"`
	Max  int    `json:"max" minimum:"0" maximum:"10000" doc:"0 takes the limit away."`
	Used int    `json:"used,omitempty" doc:"Builds that have been let through and have not ended."`
}

// A LimitPage is a page of a list of limits.
type LimitPage struct {
	Limits     []Limit `json:"limits"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// A LogPiece is a part of an attempt's log: the data of an event "log".
type LogPiece struct {
	Epoch  int64  `json:"epoch"`
	Offset int64  `json:"offset"`
	Data   []byte `json:"data"`
	Cut    bool   `json:"cut,omitempty"`
}

// A LogEnd is the data of an event "end".
type LogEnd struct {
	State string `json:"state" doc:"State of the build."`
}

// Stats are the numbers of a project.
type Stats struct {
	Pending    int        `json:"pending"`
	Offered    int        `json:"offered"`
	Running    int        `json:"running"`
	Cancelling int        `json:"cancelling"`
	Days       []DayStats `json:"days" doc:"Days in UTC on which something happened, oldest first."`
}

// DayStats are the numbers of a day.
type DayStats struct {
	Day       string `json:"day" doc:"YYYY-MM-DD."`
	Submitted int64  `json:"submitted"`
	Succeeded int64  `json:"succeeded"`
	Failed    int64  `json:"failed"`
	Canceled  int64  `json:"canceled"`
	TimedOut  int64  `json:"timed_out"`
	Expired   int64  `json:"expired"`
	Lost      int64  `json:"lost"`
	Attempts  int64  `json:"attempts"`
	WaitedMS  int64  `json:"waited_ms" doc:"Sum of the builds that ended, from their submit to their last start."`
	RanMS     int64  `json:"ran_ms" doc:"Sum of the attempts that ended."`
}

// A BuildPage is a page of a list.
type BuildPage struct {
	Builds     []Build `json:"builds"`
	NextCursor string  `json:"next_cursor,omitempty" doc:"Cursor of the page that follows; left out if there is none. That page may be empty."`
}

// A Cancel is the wish that a build end.
type Cancel struct {
	Reason string `json:"reason,omitempty" doc:"Shown to people; at most 200 bytes are kept."`
}

// A Canceled tells what became of it.
type Canceled struct {
	State string `json:"state" doc:"canceled, or cancelling until the worker reports."`
}

// An Artifact is an output of an attempt.
type Artifact struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Epoch  int64  `json:"epoch"`
}

// Artifacts are the outputs of one attempt.
type Artifacts struct {
	Artifacts []Artifact `json:"artifacts"`
}

// A NewKey asks for a credential.
type NewKey struct {
	Kind        string   `json:"kind" enum:"api,worker,enrol" doc:"api for people and services, worker for agents, enrol for a token by which agents get keys."`
	Role        string   `json:"role,omitempty" enum:"admin,submitter,viewer" doc:"What an api key may do."`
	Name        string   `json:"name" doc:"What people call it."`
	Project     string   `json:"project,omitempty" doc:"Project of a submitter or viewer."`
	Worker      string   `json:"worker,omitempty" doc:"Worker that a worker key is for, or that a token may enrol: a name, or a beginning of names and *."`
	Pools       []string `json:"pools,omitempty" doc:"Pools that a worker serves, or a submitter may use (default: all)."`
	Uses        int      `json:"uses,omitempty" minimum:"0" maximum:"10000" doc:"How many workers a token may enrol. Default: 1."`
	ExpiresInMS int64    `json:"expires_in_ms,omitempty" minimum:"0" maximum:"315576000000" doc:"Default: never, but an hour for a token."`
}

// An Enrolment asks for the key of a worker with an enrolment token.
type Enrolment struct {
	Worker string `json:"worker" doc:"Name of the worker."`
	SHA256 string `json:"sha256" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the 32 bytes of the key's secret, which the worker has made, in 64 hexadecimal digits."`
}

// A Key is a credential without its secret.
type Key struct {
	ID         string     `json:"id"`
	Kind       string     `json:"kind"`
	Role       string     `json:"role"`
	Name       string     `json:"name"`
	Project    string     `json:"project,omitempty"`
	Worker     string     `json:"worker,omitempty"`
	Pools      []string   `json:"pools,omitempty"`
	Uses       int        `json:"uses,omitempty" doc:"How many workers a token may enrol."`
	EnrolledBy string     `json:"enrolled_by,omitempty" doc:"Id of the token that a worker was enrolled with."`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
}

// A CreatedKey is a new credential with its secret, which is shown this once.
type CreatedKey struct {
	Key
	Secret string `json:"key"`
}

// A KeyPage is a page of a list of credentials.
type KeyPage struct {
	Keys       []Key  `json:"keys"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// A Status is what probes are told: "live", "ready".
type Status struct {
	Status string `json:"status"`
}
