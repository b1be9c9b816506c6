package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A demo is what the steps work with.
type demo struct {
	out   io.Writer
	begun time.Time
	steps int

	self string // this program, which is also what some builds run
	dir  string // where everything is
	mark string // is in the environment of every process that is started, and of no other

	root      string // of the repository
	goEnv     []string
	schema    string // in PostgreSQL; empty: SQLite is used
	processes []*process
	waiting   sync.WaitGroup // for the ends of processes

	url        string
	adminKey   string
	submitKey  string // its file
	controller *process
	agent      *process
}

func newDemo(out io.Writer) (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "slipway-demo-")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as the kernel will name it
	}
	if err != nil {
		return nil, err
	}
	return &demo{out: out, begun: time.Now(), self: self, dir: dir, mark: "SLIPWAYDEMO=" + rand.Text(), adminKey: rand.Text() + rand.Text()}, nil
}

func (d *demo) heading(title string) {
	fmt.Fprintf(d.out, "\n== %d. %s\n", d.steps, title)
	d.steps++
}

// say tells what was seen.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

func (d *demo) path(names ...string) string {
	return filepath.Join(append([]string{d.dir}, names...)...)
}

// until waits for a condition, at most for limit.
func until(ctx context.Context, limit time.Duration, what string, met func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-timer.C:
			return fmt.Errorf("not seen within %v: %s", limit, what)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// close ends all that was started, sees that it is gone, and removes what is on disk.
func (d *demo) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, p := range d.processes {
		p.kill()
	}
	d.waiting.Wait()
	var errs []error
	var left []string
	err := until(ctx, 10*time.Second, "the end of every process", func() bool {
		left = d.living(ctx)
		return len(left) == 0
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: left are %q", err, left))
	}
	errs = append(errs, d.dropSchema(ctx), os.RemoveAll(d.dir))
	return errors.Join(errs...)
}

// showLogs prints the ends of the programs' logs, for whoever has to find out what went wrong.
func (d *demo) showLogs() {
	for _, p := range d.processes {
		fmt.Fprintf(d.out, "\n-- the end of the log of %s\n%s", p.name, tail(p.log, 4<<10))
	}
}

func tail(path string, most int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd) // from the beginning is as good
	}
	b, _ := io.ReadAll(io.LimitReader(f, most)) // what can be read is shown
	return b
}
