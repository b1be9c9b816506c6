package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/internal/redact"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// Reasons for which [Agent.Run] gives up, beside [ErrUnauthorized].
var (
	// ErrVersion says that the controller does not speak this agent's version of the protocol.
	ErrVersion = errors.New("worker: protocol version not supported")
	// ErrDirInUse says that another agent works in the same directory.
	ErrDirInUse = errors.New("worker: directory is in use by another agent")
)

// A Secret is a text that must not be shown. However it is printed, logged or encoded, it shows as "[redacted]".
// string(s) is the text itself.
type Secret string

const redacted = redact.Marker

// String implements [fmt.Stringer].
func (Secret) String() string { return redacted }

// Format implements [fmt.Formatter]: every verb prints the same.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// AgentOptions configure an [Agent]. URLs, Credential, Worker, Executor and Dir are required; what else is zero means its default.
type AgentOptions struct {
	// URLs are where controllers are found: http:// or https:// with an optional path below which the controller serves.
	// They are tried in turn; all must lead to controllers on one queue. Required.
	URLs []string
	// Credential is what the controller knows the worker by, sent as a bearer token to the hosts of URLs. Required.
	Credential Secret
	// Worker is the name that the credential was given for; see [queue.CheckName]. Required.
	Worker string
	// Executor runs the builds. Required.
	Executor Executor
	// Dir is the directory for logs, sources and workspaces, created if need be. Only one agent can use it at a time. What an earlier
	// one has left there, because it was killed or could not report, is reported: the rest of the log, and the end of the build if it
	// was known, or that the attempt is lost. Required.
	Dir string
	// Slots is how many builds run at once, at most [wire.MaxSlots]. Default: 1.
	Slots int
	// Labels are facts about the worker that builds may require. Default: os=<GOOS> and arch=<GOARCH>, which are added to
	// whatever is given here unless it names those keys itself.
	Labels queue.Labels
	// Version is the version of the program, shown to people: at most 64 visible ASCII characters. Default: "unknown".
	Version string
	// TLS is for https URLs. Default: nil, the system's certificate authorities and at least TLS 1.2.
	TLS *tls.Config
	// SpoolMax is how many bytes of an attempt's log are kept on disk until the controller has stored them. The rest of the log is
	// cut off with a line that says so, as it is above the limit that the controller sets. Default: 256 MiB.
	SpoolMax int64
	// MinFree is how many bytes the file system of Dir must have free, beside twice the size of a build's source, for the build to be
	// accepted. Default: 1 GiB. A negative number switches that off, as do systems that do not tell.
	MinFree int64
	// Unpack limits what a source may unpack to. Zero fields have their own defaults.
	Unpack UnpackLimits
	// KeepWorkspace leaves the directories of attempts, logs among them, where they are. Default: they are removed when the attempt was
	// reported.
	KeepWorkspace bool
	// ReconnectMin bounds the random pause before the first reconnect. The bound is doubled from one failure to the next, up to
	// ReconnectMax; where the controller asks to come back slowly the pause is from ReconnectMax to twice that.
	// Defaults: 500 ms and 30 s.
	ReconnectMin time.Duration
	ReconnectMax time.Duration
	// DialTimeout is how long a handshake may take, and then again the controller's answer to hello. Default: 10 s.
	DialTimeout time.Duration
	// ReadTimeout is how long a controller may be silent before its connection is taken for dead. While the agent has builds, one that
	// answers no heartbeats for two thirds of the lease it grants is given up then at the latest, so that another one can still renew it.
	// While it has none, a controller may be silent for three of the heartbeats that it then asks for, if that is longer. Default: 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long the writing of one message may take. Default: 10 s.
	WriteTimeout time.Duration
	// Repeat is how often a message is repeated that must be answered and was not: accept and finished. Default: 3 s.
	Repeat time.Duration
	// LogTimeout is how long log bytes may go without being acknowledged until they are sent again. Default: 5 s.
	LogTimeout time.Duration
	// StallTimeout ends a download or upload that makes no progress, to be tried again. Default: 60 s.
	StallTimeout time.Duration
	// TransferTimeout is how long a download or upload is tried again without any progress. Default: 5 min.
	TransferTimeout time.Duration
	// StopTimeout is how long [Agent.Run] goes on after its context has ended, to stop what runs and report it. Default: 60 s.
	StopTimeout time.Duration
	// Logger takes what happens. Default: [slog.Default].
	Logger *slog.Logger
}

