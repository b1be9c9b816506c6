package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-build/slipway/examples/internal/bytesize"
	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// settings are what the flags and the environment say.
type settings struct {
	agent     worker.AgentOptions
	keyFile   string
	labels    list
	urls      list
	passEnv   list
	tools     list
	nice      int
	buildUser string
	logFormat string
	logLevel  slog.Level
	config    string
	health    string
	// origin tells of each setting that was made where.
	origin map[string]origin
}

// list is a flag that may be repeated, and whose values may be lists themselves.
type list []string

// String implements [flag.Value].
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements [flag.Value].
func (l *list) Set(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			return errors.New("an element of the list is empty")
		}
		*l = append(*l, item)
	}
	return nil
}

// variables are the environment's names for the flags.
var variables = map[string]string{ //nolint:gosec // names, and no secrets
	"config":         "SLIPWAY_WORKER_CONFIG",
	"url":            "SLIPWAY_URL",
	"key-file":       "SLIPWAY_WORKER_KEY_FILE",
	"name":           "SLIPWAY_WORKER_NAME",
	"dir":            "SLIPWAY_WORKER_DIR",
	"slots":          "SLIPWAY_WORKER_SLOTS",
	"label":          "SLIPWAY_WORKER_LABELS",
	"pass-env":       "SLIPWAY_WORKER_PASS_ENV",
	"tools":          "SLIPWAY_WORKER_TOOLS",
	"min-free":       "SLIPWAY_WORKER_MIN_FREE",
	"nice":           "SLIPWAY_WORKER_NICE",
	"build-user":     "SLIPWAY_WORKER_BUILD_USER",
	"keep-workspace": "SLIPWAY_WORKER_KEEP",
	"reconnect-min":  "SLIPWAY_WORKER_RECONNECT_MIN",
	"reconnect-max":  "SLIPWAY_WORKER_RECONNECT_MAX",
	"stop-timeout":   "SLIPWAY_WORKER_STOP_TIMEOUT",
	"health":         "SLIPWAY_WORKER_HEALTH",
	"log-format":     "SLIPWAY_LOG_FORMAT",
	"log-level":      "SLIPWAY_LOG_LEVEL",
}

func (s *settings) flags() *flag.FlagSet {
	f := flag.NewFlagSet("agent", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are returned
	f.Usage = func() {}
	o := &s.agent
	f.StringVar(&s.config, "config", "", "`FILE` with settings, as lines key = value, where key is the name of a flag")
	f.Var(&s.urls, "url", "`URL` of a controller, or several separated by commas; may be repeated (default http://127.0.0.1:8080)")
	f.StringVar(&s.keyFile, "key-file", "", "`FILE` with the credential")
	f.StringVar(&o.Worker, "name", "", "`NAME` of the worker (default: that of the machine)")
	f.StringVar(&o.Dir, "dir", "", "`DIR` for workspaces and logs (default: slipway-agent in the user's cache directory)")
	f.IntVar(&o.Slots, "slots", 1, "how many builds run at once")
	f.Var(&s.labels, "label", "`KEY=VALUE` that builds may require, or several separated by commas; may be repeated")
	f.Var(&s.passEnv, "pass-env", "`NAME` of a variable that every build may see, or several separated by commas; may be repeated")
	f.Var(&s.tools, "tools", "`NAME` of a program without which builds are declined, or several separated by commas; may be repeated")
	o.MinFree = 1 << 30
	f.Var((*bytesize.Size)(&o.MinFree), "min-free", "`SIZE` that the disk of -dir must have free for builds to be accepted")
	f.IntVar(&s.nice, "nice", 5, "how far the builds' priority is below the agent's, 1 to 19, or -1 for not at all")
	f.StringVar(&s.buildUser, "build-user", "", "`NAME` of the user that builds run as, if the agent is root (default: the agent's user)")
	f.BoolVar(&o.KeepWorkspace, "keep-workspace", false, "leave the directories of builds where they are")
	f.DurationVar(&o.ReconnectMin, "reconnect-min", 0, "the first pause before a reconnect is at random up to this `TIME` (default 500ms)")
	f.DurationVar(&o.ReconnectMax, "reconnect-max", 0, "that bound is doubled from one failure to the next, up to this `TIME` (default 30s)")
	f.DurationVar(&o.StopTimeout, "stop-timeout", 0, "`TIME` to stop and report builds after the second signal (default 1m)")
	f.StringVar(&s.health, "health", "", "loopback `ADDR` to serve /livez, /readyz and /metrics on (default: none)")
	f.StringVar(&s.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "`LEVEL` of the log: debug, info, warn or error")
	return f
}

// read reads flags, the environment for those that are not given, and a file for what is in neither.
func (s *settings) read(f *flag.FlagSet, args []string, getenv func(string) string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usage("%w; agent -help lists the flags", err)
	}
	if f.NArg() > 0 {
		return usage("unexpected argument %q; agent -help lists the flags", f.Arg(0))
	}
	s.origin = map[string]origin{}
	f.Visit(func(fl *flag.Flag) { s.origin[fl.Name] = origin{name: "-" + fl.Name} })
	var err error
	f.VisitAll(func(fl *flag.Flag) {
		variable := variables[fl.Name]
		if s.origin[fl.Name].name != "" || variable == "" || getenv(variable) == "" || err != nil {
			return
		}
		s.origin[fl.Name] = origin{name: variable}
		if setErr := fl.Value.Set(getenv(variable)); setErr != nil {
			err = usage("%s: %w; see -%s in agent -help", variable, setErr, fl.Name)
		}
	})
	if err == nil && s.config != "" {
		err = s.readConfig(f, s.config)
	}
	if err != nil {
		return err
	}
	return s.complete()
}

