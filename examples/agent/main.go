package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/worker/procexec"
)

func main() {
	procexec.Guardian()
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(signals, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code.
func run(signals <-chan os.Signal, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	in := &invocation{signals: signals, getenv: getenv, stdout: stdout, stderr: stderr}
	err := in.execute(args)
	if err != nil {
		fmt.Fprintln(stderr, "agent: "+strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return exitCode(err)
}

// An invocation is what a command is run with.
type invocation struct {
	signals        <-chan os.Signal
	getenv         func(string) string
	stdout, stderr io.Writer
	settings       *settings

	json      bool
	tokenFile string
	force     bool
	wait      bool
	timeout   time.Duration
}

// A command is what the agent's first argument names.
type command struct {
	name  string
	about string
	flags func(*invocation, *flag.FlagSet) // beside the settings; nil if there are none
	run   func(*invocation, context.Context) error
}

// commands lists them; the first is what is done without a name.
func commands() []command {
	return []command{
		{"run", "run builds until told to stop; the default", nil, (*invocation).run},
		{"register", "get this machine a credential of its own, with an enrolment token", registerFlags, (*invocation).register},
		{"doctor", "check that this machine can run builds and reach its controllers", doctorFlags, (*invocation).doctor},
		{"status", "tell what the agent does that works in -dir", statusFlags, (*invocation).status},
		{"drain", "have the agent that works in -dir take no more builds, and end when those it has are finished", drainFlags, (*invocation).drain},
		{"version", "print the version of this program", nil, (*invocation).version},
	}
}

// execute runs the command that args begin with.
func (in *invocation) execute(args []string) error {
	all := commands()
	c := all[0]
	if len(args) > 0 && (strings.TrimLeft(args[0], "-") == "version" || !strings.HasPrefix(args[0], "-")) {
		name := strings.TrimLeft(args[0], "-")
		i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
		if i < 0 {
			return usage("unknown command %q; agent -help lists the commands", args[0])
		}
		c, args = all[i], args[1:]
	} else if len(args) > 0 && slices.Contains([]string{"h", "help"}, strings.TrimLeft(args[0], "-")) {
		writeHelp(in.stdout)
		return nil
	}
	if c.name == "version" {
		return c.run(in, context.Background()) // whatever the settings are
	}
	in.settings = &settings{}
	f := in.settings.flags()
	if c.flags != nil {
		c.flags(in, f)
	}
	err := in.settings.read(f, args, in.getenv)
	if errors.Is(err, flag.ErrHelp) {
		in.help(c)
		return nil
	}
	if err != nil {
		return err
	}
	// Only run has stages of stopping; the others end at the first signal.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.name != "run" {
		go func() {
			select {
			case <-in.signals:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return c.run(in, ctx)
}

// version prints the version.
func (in *invocation) version(context.Context) error {
	_, err := fmt.Fprintln(in.stdout, version.Current().Line("slipway-agent"))
	return err
}

// help prints what can be said to one command.
func (in *invocation) help(c command) {
	if c.name == commands()[0].name {
		writeHelp(in.stdout)
		return
	}
	fmt.Fprintf(in.stdout, "Usage: agent %s [flags]\n\n%s.\n", c.name, strings.ToUpper(c.about[:1])+c.about[1:])
	if c.flags != nil {
		own := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.flags(in, own)
		fmt.Fprintln(in.stdout)
		writeFlags(in.stdout, own)
	}
	fmt.Fprintln(in.stdout, "\nThe settings of the agent, which agent -help lists, can be given here too.")
}

func writeHelp(w io.Writer) {
	fmt.Fprint(w, `Usage: agent [command] [flags]

Runs builds on this machine.

Commands:
`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, `
The credential is in a file named by -key-file, or in SLIPWAY_WORKER_KEY. Settings are flags of every command. They can also be given
in the environment, by the variables in parentheses, and in a file named by -config. A flag wins over its variable, and that over the file.

`)
	writeFlags(w, new(settings).flags())
	fmt.Fprint(w, `
SIGINT or SIGTERM: the first drains (builds go on to their ends), the second stops the builds, the third kills them and ends at once.

`+exitCodes)
}

// writeFlags lists flags with their defaults and variables.
func writeFlags(w io.Writer, f *flag.FlagSet) {
	f.VisitAll(func(fl *flag.Flag) {
		placeholder, text := flag.UnquoteUsage(fl)
		switch fl.DefValue {
		case "", "0s", "false": // the text tells the default, if it is not nothing
		default:
			text += " (default " + strings.ToLower(fl.DefValue) + ")"
		}
		if variable := variables[fl.Name]; variable != "" {
			text += " (" + variable + ")"
		}
		fmt.Fprintf(w, "  %-22s %s\n", strings.TrimSpace("-"+fl.Name+" "+placeholder), text)
	})
}
