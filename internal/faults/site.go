package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/slipway-build/slipway/internal/testenv"
)

// A site is what all cells share: the programs, and a PostgreSQL that nothing happens to.
type site struct {
	dir      string
	self     string
	postgres *testenv.Cluster
}

// newSite builds the programs, with clocks that can be set if any cell needs that.
func newSite(ctx context.Context, clocks bool) (_ *site, err error) {
	s := &site{}
	if s.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "slipway-faults-"); err != nil {
		return nil, err
	}
	if err = s.build(ctx, clocks); err == nil {
		s.postgres, err = startPostgres(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func startPostgres(ctx context.Context) (*testenv.Cluster, error) {
	return testenv.StartPostgres(ctx, &testenv.Options{Fsync: true, Settings: map[string]string{"max_connections": "400"}})
}

func (s *site) close() {
	if s.postgres != nil {
		_ = s.postgres.Stop()
	}
	_ = os.RemoveAll(s.dir)
}

// clockVariable names the file in which a program finds how many seconds its clock is wrong.
const clockVariable = "SLIPWAY_FAULT_CLOCK"

// build compiles the programs as they are, but for the clock if that shall be set: a file says how far it is off.
func (s *site) build(ctx context.Context, clocks bool) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/slipway-build/slipway").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	examples := filepath.Join(strings.TrimSpace(string(root)), "examples")
	args := []string{"build", "-buildvcs=false", "-o", s.dir + string(filepath.Separator)}
	if clocks {
		overlay, err := s.overlay(examples)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./controller", "./agent", "./slipway")...)
	cmd.Dir = examples
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// clockCode has a program read how far its clock is off.
const clockCode = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

func init() {
	name := os.Getenv("` + clockVariable + `")
	if name == "" {
		return
	}
	go func() {
		for {
			if b, err := os.ReadFile(name); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
					time.FaultOffset = n
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}
`

var clockLine = regexp.MustCompile(`(?m)^\tsec, nsec, mono := (runtimeNow|now)\(\)$`)

// overlay makes the file that tells the go command which files are other than they are.
func (s *site) overlay(examples string) (string, error) {
	name := filepath.Join(runtime.GOROOT(), "src", "time", "time.go") //nolint:staticcheck // the go command's own is not another
	source, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	changed := clockLine.ReplaceAllString(string(source), "$0\n\tsec += FaultOffset")
	if changed == string(source) {
		return "", errors.New("package time is not as it is expected: the clock cannot be set")
	}
	changed += "\n// FaultOffset is how many seconds the wall clock is off.\nvar FaultOffset int64\n"
	replace := map[string]string{}
	for target, content := range map[string]string{
		name: changed, filepath.Join(examples, "agent", "zz_clock.go"): clockCode, filepath.Join(examples, "controller", "zz_clock.go"): clockCode,
	} {
		file := filepath.Join(s.dir, fmt.Sprintf("overlay%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return "", err
		}
		replace[target] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(s.dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}
