package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// settings are what the flags and the environment say.
type settings struct {
	agent     worker.AgentOptions
	keyFile   string
	labels    list
	urls      list
	passEnv   list
	nice      int
	logFormat string
	logLevel  slog.Level
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
	"url":            "SLIPWAY_URL",
	"key-file":       "SLIPWAY_WORKER_KEY_FILE",
	"name":           "SLIPWAY_WORKER_NAME",
	"dir":            "SLIPWAY_WORKER_DIR",
	"slots":          "SLIPWAY_WORKER_SLOTS",
	"label":          "SLIPWAY_WORKER_LABELS",
	"pass-env":       "SLIPWAY_WORKER_PASS_ENV",
	"nice":           "SLIPWAY_WORKER_NICE",
	"keep-workspace": "SLIPWAY_WORKER_KEEP",
	"reconnect-min":  "SLIPWAY_WORKER_RECONNECT_MIN",
	"reconnect-max":  "SLIPWAY_WORKER_RECONNECT_MAX",
	"stop-timeout":   "SLIPWAY_WORKER_STOP_TIMEOUT",
	"log-format":     "SLIPWAY_LOG_FORMAT",
	"log-level":      "SLIPWAY_LOG_LEVEL",
}

func (s *settings) flags() *flag.FlagSet {
	f := flag.NewFlagSet("agent", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are returned
	f.Usage = func() {}
	o := &s.agent
	f.Var(&s.urls, "url", "`URL` of a controller, or several separated by commas; may be repeated (default http://127.0.0.1:8080)")
	f.StringVar(&s.keyFile, "key-file", "", "`FILE` with the credential")
	f.StringVar(&o.Worker, "name", "", "`NAME` of the worker (default: that of the machine)")
	f.StringVar(&o.Dir, "dir", "", "`DIR` for workspaces and logs (default: slipway-agent in the user's cache directory)")
	f.IntVar(&o.Slots, "slots", 1, "how many builds run at once")
	f.Var(&s.labels, "label", "`KEY=VALUE` that builds may require, or several separated by commas; may be repeated")
	f.Var(&s.passEnv, "pass-env", "`NAME` of a variable that every build may see, or several separated by commas; may be repeated")
	f.IntVar(&s.nice, "nice", 5, "how far the builds' priority is below the agent's, 1 to 19, or -1 for not at all")
	f.BoolVar(&o.KeepWorkspace, "keep-workspace", false, "leave the directories of builds where they are")
	f.DurationVar(&o.ReconnectMin, "reconnect-min", 0, "the first pause before a reconnect is at random up to this `TIME` (default 500ms)")
	f.DurationVar(&o.ReconnectMax, "reconnect-max", 0, "that bound is doubled from one failure to the next, up to this `TIME` (default 30s)")
	f.DurationVar(&o.StopTimeout, "stop-timeout", 0, "`TIME` to stop and report builds after the second signal (default 1m)")
	f.StringVar(&s.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "`LEVEL` of the log: debug, info, warn or error")
	return f
}

// readSettings reads flags, and the environment for those that are not given.
func readSettings(args []string, getenv func(string) string) (*settings, error) {
	s := &settings{}
	f := s.flags()
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, usage("%w; agent -help lists the flags", err)
	}
	if f.NArg() > 0 {
		return nil, usage("unexpected argument %q; agent -help lists the flags", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	var err error
	f.VisitAll(func(fl *flag.Flag) {
		value := getenv(variables[fl.Name])
		if given[fl.Name] || value == "" || err != nil {
			return
		}
		if setErr := fl.Value.Set(value); setErr != nil {
			err = usage("%s: %w; see -%s in agent -help", variables[fl.Name], setErr, fl.Name)
		}
	})
	if err != nil {
		return nil, err
	}
	return s, s.complete(getenv)
}

// complete checks the settings by themselves, and fills in what is found on this machine.
func (s *settings) complete(getenv func(string) string) error {
	o := &s.agent
	if o.Slots < 1 {
		return usage("-slots must be at least 1")
	}
	if o.ReconnectMin < 0 || o.ReconnectMax < 0 || o.StopTimeout < 0 {
		return usage("-reconnect-min, -reconnect-max and -stop-timeout must not be negative")
	}
	if s.nice == 0 || s.nice < -1 || s.nice > 19 {
		return usage("-nice must be from 1 to 19, or -1")
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return usage("-log-format must be text or json")
	}
	labels, err := queue.ParseLabels(s.labels...)
	if err != nil {
		return usage("-label: %s", rule(err))
	}
	if o.Worker == "" {
		host, _ := os.Hostname() // no name is as good as one that cannot be used
		o.Worker = strings.ToLower(host)
	}
	if err := queue.CheckName("-name", o.Worker); err != nil {
		return usage("%s", rule(err))
	}
	if o.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return &configError{errors.New("there is no home directory: say with -dir where to work")}
		}
		o.Dir = filepath.Join(cache, "slipway-agent")
	}
	o.URLs = s.urls
	if len(o.URLs) == 0 {
		o.URLs = []string{"http://127.0.0.1:8080"}
	}
	o.Labels, o.Version = labels, version.Current().Version
	return s.readCredential(getenv)
}

// readCredential takes the credential from its file, or else from the environment.
func (s *settings) readCredential(getenv func(string) string) error {
	if s.keyFile == "" {
		s.agent.Credential = worker.Secret(strings.TrimSpace(getenv("SLIPWAY_WORKER_KEY")))
		if s.agent.Credential == "" {
			return &configError{errors.New("there is no credential: name a file that holds it with -key-file, or set SLIPWAY_WORKER_KEY")}
		}
		return nil
	}
	f, err := os.Open(s.keyFile)
	if err != nil {
		return &configError{fmt.Errorf("cannot read the credential: %w", err)}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return &configError{fmt.Errorf("cannot read the credential: %w", err)}
	}
	if info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o007 != 0 {
		return &configError{fmt.Errorf("the credential in %s can be read by everybody: run chmod 600 %s", s.keyFile, s.keyFile)}
	}
	const most = 4 << 10
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return &configError{fmt.Errorf("cannot read the credential: %w", err)}
	}
	s.agent.Credential = worker.Secret(strings.TrimSpace(string(b)))
	if s.agent.Credential == "" {
		return &configError{fmt.Errorf("the file %s is empty: it must hold the credential", s.keyFile)}
	}
	return nil
}

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// rule is the text of an invalid argument, without saying that it is one.
func rule(err error) string { return strings.TrimPrefix(err.Error(), queue.ErrInvalid.Error()+": ") }

func writeHelp(w io.Writer) {
	fmt.Fprint(w, `Usage: agent [flags]
       agent version

Runs builds on this machine. The credential is in a file named by -key-file, or in SLIPWAY_WORKER_KEY. Flags can also be set in the
environment, by the variables in parentheses; a flag wins.

`)
	f := new(settings).flags()
	f.VisitAll(func(fl *flag.Flag) {
		placeholder, text := flag.UnquoteUsage(fl)
		switch fl.DefValue {
		case "", "0s", "false": // the text tells the default, if it is not nothing
		default:
			text += " (default " + strings.ToLower(fl.DefValue) + ")"
		}
		fmt.Fprintf(w, "  %-22s %s (%s)\n", strings.TrimSpace("-"+fl.Name+" "+placeholder), text, variables[fl.Name])
	})
	fmt.Fprint(w, `
SIGINT or SIGTERM: the first drains (builds go on to their ends), the second stops the builds, the third kills them and ends at once.

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage, 3 unusable settings, 4 credential refused, 5 version not supported,
6 ended at once by a third signal.
`)
}
