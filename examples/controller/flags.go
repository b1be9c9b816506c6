package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/examples/internal/bytesize"
)

// flags is a set of flags in groups. Each but -version can also be set by an environment variable.
type flags struct {
	*flag.FlagSet
	groups []group
}

type group struct {
	title string
	names []string
}

func newFlags() *flags {
	set := flag.NewFlagSet("controller", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, and help is written by help
	return &flags{FlagSet: set}
}

// group begins a group: the flags that are defined from here on.
func (f *flags) group(title string) { f.groups = append(f.groups, group{title: title}) }

func (f *flags) listed(name string) string {
	last := &f.groups[len(f.groups)-1]
	last.names = append(last.names, name)
	return name
}

func (f *flags) text(field *string, name, value, usage string) {
	f.StringVar(field, f.listed(name), value, usage)
}

func (f *flags) choice(field *bool, name string, value bool, usage string) {
	f.BoolVar(field, f.listed(name), value, usage)
}

func (f *flags) count(field *int, name string, value int, usage string) {
	*field = value
	f.Var((*positive)(field), f.listed(name), usage)
}

func (f *flags) duration(field *time.Duration, name string, value time.Duration, usage string) {
	*field = value
	f.Var((*duration)(field), f.listed(name), usage)
}

func (f *flags) size(field *int64, name string, value int64, usage string) {
	*field = value
	f.Var((*bytesize.Size)(field), f.listed(name), usage)
}

func (f *flags) level(field *slog.Level, name string, value slog.Level, usage string) {
	f.TextVar(field, f.listed(name), value, usage)
	fl := f.Lookup(name)
	fl.DefValue = strings.ToLower(fl.DefValue) // as people write it
}

// versionFlag has no variable: SLIPWAY_VERSION is what an image or a unit may well call the version that it runs.
const versionFlag = "version"

// environment names the variable that stands for a flag.
func environment(name string) string {
	if name == "database" {
		return "SLIPWAY_DATABASE_URL"
	}
	return "SLIPWAY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// parse reads the arguments and, for the flags that are not among them, the environment. An empty variable is as good as none.
func (f *flags) parse(args []string, getenv func(string) string) error {
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp { //nolint:errorlint // package flag returns it as it is
			return err
		}
		return usagef("%w; controller -help lists the flags", err)
	}
	if f.NArg() > 0 {
		return usagef("unexpected argument %q; controller -help lists the flags", f.Arg(0))
	}
	given := make(map[string]bool)
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	var err error
	f.VisitAll(func(fl *flag.Flag) {
		name := environment(fl.Name)
		if given[fl.Name] || fl.Name == versionFlag || err != nil {
			return
		}
		value := getenv(name)
		if value == "" {
			return
		}
		if setErr := fl.Value.Set(value); setErr != nil {
			err = usagef("%s: %w", name, setErr) // without the value, which may be a secret in the wrong place
		}
	})
	return err
}

// help writes the flags, group by group.
func (f *flags) help(w io.Writer) {
	for _, g := range f.groups {
		fmt.Fprintf(w, "\n%s\n", g.title)
		for _, name := range g.names {
			fl := f.Lookup(name)
			placeholder, usage := flag.UnquoteUsage(fl)
			fmt.Fprintf(w, "  %-28s %s", strings.TrimSpace("-"+name+" "+placeholder), usage)
			if fl.DefValue != "" && fl.DefValue != "false" {
				fmt.Fprintf(w, " (default %s)", fl.DefValue)
			}
			fmt.Fprintln(w)
		}
	}
}

// Values that package flag does not have, or takes too lightly.
type (
	positive int           // 1 and above
	duration time.Duration // above zero
)

// String implements [flag.Value].
func (v *positive) String() string { return strconv.Itoa(int(*v)) }

// Set implements [flag.Value].
func (v *positive) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("must be a whole number above zero")
	}
	*v = positive(n)
	return nil
}

// String implements [flag.Value]: "1m30s", without parts that are zero.
func (v *duration) String() string {
	text := time.Duration(*v).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Set implements [flag.Value].
func (v *duration) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("must be a duration above zero, such as 500ms, 30s or 1h")
	}
	*v = duration(d)
	return nil
}
