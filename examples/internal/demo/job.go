package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What some of the demo's builds run is this program again. It tells the demo by files in a directory what it does: the ids of its
// processes, and what it prints. A file "gate" there lets it end.
const (
	jobFamily = "family" // processes that stay until the gate opens
	jobWriter = "writer" // one that prints lines until the gate opens
	jobChild  = "child"  // part of a family: it does nothing, and does not listen
)

// jobLimit ends builds that nobody ends.
const jobLimit = 4 * time.Minute

func job(args []string) error {
	if len(args) != 2 {
		return errors.New("it takes no arguments")
	}
	kind, dir := args[0], args[1]
	time.AfterFunc(jobLimit, func() { os.Exit(9) })
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch kind {
	case jobFamily:
		return family(root)
	case jobWriter:
		return writer(root)
	case jobChild:
		// A child that does not end when it is asked to has to be killed.
		signal.Ignore(syscall.SIGTERM)
		if err := leavePID(root, "child"); err != nil {
			return err
		}
		select {}
	}
	return fmt.Errorf("there is no job %q", kind)
}

// family starts a child in its own process group and, where an agent can find it, one that has left the session.
func family(root *os.Root) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	sessions := []bool{false}
	if runtime.GOOS == "linux" {
		sessions = append(sessions, true)
	}
	for _, own := range sessions {
		child := exec.Command(self, jobChild, root.Name()) //nolint:noctx // whoever ends the build ends it
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: own}
		if err := child.Start(); err != nil {
			return err
		}
	}
	if err := leavePID(root, "parent"); err != nil {
		return err
	}
	fmt.Println("the family is at home, epoch", os.Getenv("SLIPWAY_EPOCH"))
	waitForGate(root, func() {})
	fmt.Println("the gate is open")
	return nil
}

// writer prints lines, and writes the same bytes into a file before.
func writer(root *os.Root) error {
	file, err := root.OpenFile("written", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	line := 0
	emit := func() {
		line++
		text := fmt.Sprintf("line %d %s\n", line, strings.Repeat("x", line%97))
		_, fileErr := file.WriteString(text)
		_, outErr := os.Stdout.WriteString(text)
		err = errors.Join(err, fileErr, outErr)
	}
	waitForGate(root, emit)
	for range 100 {
		emit()
	}
	return errors.Join(err, file.Close())
}

// waitForGate returns when there is a file "gate", and calls f now and then until that.
func waitForGate(root *os.Root, f func()) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := root.Stat("gate"); err == nil {
			return
		}
		f()
	}
}

// leavePID tells the demo of this process: pids/<epoch>-<role>-<pid>.
func leavePID(root *os.Root, role string) error {
	name := fmt.Sprintf("%s-%s-%d", os.Getenv("SLIPWAY_EPOCH"), role, os.Getpid())
	return root.WriteFile("pids/"+name, nil, 0o600)
}

// A stage is the demo's side of a job's directory.
type stage struct{ dir string }

func (d *demo) newStage(name string) (stage, error) {
	s := stage{d.path(name)}
	return s, os.MkdirAll(filepath.Join(s.dir, "pids"), 0o700)
}

// openGate lets the job end.
func (s stage) openGate() error { return os.WriteFile(filepath.Join(s.dir, "gate"), nil, 0o600) }

// pids returns the ids of the processes of one attempt, of any if epoch is zero.
func (s stage) pids(epoch int64) []int {
	names, _ := filepath.Glob(filepath.Join(s.dir, "pids", "*")) // the pattern is good
	var pids []int
	for _, name := range names {
		parts := strings.Split(filepath.Base(name), "-")
		pid, err := strconv.Atoi(parts[len(parts)-1])
		if err == nil && (epoch == 0 || parts[0] == strconv.FormatInt(epoch, 10)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// familySize is how many processes a family has.
func familySize() int {
	if runtime.GOOS == "linux" {
		return 3
	}
	return 2
}

// gone reports whether none of the processes is there any more.
func gone(pids []int) bool {
	return !slices.ContainsFunc(pids, alive)
}
