package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/procexec"
)

type listCommand struct {
	State  []string `placeholder:"STATE" help:"Only builds in this state. May be repeated."`
	Pool   string   `placeholder:"POOL" help:"Only builds of this pool."`
	Worker string   `placeholder:"NAME" help:"Only builds that this worker has or had."`
	Limit  int      `default:"20" placeholder:"N" help:"How many builds, at most 200. Default: 20."`
	All    bool     `help:"All builds, whatever the limit."`
}

// Run lists builds.
func (l *listCommand) Run(in *invocation) error {
	for _, name := range l.State {
		if _, err := queue.ParseState(name); err != nil {
			return usage("--state: %s", rule(err))
		}
	}
	if l.Pool != "" {
		if err := queue.CheckName("--pool", l.Pool); err != nil {
			return usage("%s", rule(err))
		}
	}
	if l.Worker != "" {
		if err := queue.CheckName("--worker", l.Worker); err != nil {
			return usage("%s", rule(err))
		}
	}
	if l.Limit < 1 || l.Limit > queue.MaxPage {
		return usage("--limit must be between 1 and %d; --all lists all builds", queue.MaxPage)
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	filter := client.Filter{States: l.State, Pool: l.Pool, Worker: l.Worker, Limit: l.Limit}
	list := api.BuildPage{Builds: []api.Build{}}
	if l.All {
		filter.Limit = queue.MaxPage
	}
	for {
		page, err := c.Builds(in.ctx, filter)
		if err != nil {
			return err
		}
		list.Builds = append(list.Builds, page.Builds...)
		if !l.All || page.NextCursor == "" {
			break
		}
		filter.Cursor = page.NextCursor
	}
	if in.json {
		return in.document(list)
	}
	return printTable(in.stdout, "ID\tSTATE\tPOOL\tWORKER\tCREATED\tREASON", func(row func(...any)) {
		for _, b := range list.Builds {
			row(b.ID, b.State, b.Pool, visible(b.Worker), b.CreatedAt.Local().Format(time.DateTime), visible(b.Reason))
		}
	})
}

// printTable prints a heading and rows in columns.
func printTable(w io.Writer, heading string, rows func(row func(...any))) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, heading)
	rows(func(cells ...any) {
		line := make([]string, len(cells))
		for i, cell := range cells {
			line[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(table, strings.Join(line, "\t"))
	})
	return table.Flush()
}

type showCommand struct {
	ID queue.ID `arg:"" name:"id" help:"The build."`
}

// Run shows a build.
func (s *showCommand) Run(in *invocation) error {
	c, err := in.client()
	if err != nil {
		return err
	}
	build, err := c.Build(in.ctx, s.ID)
	if err != nil {
		return err
	}
	if in.json {
		return in.document(build)
	}
	if err := showFacts(in.stdout, build); err != nil {
		return err
	}
	if build.State == queue.Pending.String() {
		if err := showWhy(in, c, s.ID); err != nil {
			return err
		}
	}
	if len(build.Attempts) == 0 {
		return nil
	}
	fmt.Fprintln(in.stdout)
	return printTable(in.stdout, "EPOCH\tWORKER\tSTARTED\tENDED\tOUTCOME\tLOG", func(row func(...any)) {
		for _, a := range build.Attempts {
			row(a.Epoch, visible(a.Worker), moment(&a.StartedAt), moment(a.EndedAt), a.Outcome, size(a.LogLength))
		}
	})
}

func showFacts(w io.Writer, build api.Build) error {
	facts := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fact := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(facts, "%s:\t%s\n", name, text)
		}
	}
	fact("Build", build.ID)
	fact("State", describe(build))
	fact("Project", build.Project)
	fact("Pool", build.Pool)
	fact("Labels", queue.Labels(build.Labels))
	fact("Command", commandOf(build))
	if build.Source != nil {
		fact("Source", fmt.Sprintf("sha256 %s, %s", build.Source.SHA256, size(build.Source.Size)))
	}
	if build.Priority != 0 {
		fact("Priority", build.Priority)
	}
	fact("Concurrency key", visible(build.ConcurrencyKey))
	if build.RetryOf != nil {
		fact("Retry of", build.RetryOf)
	}
	for _, name := range slices.Sorted(maps.Keys(build.Metadata)) {
		fact("Metadata", visible(name+"="+build.Metadata[name]))
	}
	fact("Created", build.CreatedAt.Local().Format(time.DateTime))
	fact("Started", moment(build.StartedAt))
	fact("Finished", moment(build.FinishedAt))
	fact("Attempts", fmt.Sprintf("%d of %d", build.AttemptsUsed, build.MaxAttempts))
	return facts.Flush()
}

// showWhy tells what a pending build waits for.
func showWhy(in *invocation, c *client.Client, id queue.ID) error {
	why, err := c.Explain(in.ctx, id)
	if err != nil {
		return err
	}
	fmt.Fprintln(in.stdout)
	for _, v := range why.Verdicts {
		sign := "+"
		if !v.Met {
			sign = "-"
		}
		fmt.Fprintf(in.stdout, "%s %s\n", sign, visible(v.Text))
	}
	return nil
}

type retryCommand struct {
	ID queue.ID `arg:"" name:"id" help:"A build that has ended."`
}

// Run submits a build again.
func (r *retryCommand) Run(in *invocation) error {
	c, err := in.client()
	if err != nil {
		return err
	}
	build, err := c.Retry(in.ctx, r.ID)
	if err != nil {
		return err
	}
	if in.json {
		return in.document(build)
	}
	_, err = fmt.Fprintln(in.stdout, build.ID)
	return err
}

// commandOf is the command of a build, if it has one that this program knows how to read.
func commandOf(b api.Build) string {
	spec, err := procexec.ParseSpec(b.Spec)
	if err != nil {
		return ""
	}
	words := make([]string, len(spec.Command))
	for i, word := range spec.Command {
		if words[i] = word; word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'$\`, r) }) {
			words[i] = fmt.Sprintf("%q", word)
		}
	}
	return visible(strings.Join(words, " "))
}

func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

type cancelCommand struct {
	Reason string `placeholder:"TEXT" help:"Why; it is shown to whoever looks at the build."`

	ID queue.ID `arg:"" name:"id" help:"The build."`
}

// Run cancels a build.
func (c *cancelCommand) Run(in *invocation) error {
	api, err := in.client()
	if err != nil {
		return err
	}
	state, err := api.Cancel(in.ctx, c.ID, c.Reason)
	if err != nil {
		return err
	}
	if in.json {
		return in.document(struct {
			ID    queue.ID `json:"id"`
			State string   `json:"state"`
		}{c.ID, state})
	}
	_, err = fmt.Fprintln(in.stdout, state)
	return err
}
