package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/examples/internal/pack"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

type submitCommand struct {
	Label        []string       `sep:"none" placeholder:"KEY=VALUE" help:"A label that the worker must have. May be repeated."`
	Pool         string         `placeholder:"POOL" help:"Set of workers to run on. Default: default."`
	Artifact     []string       `sep:"none" placeholder:"GLOB" help:"Files to keep, relative to the directory; ** stands for any number of directories. May be repeated."`
	Env          []string       `sep:"none" placeholder:"NAME=VALUE" help:"A variable of the command's environment. May be repeated."`
	RunTimeout   *time.Duration `placeholder:"TIME" help:"End an attempt that runs longer, such as 30m. Default: the controller's."`
	QueueTimeout *time.Duration `placeholder:"TIME" help:"End the build if it waits longer for a worker. Default: never."`
	MaxAttempts  *int           `placeholder:"N" help:"How often the build may be started when workers are lost. Default: the controller's."`
	RetryFailed  bool           `help:"Attempt the build again also when it fails by its own doing, as long as it has attempts left."`
	Priority     int            `placeholder:"N" help:"From -100 to 100; each step counts as much as having been submitted a minute earlier. Default: 0."`
	NotBefore    string         `placeholder:"TIME" help:"Start at this time at the earliest, such as 2026-01-31T22:00:00Z, or after a while, such as 90m."`
	Key          string         `placeholder:"TEXT" help:"Concurrency key: builds of the project with one key share its limit, which slipway limit sets."`
	Once         string         `placeholder:"TEXT" help:"Idempotency key: if a build was submitted with it before, that one is taken."`
	Meta         []string       `sep:"none" placeholder:"NAME=VALUE" help:"Something to keep with the build. May be repeated."`
	NoGit        bool           `help:"Pack everything but .git, also what git ignores."`
	Wait         bool           `help:"Print the log and end when the build does, with exit code 1 unless it succeeded."`
	Quiet        bool           `short:"q" help:"No notices, and with --wait no log."`

	Dir     string   `arg:"" help:"Directory to pack: the command's working directory."`
	Command []string `arg:"" name:"command" help:"The program to run and its arguments, after --."`
}

// Help is shown by --help.
func (submitCommand) Help() string {
	return "The directory is packed: in a git checkout what git tracks or would not ignore, elsewhere everything but .git. " +
		"It is sent unless the controller has it. The command is given to no shell: use sh -c '…' if you want one."
}

// Run submits a build.
func (s *submitCommand) Run(in *invocation) error {
	in.quiet = s.Quiet
	build, err := s.newBuild()
	if err != nil {
		return err
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	if build.Source, err = s.upload(in, c); err != nil && in.ctx.Err() != nil {
		return fmt.Errorf("%w; nothing was submitted", errInterrupted)
	} else if err != nil {
		return err
	}
	submitted, err := c.Submit(in.ctx, build)
	if err != nil {
		return err
	}
	if s.Wait {
		in.notice("build %s submitted", submitted.ID)
		return s.wait(in, c, submitted.ID)
	}
	if in.json {
		return in.document(submitted)
	}
	_, err = fmt.Fprintln(in.stdout, submitted.ID)
	return err
}

// newBuild checks what was given, before anything is sent.
func (s *submitCommand) newBuild() (api.NewBuild, error) {
	labels, err := queue.ParseLabels(s.Label...)
	if err != nil {
		return api.NewBuild{}, usage("--label: %s", rule(err))
	}
	if s.Pool != "" {
		if err := queue.CheckName("--pool", s.Pool); err != nil {
			return api.NewBuild{}, usage("%s", rule(err))
		}
	}
	if s.Priority < -queue.MaxPriority || s.Priority > queue.MaxPriority {
		return api.NewBuild{}, usage("--priority must be between %d and %d", -queue.MaxPriority, queue.MaxPriority)
	}
	limits, err := s.limits()
	if err != nil {
		return api.NewBuild{}, err
	}
	env, err := pairs("--env", s.Env)
	if err != nil {
		return api.NewBuild{}, err
	}
	metadata, err := pairs("--meta", s.Meta)
	if err != nil {
		return api.NewBuild{}, err
	}
	notBefore, err := s.notBefore(time.Now())
	if err != nil {
		return api.NewBuild{}, err
	}
	spec, err := procexec.Spec{Command: s.Command, Env: env, Artifacts: s.Artifact}.Encode()
	if err != nil {
		return api.NewBuild{}, usage("%s", strings.TrimPrefix(err.Error(), worker.ErrBadSpec.Error()+": "))
	}
	return api.NewBuild{
		ID: queue.NewID().String(), Pool: s.Pool, Labels: labels, Spec: spec, MaxAttempts: limits.attempts,
		RunTimeoutMS: limits.run.Milliseconds(), QueueTimeoutMS: limits.queue.Milliseconds(),
		RetryFailed: s.RetryFailed, Priority: s.Priority, NotBefore: notBefore, ConcurrencyKey: s.Key, IdempotencyKey: s.Once, Metadata: metadata,
	}, nil
}

// pairs reads what a flag was given.
func pairs(flag string, given []string) (map[string]string, error) {
	all := make(map[string]string, len(given))
	for _, pair := range given {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usage("%s: %.64q must have the form NAME=VALUE", flag, pair)
		}
		all[name] = value
	}
	return all, nil
}

