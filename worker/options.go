package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// HubOptions configure a [Hub]. The zero value, and nil, mean the defaults.
type HubOptions struct {
	// Heartbeat is how often a worker reports while it has builds. Default: 10 s.
	Heartbeat time.Duration
	// IdleHeartbeat is how often it does while it has none, and no lease to renew. Default: 4 × Heartbeat, which is 40 s.
	IdleHeartbeat time.Duration
	// Lease is how long a worker may go on without an answer to a heartbeat, counted from when it sent the last one that was
	// answered. It must be longer than Heartbeat. Default: 30 s.
	Lease time.Duration
	// KillTime is how long after the end of its lease a worker may take until nothing of a build is left alive. Default: 10 s.
	KillTime time.Duration
	// Margin is what the queue's Grace must have above Lease and KillTime together, for delays that nobody measures. If it is less than the
	// queue's ControllerTTL that takes its place: a worker that was replaced at another controller may go on being renewed by this
	// one until this one's time is up. Default: half of Lease, at most 20 s.
	Margin time.Duration
	// CancelGrace is how long after a cancel nothing of a build may be left alive. It has four fifths of that, or all but a second, to
	// end by itself before it is killed. Default: 10 s.
	CancelGrace time.Duration
	// MaxSessions is how many connections are served at a time, whether their workers have said hello or not. Above that, and for a worker
	// that has sixteen already, a request to connect is refused with 503, and the worker tries again. A connection takes memory and a
	// file descriptor. Default: 20,000.
	MaxSessions int
	// HelloTimeout is how long a new connection has to say who it is. Default: 10 s.
	HelloTimeout time.Duration
	// ReadTimeout is how long a connection may be silent before it is taken for dead; that of a worker without builds, no less than
	// 3 × IdleHeartbeat. Default: 3 × Heartbeat.
	ReadTimeout time.Duration
	// WriteTimeout is how long the writing of one message may take. Default: 10 s.
	WriteTimeout time.Duration
	// Poll is the longest time between two looks for builds, give or take a fifth, when nothing hints that there are some. Soon after some
	// were found the looks are closer. Default: 500 ms.
	Poll time.Duration
	// CancelPoll is how often the queue is asked for builds to stop when nothing hints that there are some. Default: 500 ms.
	CancelPoll time.Duration
	// LogWindow is how many bytes of a build's log a worker may send ahead of what is stored: 64 KiB to 8 MiB. Default: 1 MiB.
	LogWindow int64
	// LogFlush is how long a worker gathers log bytes before it sends them. Default: 200 ms.
	LogFlush time.Duration
	// LogCap is how many bytes of one attempt's log a worker sends. Default: 64 MiB.
	LogCap int64
	// MaxArtifact is the largest artifact, in bytes. Default: 4 GiB.
	MaxArtifact int64
	// Secrets returns the secrets of the attempt that the lease is of, for which the worker is about to be told to start: names of
	// environment variables and their values, within the rules of [wire.Secrets]. [queue.Lease.Project] says whose they are to be. They are
	// sent to that worker in the start, to be had by the build and to be kept out of its log, and are neither stored nor logged here; a
	// connection without TLS shows them to the network. It is called for each start, which may come more than once for an attempt, and by
	// several goroutines at once; ctx ends when a third of Lease has passed.
	//
	// On an error, or what breaks the rules, nothing runs: the attempt is lost, and the build attempted again while it has attempts left. The
	// error is logged, and told to nobody; it must hold no secret. Default: nil, builds have no secrets.
	Secrets func(ctx context.Context, lease queue.Lease) (map[string]Secret, error)
	// StallTimeout ends an upload or download that makes no progress. Default: 60 s.
	StallTimeout time.Duration
	// Logger takes what happens. Default: [slog.Default].
	Logger *slog.Logger
}

func (o *HubOptions) withDefaults() HubOptions {
	var opts HubOptions
	if o != nil {
		opts = *o
	}
	orDefault(&opts.Heartbeat, wire.DefaultHeartbeat)
	orDefault(&opts.IdleHeartbeat, 4*opts.Heartbeat)
	orDefault(&opts.Lease, wire.DefaultLease)
	orDefault(&opts.KillTime, wire.DefaultKillTime)
	orDefault(&opts.Margin, min(opts.Lease/2, 20*time.Second))
	orDefault(&opts.CancelGrace, wire.DefaultCancelGrace)
	orDefault(&opts.MaxSessions, 20_000)
	orDefault(&opts.HelloTimeout, wire.DefaultHelloTimeout)
	orDefault(&opts.ReadTimeout, 4*opts.Heartbeat)
	orDefault(&opts.WriteTimeout, wire.DefaultWriteTimeout)
	orDefault(&opts.Poll, 500*time.Millisecond)
	orDefault(&opts.CancelPoll, 500*time.Millisecond)
	orDefault(&opts.LogWindow, wire.DefaultLogWindow)
	orDefault(&opts.LogFlush, wire.DefaultLogFlush)
	orDefault(&opts.LogCap, wire.DefaultLogCap)
	orDefault(&opts.MaxArtifact, 4<<30)
	orDefault(&opts.StallTimeout, time.Minute)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return opts
}

// check holds the options against each other and against the queue's: a worker must have stopped a build before another gets it.
func (o *HubOptions) check(q queue.Options) error {
	if o.Lease <= o.Heartbeat {
		return fmt.Errorf("worker: HubOptions.Lease is %v but must be longer than Heartbeat, which is %v", o.Lease, o.Heartbeat)
	}
	if o.IdleHeartbeat < o.Heartbeat {
		return fmt.Errorf("worker: HubOptions.IdleHeartbeat is %v but must not be less than Heartbeat, which is %v", o.IdleHeartbeat, o.Heartbeat)
	}
	margin, name := o.Margin, "Margin"
	if q.ControllerTTL > margin {
		margin, name = q.ControllerTTL, "queue.Options.ControllerTTL"
	}
	if least := o.Lease + o.KillTime + margin; q.Grace < least {
		return fmt.Errorf("worker: queue.Options.Grace is %v but must be at least Lease + KillTime + %s = %v: "+
			"raise Grace or lower Lease, KillTime or %[2]s", q.Grace, name, least)
	}
	if least := o.CancelGrace + o.KillTime; q.CancelTimeout < least {
		return fmt.Errorf("worker: queue.Options.CancelTimeout is %v but must be at least CancelGrace + KillTime = %v: "+
			"raise CancelTimeout or lower CancelGrace", q.CancelTimeout, least)
	}
	if o.LogWindow < wire.MaxLogData || o.LogWindow > maxLogBatch {
		return fmt.Errorf("worker: HubOptions.LogWindow is %d but must be from %d to %d bytes", o.LogWindow, wire.MaxLogData, maxLogBatch)
	}
	return nil
}

func orDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
