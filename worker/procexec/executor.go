package procexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// Errors that are not the build's fault. [Executor.Run] and [New] wrap them.
var (
	// ErrNoGuardian says that main did not call [Guardian] before [New].
	ErrNoGuardian = errors.New("procexec: main must call procexec.Guardian first")
	// ErrGuardianLost says that a build's guardian died before the build. The build was killed as far as it could still be
	// found; how it ended is not known.
	ErrGuardianLost = errors.New("procexec: guardian lost")
	// ErrNotKilled says that processes of the build withstood SIGKILL for [Options.KillTimeout]: they belong to another
	// user, or wait inside the kernel.
	ErrNotKilled = fmt.Errorf("procexec: %w", worker.ErrNotKilled)
)

// What [Options] fields that are zero mean.
const (
	DefaultNice        = 5
	DefaultKillTimeout = 10 * time.Second
)

// Options are the settings of an [Executor].
type Options struct {
	// PassEnv names variables of the agent's environment that every build may see, as they are when New is called; those that
	// are not set are passed over. HOME, TMPDIR and names beginning with SLIPWAY_ are refused. Default: none.
	// PATH, LANG, TZ and names beginning with LC_ are passed on always.
	PassEnv []string
	// User is the name of the user that builds run as, instead of the agent's own: who runs the agent is root then, and builds can neither
	// read what is the agent's nor end it. The user must not be root, and is given the directories of each attempt. All builds of an agent
	// are one user, so they can get at each other where they run at once. Default: the agent's user.
	User string
	// Tools are programs without which builds need not be tried: [Executor.Preflight] looks for them, in the PATH of builds unless they
	// are paths. Default: none.
	Tools []string
	// Nice is how far the build's scheduling priority is put below the agent's, 1 to 19 nice levels, so that a build that
	// takes every core does not starve the agent's heartbeats. -1 leaves it alone. Default: 5.
	Nice int
	// KillTimeout is how long Run waits for killed processes to be gone before it gives up with [ErrNotKilled].
	// Default: 10 s.
	KillTimeout time.Duration
}

// An Executor runs builds as processes of this machine. It implements [worker.Executor], is safe for concurrent use and holds
// nothing that needs to be closed.
type Executor struct {
	self        string
	passed      map[string]string
	tools       []string
	user        *account // nil: the agent's
	nice        int
	killTimeout time.Duration
}

var (
	_ worker.Executor = (*Executor)(nil)
	_ worker.Reaper   = (*Executor)(nil)
	_ worker.Confined = (*Executor)(nil)

	_ worker.Preflighter = (*Executor)(nil)
)

// New returns an Executor. Nil options are the defaults.
//
// It fails with [ErrNoGuardian] if [Guardian] was not called, with an error that wraps [errors.ErrUnsupported] on systems other
// than Linux and macOS, and with an [*OptionError] if an option is out of range or builds cannot be run as [Options.User]: one that
// wraps [fs.ErrPermission] if this is not root.
func New(o *Options) (*Executor, error) {
	if o == nil {
		o = &Options{}
	}
	self, err := ownProgram()
	if err != nil {
		return nil, err
	}
	e := &Executor{self: self, nice: o.Nice, killTimeout: o.KillTimeout}
	switch {
	case e.nice == 0:
		e.nice = DefaultNice
	case e.nice == -1:
		e.nice = 0
	case e.nice < 0 || e.nice > 19:
		return nil, &OptionError{"Nice", fmt.Errorf("procexec: Nice is %d: it must be -1 or from 0 to 19", o.Nice)}
	}
	switch {
	case e.killTimeout == 0:
		e.killTimeout = DefaultKillTimeout
	case e.killTimeout < 0:
		return nil, &OptionError{"KillTimeout", fmt.Errorf("procexec: KillTimeout is %v: it must not be negative", o.KillTimeout)}
	}
	if o.User != "" {
		if e.user, err = findAccount(o.User); err != nil {
			return nil, &OptionError{"User", err}
		}
	}
	if e.passed, err = passedOn(os.Environ(), o.PassEnv); err != nil {
		return nil, &OptionError{"PassEnv", err}
	}
	if slices.Contains(o.Tools, "") {
		return nil, &OptionError{"Tools", errors.New("procexec: Tools has an empty name")}
	}
	e.tools = slices.Clone(o.Tools)
	return e, nil
}

