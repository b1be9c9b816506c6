package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
)

const defaultURL = "http://127.0.0.1:8080"

type commandLine struct {
	URL     string   `placeholder:"URL" help:"Address of the controller. Default: $$SLIPWAY_URL, or http://127.0.0.1:8080."`
	KeyFile string   `placeholder:"FILE" help:"File with the key; others must not be able to read it. Default: $$SLIPWAY_KEY_FILE, or the key in $$SLIPWAY_KEY."`
	Project string   `placeholder:"NAME" help:"Project, for admins. Default: $$SLIPWAY_PROJECT, or the key's own."`
	JSON    bool     `help:"Print JSON."`
	Help    helpFlag `short:"h" help:"Show what can be given here."`

	Submit   submitCommand   `cmd:"" help:"Submit a build of a directory."`
	Logs     logsCommand     `cmd:"" help:"Print the log of a build."`
	List     listCommand     `cmd:"" help:"List builds, newest first."`
	Show     showCommand     `cmd:"" help:"Show a build and its attempts."`
	Cancel   cancelCommand   `cmd:"" help:"End a build."`
	Retry    retryCommand    `cmd:"" help:"Submit a build like one that has ended."`
	Download downloadCommand `cmd:"" help:"Save the artifacts of a build."`
	Stats    statsCommand    `cmd:"" help:"Print the numbers of a project."`
	Pause    pauseCommand    `cmd:"" help:"Start no builds of a pool or a project any more. For admins."`
	Resume   resumeCommand   `cmd:"" help:"Start builds of a pool or a project again. For admins."`
	Limit    limitCommand    `cmd:"" help:"Limit how many builds of a concurrency key run at a time. For admins."`
	Keys     keysCommand     `cmd:"" help:"Create, list and revoke keys."`
	Version  versionCommand  `cmd:"" help:"Print the version of this program."`
}

// helpFlag prints the help of the command it follows.
type helpFlag bool

// BeforeReset is called by the parser when it has met the flag, before it asks for what is missing.
func (helpFlag) BeforeReset(command *kong.Context) error {
	return errors.Join(command.PrintUsage(false), errHelp)
}

// An invocation is what a command is run with.
type invocation struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	json   bool
	quiet  bool // no notices

	url     string
	key     string // if there is no file
	keyFile string
	project string
	// projectFlag tells that the project was named on the command line, for this command and no other.
	projectFlag bool
}

// invocation adds the environment to what was given on the command line.
func (c *commandLine) invocation(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) *invocation {
	return &invocation{
		ctx: ctx, stdout: stdout, stderr: stderr, json: c.JSON,
		url:     cmp.Or(c.URL, getenv("SLIPWAY_URL"), defaultURL),
		key:     getenv("SLIPWAY_KEY"),
		keyFile: cmp.Or(c.KeyFile, getenv("SLIPWAY_KEY_FILE")),
		project: cmp.Or(c.Project, getenv("SLIPWAY_PROJECT")), projectFlag: c.Project != "",
	}
}

// readKey reads a key from a file that only its owner, and perhaps a group, can read.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot read the key: %w", err)
	case info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("the key file %s can be read by everybody: run chmod 600 %s", path, path)
	}
	const most = 4 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the key: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if key == "" || len(b) > most || strings.ContainsAny(key, " \n") {
		return "", fmt.Errorf("the key file %s must hold one key and nothing else", path)
	}
	return key, nil
}

// client returns a client of the controller.
func (in *invocation) client() (*client.Client, error) {
	if in.project != "" {
		if err := queue.CheckName("project", in.project); err != nil {
			return nil, usage("%s", rule(err))
		}
	}
	key := in.key
	if in.keyFile != "" {
		var err error
		if key, err = readKey(in.keyFile); err != nil {
			return nil, &usageError{err}
		}
	}
	if key == "" {
		return nil, usage("there is no key: set SLIPWAY_KEY, or name a file that holds it with --key-file")
	}
	c, err := client.New(in.url, key, &client.Options{Project: in.project, OnOutage: in.outage})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// outage tells that the controller does not answer, and that it does again.
func (in *invocation) outage(err error) {
	if err != nil {
		in.notice("the controller does not answer and is asked again: %v", reasonOf(err))
		return
	}
	in.notice("the controller answers again")
}

// rule is the text of an invalid argument, without saying that it is one.
func rule(err error) string { return strings.TrimPrefix(err.Error(), queue.ErrInvalid.Error()+": ") }
