package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

const (
	// scarce is how many bytes of free disk are worth a warning.
	scarce = 2 << 30
	// fewFiles is how many open files an agent with some builds and transfers may come to need.
	fewFiles = 1024
	// guardianTimeout is how long a build that does nothing may take.
	guardianTimeout = 30 * time.Second
)

// credentialFix is the command that mends what readCredential complains of.
func (s *settings) credentialFix() string {
	file := s.keyFile
	if file == "" {
		file = "agent.key"
	} else if info, err := os.Stat(file); err == nil && info.Size() > 0 && info.Mode().Perm()&0o007 != 0 {
		return "chmod 600 " + file
	}
	return fmt.Sprintf("slipway keys create worker --worker %s -o %s", s.agent.Worker, file)
}

// checkDir looks at the agent's directory.
func (d *doctor) checkDir(ctx context.Context) {
	dir, err := filepath.Abs(d.settings.agent.Dir)
	if err != nil {
		d.fail("directory", "agent doctor -dir /var/lib/slipway", "%v", err)
		return
	}
	there := existing(dir)
	file, err := os.CreateTemp(there, ".slipway-doctor-")
	if err != nil {
		d.fail("directory", "chown "+userName()+" "+there, "nothing can be written in %s: %v", there, err)
		return
	}
	_, err = file.WriteString("slipway")
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name())); err != nil {
		d.fail("directory", "df -h "+there, "a file in %s cannot be written and removed: %v", there, err)
		return
	}
	if there == dir {
		d.ok("directory", "%s can be written", dir)
	} else {
		d.ok("directory", "%s can be made", dir)
	}
	switch free, known := freeBytes(there); {
	case !known:
	case free < d.settings.agent.MinFree:
		d.fail("disk", "df -h "+there, "%d MiB are free in %s, and below the %d MiB of -min-free builds are declined",
			free>>20, there, d.settings.agent.MinFree>>20)
	case free < scarce:
		d.warn("disk", "df -h "+there, "%d MiB are free in %s", free>>20, there)
	default:
		d.ok("disk", "%d MiB are free in %s", free>>20, there)
	}
	if there != dir {
		return
	}
	if mounted := foreign(dir); mounted != "" {
		d.fail("filesystem", "umount "+mounted, "%s is another file system than %s: files cannot be moved from one to the other", mounted, dir)
	} else {
		d.ok("filesystem", "%s is on one file system", dir)
	}
	d.checkInUse(ctx, dir)
}

// existing returns dir, or the innermost directory around it that exists.
func existing(dir string) string {
	for {
		_, err := os.Stat(dir)
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return dir
		}
		dir = parent
	}
}

// checkMachine looks at what the operating system allows the agent.
func (d *doctor) checkMachine() {
	d.checkUser()
	switch files, known := openFiles(); {
	case !known:
	case files < fewFiles:
		d.warn("open files", fmt.Sprintf("ulimit -n %d", 4*fewFiles), "at most %d files may be open at once", files)
	default:
		d.ok("open files", "%d may be open at once", files)
	}
}

// checkUser looks at what builds may do to the agent.
func (d *doctor) checkUser() {
	s := d.settings
	const risk = "so a hostile build can read its credential, and end it"
	switch executor, err := s.executor(); {
	case s.buildUser == "" && os.Geteuid() == 0:
		d.warn("user", "useradd --system slipway-build, and agent run -build-user slipway-build", "builds run as root, as the agent does, %s", risk)
	case s.buildUser == "":
		d.warn("user", "run the agent as root with -build-user, if it takes builds of people you do not trust", "builds run as %s, as the agent does, %s",
			userName(), risk)
	case err != nil: // which checkSettings tells
	default:
		if err := executor.CheckReach(s.agent.Dir + "/.."); err != nil {
			d.fail("user", "agent doctor -dir /var/lib/slipway-agent", "%v", err)
			return
		}
		d.ok("user", "builds run as %s, the agent as %s", s.buildUser, userName())
	}
}

// checkTools looks for the programs that builds are going to need.
func (d *doctor) checkTools() {
	for _, tool := range d.settings.tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			d.fail("tool "+tool, "PATH=/where/"+tool+"/is:$PATH agent doctor -tools "+tool, "install it, or add to PATH where it is: that is %s", os.Getenv("PATH"))
			continue
		}
		d.ok("tool "+tool, "%s", path)
	}
}

// checkGuardian runs a build that does nothing, in a directory of its own.
func (d *doctor) checkGuardian(ctx context.Context) {
	const name, fix = "guardian", "ls -l /proc/self/exe, and start the agent from a file that its user may execute"
	dir, err := os.MkdirTemp("", "slipway-doctor-")
	if err != nil {
		d.fail(name, "chmod 1777 "+os.TempDir(), "no directory for a build that does nothing: %v", err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the directory for what may be left
	source := filepath.Join(dir, "source")
	spec, err := procexec.Spec{Command: []string{"true"}}.Encode()
	executor, newErr := d.settings.executor()
	if err = errors.Join(err, newErr, os.Mkdir(source, 0o700)); err != nil {
		d.fail(name, fix, "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, guardianTimeout)
	defer cancel()
	var log strings.Builder
	result, err := executor.Run(ctx, worker.Job{
		Build: queue.NewID(), Epoch: 1, Spec: spec, Dir: dir, Source: source, Log: &log, Grace: time.Second,
	})
	switch {
	case err != nil:
		d.fail(name, fix, "a build that does nothing could not be run: %v", err)
	case result.ExitCode != 0:
		d.fail(name, fix, "a build that does nothing ended with %d: %s", result.ExitCode, strings.TrimSpace(log.String()))
	default:
		d.ok(name, "a build that does nothing was run")
	}
}

// checkInUse asks whether an agent works in the directory already.
func (d *doctor) checkInUse(ctx context.Context, dir string) {
	conn, err := dialControl(ctx, dir)
	if err != nil {
		d.ok("in use", "no agent works in %s", dir)
		return
	}
	_ = conn.Close()
	d.warn("in use", "agent status -dir "+dir, "an agent works in %s: another one needs another directory", dir)
}
