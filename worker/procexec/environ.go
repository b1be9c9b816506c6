package procexec

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-build/slipway/worker"
)

// The directories of a build below its [worker.Job]'s Dir.
const (
	homeDir = "home"
	tempDir = "tmp"
)

// defaultPath is a build's PATH when the agent has none.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// passedOn returns what builds see of the agent's environment.
func passedOn(environ, names []string) (map[string]string, error) {
	allowed := map[string]bool{"PATH": true, "LANG": true, "TZ": true}
	for _, name := range names {
		switch {
		case !validName(name):
			return nil, fmt.Errorf("procexec: PassEnv %q is not the name of a variable", name)
		case name == "HOME" || name == "TMPDIR" || strings.HasPrefix(name, reservedPrefix):
			return nil, fmt.Errorf("procexec: PassEnv must not hold %s: every build has its own", name)
		}
		allowed[name] = true
	}
	passed := map[string]string{"PATH": defaultPath}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if allowed[name] || strings.HasPrefix(name, "LC_") {
			passed[name] = value
		}
	}
	return passed, nil
}

// childEnv returns the whole environment of a build's command, sorted. What Slipway gives to the attempt stands above all else.
func childEnv(passed, spec map[string]string, job worker.Job) []string {
	env := maps.Clone(passed)
	env["HOME"] = filepath.Join(job.Dir, homeDir)
	env["TMPDIR"] = filepath.Join(job.Dir, tempDir)
	maps.Copy(env, spec)
	for _, variable := range job.Env {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}