// Preflight implements [worker.Preflighter]: it looks for [Options.Tools]. The command of the build itself may come with its source.
func (e *Executor) Preflight(context.Context, []byte) error {
	for _, tool := range e.tools {
		if !e.has(tool) {
			return fmt.Errorf("the program %s is not installed", tool)
		}
	}
	return nil
}

func (e *Executor) has(tool string) bool {
	if strings.ContainsRune(tool, filepath.Separator) {
		_, err := exec.LookPath(tool)
		return err == nil
	}
	return slices.ContainsFunc(filepath.SplitList(e.passed["PATH"]), func(dir string) bool {
		_, err := exec.LookPath(filepath.Join(dir, tool))
		return filepath.IsAbs(dir) && err == nil
	})
}

// An OptionError tells which of the [Options] cannot be had, and why.
type OptionError struct {
	Option string // the name of the field
	Err    error  // never nil
}

// Error returns the text of the cause, which names the option.
func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// MakeDir implements [worker.Confined]. Directories that exist are left as they are but for dir itself, and that too if [Options.User]
// can pass through it.
func (e *Executor) MakeDir(dir string) error {
	dir, err := filepath.Abs(dir)
	switch {
	case err != nil:
	case e.user != nil:
		err = e.user.makeDir(dir)
	default:
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	return nil
}

// Run runs the command of the job's [Spec], as [worker.Executor] demands. The package documentation says what is done around it.
//
// A command that cannot be started ends the attempt with exit code 127 (not found) or 126 (anything else) and a line in the log.
// An attempt whose ctx had ended before it was started has exit code -1 and no signal.
//
// Artifacts are looked for however the command ended, because a failed test's report is what its user wants to see. Only when
// job.Kill is closed or the lease was lost ([worker.ErrLeaseLost]) nobody could take them, and they are left out.
//
// Errors wrap [worker.ErrBadSpec], [ErrGuardianLost], [ErrNotKilled] or what the operating system said.
func (e *Executor) Run(ctx context.Context, job worker.Job) (worker.Result, error) {
	spec, err := ParseSpec(job.Spec)
	if err != nil {
		return worker.Result{}, err
	}
	if closed(ctx.Done()) || closed(job.Kill) {
		return worker.Result{ExitCode: -1}, nil
	}
	if err := makeDirs(&job); err != nil {
		return worker.Result{}, err
	}
	if e.user != nil {
		source, _ := filepath.Rel(job.Dir, job.Source) // which makeDirs has found to be below
		if err := e.user.own(job.Dir, source, homeDir, tempDir); err != nil {
			return worker.Result{}, err
		}
	}
	log := &buildLog{w: job.Log}
	result, err := e.supervise(ctx, job, order{
		Command:     spec.Command,
		Env:         childEnv(e.passed, spec.Env, job),
		Nice:        e.nice,
		KillTimeout: e.killTimeout,
		Lease:       leaseOf(job),
		User:        e.user,
	}, log)
	if err == nil && !closed(job.Kill) && !errors.Is(context.Cause(ctx), worker.ErrLeaseLost) {
		result.Artifacts = collect(job.Source, e.user, spec.Artifacts, log, job.Kill)
	}
	return result, err
}

// leaseOf returns how long a job may live on. It is zero if there is no end to it.
func leaseOf(job worker.Job) time.Duration {
	if job.Lease == nil {
		return 0
	}
	return max(job.Lease(), 1)
}

// An order is what a guardian is told to run.
type order struct {
	Command     []string
	Env         []string
	Nice        int
	KillTimeout time.Duration
	Lease       time.Duration // zero: none
	User        *account      // nil: the guardian's
}

// makeDirs makes the job's directories absolute and creates the build's own HOME and TMPDIR. What exists there already may be a
// link that the source planted, so it is an error.
func makeDirs(job *worker.Job) error {
	dir, err := filepath.Abs(job.Dir)
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	source, err := filepath.Abs(job.Source)
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	below, err := filepath.Rel(dir, source)
	if err != nil || below == "." || !filepath.IsLocal(below) {
		return fmt.Errorf("procexec: source directory %s is not below the attempt's directory %s", source, dir)
	}
	job.Dir, job.Source = dir, source
	for _, name := range []string{homeDir, tempDir} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("procexec: %w", err)
		}
	}
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