// called returns what a setting is called where it was made: as a flag, as a variable or in a file.
func (s *settings) called(name string) string { return cmp.Or(s.origin[name].name, "-"+name) }

// wrong is the error of a setting that breaks a rule. The first verb of format is for what the setting is called.
func (s *settings) wrong(name, format string, args ...any) error {
	err := fmt.Errorf(format, append([]any{s.called(name)}, args...)...)
	if s.origin[name].file {
		return &configError{err}
	}
	return &usageError{err}
}

// complete fills in what is found on this machine.
func (s *settings) complete() error {
	o := &s.agent
	if o.Worker == "" {
		host, _ := os.Hostname() // no name is as good as one that cannot be used
		o.Worker = strings.ToLower(host)
	}
	if o.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return unusable("there is no home directory: say with -dir where to work")
		}
		o.Dir = filepath.Join(cache, "slipway-agent")
	}
	o.URLs = s.urls
	if len(o.URLs) == 0 {
		o.URLs = []string{"http://127.0.0.1:8080"}
	}
	o.Version = version.Current().Version
	return nil
}

// check holds the settings against their rules, and reads the credential.
func (s *settings) check(getenv func(string) string) error {
	if err := s.checkTyped(); err != nil {
		return err
	}
	if err := s.checkURLs(); err != nil {
		return err
	}
	return s.readCredential(getenv)
}

// checkTyped holds the settings against those rules that need nothing else.
func (s *settings) checkTyped() error {
	o := &s.agent
	switch {
	case o.Slots < 1 || o.Slots > wire.MaxSlots:
		return s.wrong("slots", "%s must be at least 1 and at most %d", wire.MaxSlots)
	case s.nice == 0 || s.nice < -1 || s.nice > 19:
		return s.wrong("nice", "%s must be from 1 to 19, or -1")
	case s.logFormat != "text" && s.logFormat != "json":
		return s.wrong("log-format", "%s must be text or json")
	}
	for name, value := range map[string]time.Duration{
		"reconnect-min": o.ReconnectMin, "reconnect-max": o.ReconnectMax, "stop-timeout": o.StopTimeout,
	} {
		if value < 0 {
			return s.wrong(name, "%s must not be negative")
		}
	}
	if least := cmp.Or(o.ReconnectMin, wire.DefaultReconnectMin); o.ReconnectMax > 0 && o.ReconnectMax < least {
		return s.wrong("reconnect-max", "%s is %v but must be at least %v, which is %s", o.ReconnectMax, least, s.called("reconnect-min"))
	}
	var err error
	if o.Labels, err = queue.ParseLabels(s.labels...); err != nil {
		return s.wrong("label", "%s: %s", rule(err))
	}
	if err := queue.CheckName("name", o.Worker); err != nil {
		return s.wrong("name", "%s %s", strings.TrimPrefix(rule(err), "name "))
	}
	return s.checkHealth()
}

// checkURLs finds what is no address of a controller. It does not repeat them: somebody may have put a password there.
func (s *settings) checkURLs() error {
	for _, text := range s.agent.URLs {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return unusable("%s: an address must begin with http:// or https:// and name a host", s.called("url"))
		case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return unusable("%s: an address must have no user, query or fragment", s.called("url"))
		}
	}
	return nil
}

// readCredential takes the credential from its file, or else from the environment.
func (s *settings) readCredential(getenv func(string) string) error {
	if s.keyFile == "" {
		s.agent.Credential = worker.Secret(strings.TrimSpace(getenv("SLIPWAY_WORKER_KEY")))
		if s.agent.Credential == "" {
			return unusable("there is no credential: name a file that holds it with -key-file, or set SLIPWAY_WORKER_KEY")
		}
		return s.checkCredential("SLIPWAY_WORKER_KEY")
	}
	text, err := readSecret(s.keyFile, "credential")
	if err != nil {
		return unusable("%s: %w", s.called("key-file"), err)
	}
	s.agent.Credential = worker.Secret(text)
	return s.checkCredential(s.called("key-file"))
}

// checkCredential finds what no header can hold.
func (s *settings) checkCredential(from string) error {
	if strings.ContainsFunc(string(s.agent.Credential), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return unusable("%s: there must be one credential and nothing else, in visible ASCII characters", from)
	}
	return nil
}

// rule is the text of an invalid argument, without saying that it is one.
func rule(err error) string { return strings.TrimPrefix(err.Error(), queue.ErrInvalid.Error()+": ") }

// logger returns the log, on standard error.
func (s *settings) logger(stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, o))
	}
	return slog.New(slog.NewTextHandler(stderr, o))
}
