package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/queue"
)

type keysCommand struct {
	Create createKeyCommand `cmd:"" help:"Create a key and print it, this once."`
	List   listKeysCommand  `cmd:"" help:"List keys, newest first."`
	Revoke revokeKeyCommand `cmd:"" help:"Make a key invalid, for good."`
}

type createKeyCommand struct {
	Name      string        `placeholder:"TEXT" help:"What people call the key. Default: the role and who or what it is for."`
	Worker    string        `placeholder:"NAME" help:"The worker, for role worker; for role enroller the worker or, as NAME*, all whose names begin so."`
	Pool      []string      `placeholder:"POOL" help:"A pool that the worker serves or the submitter may use. May be repeated. Default: default for workers, all for a submitter."`
	Uses      int           `placeholder:"N" help:"How many workers an enroller may enrol. Default: 1."`
	ExpiresIn time.Duration `placeholder:"TIME" help:"How long the key is good, such as 720h. Default: until it is revoked, but 1h for an enroller."`
	Output    string        `short:"o" placeholder:"FILE" help:"Write the key to a new file that only you can read, instead of printing it."`

	Role string `arg:"" enum:"admin,submitter,viewer,worker,enroller" help:"What the key is for: admin, submitter, viewer, worker or enroller. An enroller is a token by which a machine gets a worker's key of its own, with agent register. Submitters and viewers belong to the project that --project must name."`
}

// Run creates a key.
func (k *createKeyCommand) Run(in *invocation) error {
	request, err := k.newKey(in)
	if err != nil {
		return err
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	var file *os.File
	if k.Output != "" {
		// Before the key exists, so that there is no key without a place to keep it.
		if file, err = os.OpenFile(k.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("cannot write the key: %w", err)
		}
		defer file.Close()
	}
	created, err := c.CreateKey(in.ctx, request)
	if err != nil {
		if file != nil {
			_ = os.Remove(k.Output)
		}
		return err
	}
	if file != nil {
		_, err = fmt.Fprintln(file, created.Secret)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("cannot write the key; revoke it with slipway keys revoke %s: %w", created.ID, err)
		}
	}
	in.notice("created key %s; it is not shown again", created.ID)
	if created.Uses > 0 && created.ExpiresAt != nil {
		in.notice("it enrols %s named %s until %s: agent register -name NAME -token-file FILE -key-file FILE", count(created.Uses, "worker"), created.Worker,
			created.ExpiresAt.Local().Format(time.DateTime))
	}
	return k.print(in, created)
}

// print prints a new key, or where it is kept.
func (k *createKeyCommand) print(in *invocation, created api.CreatedKey) error {
	switch {
	case in.json && k.Output != "":
		return in.document(struct {
			api.Key
			File string `json:"key_file"`
		}{created.Key, k.Output})
	case in.json:
		return in.document(created)
	default:
		_, err := fmt.Fprintln(in.stdout, cmp.Or(k.Output, created.Secret))
		return err
	}
}

