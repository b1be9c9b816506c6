package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// settings are all that can be set, but for the admin key, which no argument may hold.
type settings struct {
	version bool

	listen       string
	addrFile     string
	tlsCert      string
	tlsKey       string
	dev          bool
	adminKeyFile string

	data            string
	storage         string
	minFree         int64
	archiveLogs     bool
	secrets         string
	database        string
	schema          string
	databaseConns   int
	databaseTimeout time.Duration
	migrate         bool

	queue  queue.Options
	hub    worker.HubOptions
	server server.Options

	readHeaderTimeout time.Duration
	idleTimeout       time.Duration
	drainDelay        time.Duration
	shutdownTimeout   time.Duration

	logFormat string
	logLevel  slog.Level
}

// define lists the flags with their defaults, which are those of the packages that the settings are for.
func (s *settings) define(f *flags) {
	f.group("Serving")
	f.text(&s.listen, "listen", "127.0.0.1:8080", "`ADDR` to serve on; port 0 picks a free one")
	f.text(&s.addrFile, "addr-file", "", "`FILE` to write the address to that is served on")
	f.text(&s.tlsCert, "tls-cert", "", "`FILE` of the certificate chain, in PEM; without it there is no TLS")
	f.text(&s.tlsKey, "tls-key", "", "`FILE` of its private key, in PEM")
	f.text(&s.adminKeyFile, "admin-key-file", "", "`FILE` that holds the admin key, instead of SLIPWAY_ADMIN_KEY; others must not be able to read it")
	f.choice(&s.dev, "dev", false, "for development: without an admin key, make one and print it; serves loopback only")
	f.duration(&s.readHeaderTimeout, "read-header-timeout", 10*time.Second, "`TIME` that the head of a request may take")
	f.duration(&s.server.BodyTimeout, "body-timeout", 30*time.Second, "`TIME` that a request with a JSON body may take")
	f.duration(&s.idleTimeout, "idle-timeout", 2*time.Minute, "`TIME` that a connection may wait for its next request")
	f.duration(&s.server.StallTimeout, "stall-timeout", time.Minute, "`TIME` without progress that ends an upload or download")
	f.duration(&s.server.MaxLogWait, "log-wait", 30*time.Second, "longest `TIME` that a reader of a log may wait")
	f.duration(&s.server.ProbeEvery, "probe-every", time.Second, "`TIME` that an answer of /readyz is good for")
	f.DurationVar(&s.drainDelay, f.listed("drain-delay"), 0, "`TIME` between not being ready and shutting down")
	f.duration(&s.shutdownTimeout, "shutdown-timeout", 20*time.Second, "`TIME` that requests have to finish at a shutdown")
	f.choice(&s.version, versionFlag, false, "print the version and exit")

	f.group("Data")
	f.text(&s.data, "data", "./slipway-data", "`DIR` for the SQLite files and the storage; one controller at a time")
	f.text(&s.storage, "storage", "", "`DIR` for sources and artifacts, which controllers may share; blobs in -data if not set")
	f.size(&s.minFree, "min-free", 256<<20, "`SIZE` that must stay free on the storage's file system")
	f.choice(&s.archiveLogs, "archive-logs", false, "move logs of ended builds, compressed, from the database to logs in the storage; all controllers need it then, for good")
	f.text(&s.secrets, "secrets-dir", "", "`DIR` with secrets for builds, one per file: PROJECT/NAME, which only its owner can read")
	f.text(&s.database, "database", "", "`URL` of a PostgreSQL database to use instead of SQLite; better set by SLIPWAY_DATABASE_URL")
	f.text(&s.schema, "schema", "slipway", "`NAME` of the schema in PostgreSQL")
	f.count(&s.databaseConns, "database-conns", 16, "largest `NUMBER` of connections to PostgreSQL")
	f.duration(&s.databaseTimeout, "database-timeout", 5*time.Second, "`TIME` that one operation on the database may take")
	f.choice(&s.migrate, "migrate", true, "create or upgrade the tables at the start")
	s.defineQueue(f)
	s.defineHub(f)

	f.group("Log")
	f.text(&s.logFormat, "log-format", "text", "`FORMAT` of the program's log: text or json")
	f.level(&s.logLevel, "log-level", slog.LevelInfo, "`LEVEL` of the program's log: debug, info, warn or error")
}

