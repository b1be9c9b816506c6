package main

import (
	"fmt"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

type pauseCommand struct {
	Pool string `placeholder:"POOL" help:"The pool. Default: the project that --project names."`
}

// Run pauses a pool or a project.
func (p *pauseCommand) Run(in *invocation) error { return setPaused(in, p.Pool, true) }

type resumeCommand struct {
	Pool string `placeholder:"POOL" help:"The pool. Default: the project that --project names."`
}

// Run resumes a pool or a project.
func (r *resumeCommand) Run(in *invocation) error { return setPaused(in, r.Pool, false) }

func setPaused(in *invocation, pool string, paused bool) error {
	if (pool == "") != in.projectFlag {
		return usage("name either --pool or --project")
	}
	if pool != "" {
		if err := queue.CheckName("--pool", pool); err != nil {
			return usage("%s", rule(err))
		}
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	if pool != "" {
		return c.ChangePool(in.ctx, pool, api.Pool{Paused: &paused})
	}
	return c.ChangeProject(in.ctx, in.project, api.Project{Paused: &paused})
}

type limitCommand struct {
	Key string `arg:"" name:"key" help:"The concurrency key."`
	Max int    `arg:"" name:"max" help:"How many builds with the key may run at a time; 0 takes the limit away."`
}

// Run sets a limit.
func (l *limitCommand) Run(in *invocation) error {
	if l.Max < 0 || l.Max > queue.MaxLimit {
		return usage("the limit must be between 0 and %d", queue.MaxLimit)
	}
	if in.project == "" {
		return usage("name the project with --project")
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	return c.SetLimit(in.ctx, in.project, l.Key, l.Max)
}

type statsCommand struct {
	Days int `default:"7" placeholder:"N" help:"How many days, in UTC, up to today. Default: 7."`
}

// Run prints the numbers of a project.
func (s *statsCommand) Run(in *invocation) error {
	if s.Days < 1 || s.Days > queue.MaxStatsDays {
		return usage("--days must be between 1 and %d", queue.MaxStatsDays)
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	stats, err := c.Stats(in.ctx, s.Days)
	if err != nil {
		return err
	}
	if in.json {
		return in.document(stats)
	}
	fmt.Fprintf(in.stdout, "%d pending, %d offered, %d running, %d cancelling\n\n", stats.Pending, stats.Offered, stats.Running, stats.Cancelling)
	heading := "DAY\tSUBMITTED\tSUCCEEDED\tFAILED\tCANCELED\tTIMED OUT\tEXPIRED\tLOST\tWAIT\tRUN"
	return printTable(in.stdout, heading, func(row func(...any)) {
		for _, d := range stats.Days {
			ended := d.Succeeded + d.Failed + d.Canceled + d.TimedOut + d.Expired + d.Lost
			row(d.Day, d.Submitted, d.Succeeded, d.Failed, d.Canceled, d.TimedOut, d.Expired, d.Lost,
				mean(d.WaitedMS, ended), mean(d.RanMS, d.Attempts))
		}
	})
}

// mean is the mean of n times that are ms milliseconds together.
func mean(ms, n int64) time.Duration {
	if n == 0 {
		return 0
	}
	return (time.Duration(ms) * time.Millisecond / time.Duration(n)).Round(time.Millisecond)
}