// UnpackLimits bound what a source may unpack to: a zip, tar, tar.gz or tar.zst.
type UnpackLimits struct {
	// Bytes is the largest size of all files together. Default: 8 GiB.
	Bytes int64
	// Entries is the largest number of files, directories and links. Default: 1,000,000.
	Entries int
	// Ratio is how many times larger than the archive the unpacked stream may be, once it exceeds 64 MiB. Default: 200.
	Ratio int64
	// Depth is the largest number of parts of a path. Default: 128.
	Depth int
}

// An Agent runs builds on the machine it is on: it connects to a controller's [Hub], takes as many builds as it has slots, has its
// [Executor] run them, and reports. Builds go on while connections break and controllers change, for as long as their leases last.
type Agent struct {
	opts   AgentOptions
	urls   []*url.URL
	log    *slog.Logger
	client *http.Client
	// instance names this process: controllers tell by it a worker that lost its connection from one that was started anew.
	instance queue.ID
	dir      string   // absolute; set by Run
	left     []func() // carry on what an earlier process left; set by Run

	link       atomic.Pointer[link]    // nil while there is no connection
	controller atomic.Pointer[url.URL] // where the newest connection leads, or led
	answered   atomic.Pointer[moment]  // when the newest message was sent that a controller has answered

	work    sync.WaitGroup // attempts
	watched chan struct{}  // hints that there is a new one whose lease is to be watched
	drained chan struct{}  // hints that the last one has ended and no more will come

	mu       sync.Mutex
	ran      bool
	leaving  bool // accepts nothing more
	draining bool // and ends when nothing is left
	attempts map[queue.AttemptID]*attempt
}

// NewAgent checks the options and returns an agent. It starts nothing and touches no disk; [Agent.Run] does.
func NewAgent(o AgentOptions) (*Agent, error) {
	o.fillDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("worker: AgentOptions: %w", err)
	}
	a := &Agent{
		opts: o, log: o.Logger.With("worker", o.Worker), client: newClient(&o), instance: queue.NewID(),
		watched: make(chan struct{}, 1), drained: make(chan struct{}, 1), attempts: make(map[queue.AttemptID]*attempt),
	}
	for _, text := range o.URLs {
		u, err := parseBase(text)
		if err != nil {
			return nil, fmt.Errorf("worker: AgentOptions: URLs: %w", err)
		}
		a.urls = append(a.urls, u)
	}
	return a, nil
}

// Run works until ctx ends. Then it accepts nothing more, stops what runs as [ErrShutdown], reports that as lost so that it is
// attempted elsewhere, and returns nil, within [AgentOptions.StopTimeout] and the time that the executor takes to kill. It
// returns nil as well when it was asked to drain, by a controller or [Agent.Drain], and all is finished.
//
// It gives up with an error that wraps [ErrUnauthorized] or [ErrVersion] if the controller will never take this agent, and with
// [ErrDirInUse] or an error of the file system if it cannot work in its directory. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.begin(); err != nil {
		return err
	}
	closeDir, err := a.openDir()
	if err != nil {
		return err
	}
	defer closeDir()
	defer a.client.CloseIdleConnections()
	for _, resume := range a.left {
		a.work.Go(resume)
	}

	online, offline := context.WithCancel(context.WithoutCancel(ctx))
	defer offline()
	refused := make(chan error, 1)
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { refused <- a.stayConnected(online) })
	loops.Go(func() { a.watchLeases(online) })

	select {
	case <-ctx.Done():
	case <-a.drained:
	case err = <-refused: // the caller is told
	}
	a.windDown(err != nil)
	if l := a.link.Load(); l != nil {
		l.send(online, &wire.Bye{Reason: "the agent is stopping"})
		l.conn.Close(int(wire.CloseNormal), wire.CloseNormal.String())
	}
	offline()
	return err
}

func (a *Agent) begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ran {
		return errors.New("worker: Agent.Run was called twice")
	}
	a.ran = true
	return nil
}