// notBefore is the time that was given, or that lies as far ahead as was given; nil if none was.
func (s *submitCommand) notBefore(now time.Time) (*time.Time, error) {
	if s.NotBefore == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, s.NotBefore); err == nil {
		return &t, nil
	}
	d, err := time.ParseDuration(s.NotBefore)
	if err != nil || d < 0 {
		return nil, usage("--not-before must be a time such as 2026-01-31T22:00:00Z or 90m")
	}
	return new(now.Add(d).UTC()), nil
}

// limits are those of a build, zero where the controller's hold.
type limits struct {
	run, queue time.Duration
	attempts   int
}

// limits checks what was given. A zero is none of the values that may be: to have the controller's, the flag is left out.
func (s *submitCommand) limits() (limits, error) {
	var l limits
	for _, timeout := range []struct {
		name  string
		given *time.Duration
		value *time.Duration
	}{{"--run-timeout", s.RunTimeout, &l.run}, {"--queue-timeout", s.QueueTimeout, &l.queue}} {
		if timeout.given == nil {
			continue
		}
		d := *timeout.given
		if d <= 0 || d > queue.MaxTimeout || d%time.Millisecond != 0 {
			return limits{}, usage("%s must be between 1ms and %v", timeout.name, queue.MaxTimeout)
		}
		*timeout.value = d
	}
	if s.MaxAttempts != nil {
		if *s.MaxAttempts < 1 || *s.MaxAttempts > queue.MaxMaxAttempts {
			return limits{}, usage("--max-attempts must be between 1 and %d", queue.MaxMaxAttempts)
		}
		l.attempts = *s.MaxAttempts
	}
	return l, nil
}

// upload packs the directory and sees to it that the controller has the archive.
func (s *submitCommand) upload(in *invocation, c *client.Client) (*api.Source, error) {
	if info, err := os.Stat(s.Dir); err != nil {
		return nil, usage("the directory cannot be packed: %w", err)
	} else if !info.IsDir() {
		return nil, usage("%s is not a directory: name the directory that the command shall run in", s.Dir)
	}
	archive, err := os.CreateTemp("", "slipway-source-")
	if err != nil {
		return nil, fmt.Errorf("cannot pack: %w", err)
	}
	defer func() {
		_ = archive.Close()
		_ = os.Remove(archive.Name())
	}()
	source, summary, err := s.pack(in, archive)
	if err != nil {
		return nil, err
	}
	p := in.progress("uploading", source.Size)
	present, err := c.PutSource(in.ctx, source, func() (io.ReadCloser, error) {
		p.done = 0
		return io.NopCloser(io.TeeReader(io.NewSectionReader(archive, 0, source.Size), p)), nil
	})
	p.end()
	if err != nil {
		return nil, err
	}
	what := "uploaded"
	if present {
		what = "there already"
	}
	in.notice("packed %s of %s; the source of %s is %s", count(summary.Files, "file"), size(summary.Bytes), size(source.Size), what)
	return &source, nil
}

func (s *submitCommand) pack(in *invocation, archive *os.File) (api.Source, pack.Summary, error) {
	sum := sha256.New()
	summary, err := pack.Write(in.ctx, io.MultiWriter(archive, sum), s.Dir, &pack.Options{Everything: s.NoGit})
	switch {
	case errors.Is(err, pack.ErrEmpty):
		return api.Source{}, summary, fmt.Errorf("%s: %w; git may ignore it, which --no-git overrides", s.Dir, err)
	case errors.Is(err, pack.ErrGit):
		return api.Source{}, summary, fmt.Errorf("%w; --no-git does without git", err)
	case err != nil:
		return api.Source{}, summary, err
	}
	length, err := archive.Seek(0, io.SeekEnd)
	return api.Source{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: length}, summary, err
}

// wait prints the log of a build until it ends, and fails unless it succeeded.
func (s *submitCommand) wait(in *invocation, c *client.Client, id queue.ID) error {
	patient := c.Patient()
	var err error
	if !s.Quiet && !in.json {
		err = printLog(in, patient, id, client.LogOptions{Follow: true}, in.stdout)
	}
	var build api.Build
	if err == nil {
		build, err = patient.Wait(in.ctx, id)
	}
	if in.ctx.Err() != nil {
		return fmt.Errorf("%w; build %s goes on: slipway logs -f %s follows it, slipway cancel %s ends it", errInterrupted, id, id, id)
	}
	if err != nil {
		return err
	}
	if in.json {
		err = in.document(build)
	}
	if build.State != queue.Succeeded.String() {
		return errors.Join(err, fmt.Errorf("build %s %s", id, describe(build)))
	}
	in.notice("build %s succeeded%s", id, took(build))
	return err
}