func (k *createKeyCommand) newKey(in *invocation) (api.NewKey, error) {
	n := api.NewKey{Kind: string(auth.KindAPI), Role: k.Role, Name: k.Name, Pools: k.Pool, ExpiresInMS: k.ExpiresIn.Milliseconds()}
	if k.ExpiresIn < 0 {
		return n, usage("--expires-in must not be negative")
	}
	isWorker := auth.Role(k.Role) == auth.Worker || auth.Role(k.Role) == auth.Enroller
	switch {
	case k.Worker != "" && !isWorker:
		return n, usage("--worker is for roles worker and enroller")
	case k.Uses != 0 && auth.Role(k.Role) != auth.Enroller:
		return n, usage("--uses is for role enroller")
	case k.Uses < 0 || k.Uses > auth.MaxUses:
		return n, usage("--uses must be at least 1 and at most %d", auth.MaxUses)
	}
	subject := ""
	switch auth.Role(k.Role) {
	case auth.Worker, auth.Enroller:
		if in.projectFlag {
			return n, usage("--project is for roles submitter and viewer: a worker runs builds of every project, in its pools")
		}
		name := k.Worker
		n.Kind = string(auth.KindWorker)
		if auth.Role(k.Role) == auth.Enroller {
			n.Kind, n.Uses = string(auth.KindEnrol), k.Uses
			if begin, open := strings.CutSuffix(name, "*"); open {
				name = cmp.Or(begin, "any")
			}
		}
		if err := queue.CheckName("--worker", name); err != nil {
			return n, usage("%s", rule(err))
		}
		n.Role, n.Worker, subject = "", k.Worker, k.Worker
		if len(n.Pools) == 0 {
			n.Pools = []string{queue.DefaultPool}
		}
	case auth.Submitter, auth.Viewer:
		if in.project == "" {
			return n, usage("a %s belongs to one project: name it with --project or SLIPWAY_PROJECT", k.Role)
		}
		n.Project, subject = in.project, in.project
	default:
		if in.projectFlag {
			return n, usage("--project is for roles submitter and viewer: an admin has every project")
		}
	}
	n.Name = cmp.Or(k.Name, strings.TrimSpace(k.Role+" "+subject))
	return n, nil
}

type listKeysCommand struct{}

// Run lists keys.
func (*listKeysCommand) Run(in *invocation) error {
	c, err := in.client()
	if err != nil {
		return err
	}
	list := api.KeyPage{Keys: []api.Key{}}
	for cursor := ""; ; {
		page, err := c.Keys(in.ctx, auth.MaxPage, cursor)
		if err != nil {
			return err
		}
		list.Keys = append(list.Keys, page.Keys...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if in.json {
		return in.document(list)
	}
	enrolled := map[string]int{}
	for _, k := range list.Keys {
		enrolled[k.EnrolledBy]++
	}
	return printTable(in.stdout, "ID\tROLE\tFOR\tPOOLS\tSTATE\tNAME", func(row func(...any)) {
		for _, k := range list.Keys {
			row(k.ID, k.Role, k.Project+k.Worker, strings.Join(k.Pools, ","), keyState(k, enrolled[k.ID]), visible(k.Name))
		}
	})
}

func keyState(k api.Key, enrolled int) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && k.ExpiresAt.Before(time.Now()):
		return "expired"
	case k.Uses > 0 && enrolled >= k.Uses:
		return "used up"
	case k.Uses > 0:
		return fmt.Sprintf("good for %d", k.Uses-enrolled)
	default:
		return "good"
	}
}

type revokeKeyCommand struct {
	ID string `arg:"" name:"key" help:"Id of the key: the third part of its text, between the underscores."`
}

// Help is shown by --help.
func (revokeKeyCommand) Help() string {
	return "Requests with the key are refused from now on. A worker that is connected stays connected, and gets builds, until it reconnects: " +
		"stop it to be rid of it at once."
}

// Run revokes a key.
func (r *revokeKeyCommand) Run(in *invocation) error {
	if strings.HasPrefix(r.ID, "slw_") || len(r.ID) > 64 {
		return usage("give the id of the key, not the key: slipway keys list shows the ids")
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	err = c.RevokeKey(in.ctx, r.ID)
	if errors.Is(err, queue.ErrNotFound) {
		return &hinted{err: err, hint: "slipway keys list shows the keys"}
	}
	if err != nil {
		return err
	}
	in.notice("a worker that is connected with this key stays connected until it reconnects")
	if in.json {
		return in.document(struct {
			ID string `json:"id"`
		}{r.ID})
	}
	_, err = fmt.Fprintln(in.stdout, "revoked "+r.ID)
	return err
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(in *invocation) error {
	info := version.Current()
	if in.json {
		return in.document(info)
	}
	_, err := fmt.Fprintln(in.stdout, info.Line("slipway"))
	return err
}