// stayConnected connects, again and again, until ctx ends or a controller refuses this agent for good.
func (a *Agent) stayConnected(ctx context.Context) error {
	pauses := reconnect{least: a.opts.ReconnectMin, most: a.opts.ReconnectMax}
	for i := 0; ; i++ {
		base := a.urls[i%len(a.urls)]
		lasted, ended := a.connect(ctx, base)
		if refused := refusal(ended); refused != nil || ctx.Err() != nil {
			return refused
		}
		if lasted {
			pauses.stable()
		}
		wait := pauses.after(ended)
		a.log.Warn("not connected", "controller", base.Host, "error", ended, "next", wait)
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// watchLeases looks at the clocks often enough to notice the end of a lease in time, also after the machine has slept.
func (a *Agent) watchLeases(ctx context.Context) {
	for {
		every := time.Second
		now := thisMoment()
		for _, t := range a.all() {
			t.checkLease(now)
			every = min(every, t.killTime/10)
		}
		timer := time.NewTimer(max(every, 5*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-a.watched:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// wake hints at something on a channel that has room for one hint.
func wake(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default:
	}
}

// windDown ends all attempts and waits for them; at once if there is nobody to report to.
func (a *Agent) windDown(mute bool) {
	a.mu.Lock()
	a.leaving = true
	a.mu.Unlock()
	if l := a.link.Load(); l != nil {
		l.soon() // to say that it is leaving
	}
	for _, t := range a.all() {
		t.shutDown()
	}
	giveUp := func() {
		for _, t := range a.all() {
			t.leave()
		}
	}
	if mute {
		giveUp()
	}
	patience := time.AfterFunc(a.opts.StopTimeout, giveUp)
	defer patience.Stop()
	a.work.Wait()
}

func (o *AgentOptions) fillDefaults() {
	labels := queue.Labels{"os": runtime.GOOS, "arch": runtime.GOARCH}
	maps.Copy(labels, o.Labels)
	o.Labels = labels
	if o.Version == "" {
		o.Version = "unknown"
	}
	orDefault(&o.Slots, 1)
	orDefault(&o.SpoolMax, wire.DefaultSpool)
	if o.MinFree == 0 {
		o.MinFree = 1 << 30
	}
	orDefault(&o.Unpack.Bytes, 8<<30)
	orDefault(&o.Unpack.Entries, 1_000_000)
	orDefault(&o.Unpack.Ratio, 200)
	orDefault(&o.Unpack.Depth, 128)
	orDefault(&o.ReconnectMin, wire.DefaultReconnectMin)
	orDefault(&o.ReconnectMax, max(o.ReconnectMin, wire.DefaultReconnectMax))
	orDefault(&o.DialTimeout, 10*time.Second)
	orDefault(&o.ReadTimeout, wire.DefaultReadTimeout)
	orDefault(&o.WriteTimeout, wire.DefaultWriteTimeout)
	orDefault(&o.Repeat, 3*time.Second)
	orDefault(&o.LogTimeout, 5*time.Second)
	orDefault(&o.StallTimeout, time.Minute)
	orDefault(&o.TransferTimeout, 5*time.Minute)
	orDefault(&o.StopTimeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// check names the first field that is wrong.
func (o *AgentOptions) check() error {
	switch {
	case len(o.URLs) == 0:
		return errors.New("field URLs must name a controller")
	case o.Credential == "" || strings.ContainsFunc(string(o.Credential), func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("field Credential must be given, in visible ASCII characters")
	case o.Executor == nil:
		return errors.New("field Executor must be given")
	case o.Dir == "":
		return errors.New("field Dir must be given")
	case o.Slots > wire.MaxSlots:
		return fmt.Errorf("field Slots is %d but must be at most %d", o.Slots, wire.MaxSlots)
	case o.ReconnectMin > o.ReconnectMax:
		return fmt.Errorf("field ReconnectMin is %v but must be at most ReconnectMax, which is %v", o.ReconnectMin, o.ReconnectMax)
	}
	hello := &wire.Hello{
		Worker: o.Worker, Instance: queue.NewID(), Version: o.Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
		Slots: o.Slots, Labels: o.Labels,
	}
	if _, err := wire.Encode(hello); err != nil {
		return fmt.Errorf("fields Worker, Version or Labels cannot be used: %w", err)
	}
	return nil
}

// parseBase reads the URL of a controller.
func parseBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("a URL cannot be parsed") // its text may hold a secret
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("a URL must begin with http:// or https:// and name a host")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a URL must not have a user, a query or a fragment")
	}
	return u.JoinPath("/"), nil
}