func (s *settings) defineQueue(f *flags) {
	q := &s.queue
	f.group("Builds (the same on every controller of a database)")
	f.duration(&q.RunTimeout, "run-timeout", time.Hour, "`TIME` that an attempt may run if its submitter does not say")
	f.count(&q.MaxAttempts, "max-attempts", 3, "`NUMBER` of attempts if the submitter does not say")
	f.duration(&q.OfferTimeout, "offer-timeout", 10*time.Second, "`TIME` that a worker has to answer an offer")
	f.duration(&q.Avoid, "avoid", 30*time.Second, "`TIME` that a build keeps away from a worker that declined or lost it")
	f.duration(&q.Grace, "grace", time.Minute, "`TIME` that running builds wait for their lost worker or controller")
	f.duration(&q.Slack, "slack", 30*time.Second, "`TIME` that the report of a worker is awaited after the run timeout")
	f.duration(&q.CancelTimeout, "cancel-timeout", 40*time.Second, "`TIME` that the report of a worker is awaited after a cancel")
	f.duration(&q.ControllerTTL, "controller-ttl", 20*time.Second, "`TIME` after which a silent controller counts as dead")
	f.duration(&q.MaintainEvery, "maintain-every", time.Second, "`TIME` between looks for what is due")
	f.duration(&q.Backoff.Base, "retry-base", 5*time.Second, "`TIME` before a lost build is attempted again, doubled each time")
	f.duration(&q.Backoff.Max, "retry-max", 5*time.Minute, "longest `TIME` before a lost build is attempted again")
	f.DurationVar(&q.Retention, f.listed("retention"), 0, "`TIME` that a build is kept after its end, with its log; 0 keeps it forever")
	f.choice(&q.PollOnly, "poll-only", false, "use no notifications of PostgreSQL, as behind a PgBouncer that shares its connections by transaction")
	f.size(&s.server.MaxSource, "max-source", 1<<30, "largest `SIZE` of a source")
	f.size(&s.hub.MaxArtifact, "max-artifact", 4<<30, "largest `SIZE` of an artifact")
	f.size(&s.hub.LogCap, "log-cap", 64<<20, "largest `SIZE` of the log of an attempt")
}

func (s *settings) defineHub(f *flags) {
	h := &s.hub
	f.group("Workers")
	f.duration(&h.Heartbeat, "heartbeat", 10*time.Second, "`TIME` between heartbeats of a worker")
	f.duration(&h.Lease, "lease", 30*time.Second, "`TIME` that a worker goes on without an answer to a heartbeat")
	f.duration(&h.KillTime, "kill-time", 10*time.Second, "`TIME` that a worker may take to kill a build after its lease")
	f.duration(&h.Margin, "margin", 15*time.Second, "`TIME`, or else -controller-ttl, by which -grace must exceed -lease and -kill-time together")
	f.duration(&h.CancelGrace, "cancel-grace", 10*time.Second, "`TIME` after a cancel when nothing of a build may live")
	f.duration(&h.HelloTimeout, "hello-timeout", 10*time.Second, "`TIME` that a connection has to say who it is")
	f.duration(&h.ReadTimeout, "read-timeout", 30*time.Second, "`TIME` that a connection may be silent")
	f.duration(&h.WriteTimeout, "write-timeout", 10*time.Second, "`TIME` that the writing of one message may take")
	f.duration(&h.Poll, "poll", 500*time.Millisecond, "`TIME` between looks for builds when nothing hints at any")
	f.duration(&h.CancelPoll, "cancel-poll", 500*time.Millisecond, "`TIME` between looks for canceled builds")
	f.size(&h.LogWindow, "log-window", 1<<20, "`SIZE` of log that a worker may send ahead of what is stored")
	f.duration(&h.LogFlush, "log-flush", 200*time.Millisecond, "`TIME` that a worker gathers log before it sends it")
}

func readSettings(args []string, getenv func(string) string) (*settings, error) {
	s := &settings{}
	f := newFlags()
	s.define(f)
	if err := f.parse(args, getenv); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check finds what is wrong with the settings by themselves.
func (s *settings) check() error {
	switch {
	case s.version:
		return nil
	case s.logFormat != "text" && s.logFormat != "json":
		return usagef("-log-format must be text or json")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return usagef("-tls-cert and -tls-key belong together")
	case s.queue.Retention < 0:
		return usagef("-retention must not be negative")
	case s.data == "":
		return usagef("-data must name a directory")
	}
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return usagef("-listen must be host:port, such as 127.0.0.1:8080 or :8080")
	}
	if s.dev && !loopback(host) {
		return configf("-dev serves loopback addresses only: set -listen to 127.0.0.1:8080, or leave -dev out")
	}
	return nil
}

// loopback reports whether nobody but this machine reaches a host.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// logger makes the program's log. It goes to stderr: stdout is for what scripts read.
func (s *settings) logger(stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, o))
	}
	return slog.New(slog.NewTextHandler(stderr, o))
}

func writeHelp(w io.Writer) {
	fmt.Fprint(w, `Usage: controller [flags]

Keeps builds in a queue, gives them to agents and serves the HTTP API.

The admin key is set by SLIPWAY_ADMIN_KEY or -admin-key-file: at least 32 characters that nobody can guess, for example of
openssl rand -hex 32. Every flag but -version can be set by a variable as well: -retry-base by SLIPWAY_RETRY_BASE, -database by
SLIPWAY_DATABASE_URL. A flag wins over its variable. TIME is like 500ms, 30s or 1h; SIZE is like 500MiB, 4GiB or a number of bytes.

Exit codes: 0 after a signal, 1 failure, 2 usage, 3 settings that are refused.
`)
	f := newFlags()
	new(settings).define(f)
	f.help(w)
}
