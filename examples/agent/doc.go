// Command agent runs builds on the machine it is on, as processes of its own user.
//
//	agent -url https://builds.example.com -name mac-7 -key-file /etc/slipway/agent.key -dir /var/lib/slipway
//
// # Commands
//
//	agent run      runs builds until it is told to stop; agent without a command does the same
//	agent register gets this machine a credential of its own, with an enrolment token
//	agent doctor   checks that this machine can run builds and reach its controllers, and says how to mend what it cannot
//	agent status   tells what the agent does that works in -dir: its connection, its builds and their leases
//	agent drain    has that agent take no more builds, and end when those it has are finished
//	agent version  prints the version (as -version does)
//
// It connects to a controller, takes as many builds as it has slots, and reports. The name is the one that the credential was made for,
// with agent register, or with slipway keys create worker --worker mac-7. It runs until it is told to stop.
//
// # Settings
//
// A setting is a flag, a variable of the environment, or a line "key = value" of the file that -config names, where key is the name of the
// flag. A flag wins over its variable, and that over the file; a list is taken from one of them as a whole. In the file empty lines and lines that begin
// with # are passed over, and a key for a list may be repeated. A key that there is not is an error, which names the nearest one.
// Relative paths begin at the working directory, wherever they are written. Durations are written like 30s or 5m.
//
//	-config FILE          SLIPWAY_WORKER_CONFIG       file with settings
//	-url URL[,URL…]       SLIPWAY_URL                 controllers, tried in turn; may be repeated; default http://127.0.0.1:8080
//	-key-file FILE        SLIPWAY_WORKER_KEY_FILE     file with the credential; others must not be able to read it
//	                      SLIPWAY_WORKER_KEY          the credential itself, if there is no file; it is never an argument
//	-name NAME            SLIPWAY_WORKER_NAME         the worker's name; default: the name of the machine
//	-dir DIR              SLIPWAY_WORKER_DIR          for workspaces and logs; default slipway-agent in the user's cache directory
//	-slots N              SLIPWAY_WORKER_SLOTS        builds at once; default 1
//	-label KEY=VALUE[,…]  SLIPWAY_WORKER_LABELS       facts that builds may require, beside os and arch; may be repeated
//	-pass-env NAME[,…]    SLIPWAY_WORKER_PASS_ENV     variables of this process that every build may see; may be repeated
//	-tools NAME[,…]       SLIPWAY_WORKER_TOOLS        programs without which builds are declined, looked for in PATH; may be repeated
//	-min-free SIZE        SLIPWAY_WORKER_MIN_FREE     free space of -dir, beside twice the source, below which builds are declined; default 1GiB
//	-nice N               SLIPWAY_WORKER_NICE         how far the builds' priority is below the agent's, -1 for not at all; default 5
//	-build-user NAME      SLIPWAY_WORKER_BUILD_USER   user that builds run as, if the agent is root; default: the agent's
//	-keep-workspace       SLIPWAY_WORKER_KEEP         leave the directories of builds where they are, to look at them
//	-reconnect-min TIME   SLIPWAY_WORKER_RECONNECT_MIN  the first pause before a reconnect is at random up to this; default 500ms
//	-reconnect-max TIME   SLIPWAY_WORKER_RECONNECT_MAX  that bound is doubled from one failure to the next, up to this; default 30s
//	-stop-timeout TIME    SLIPWAY_WORKER_STOP_TIMEOUT   how long to stop builds and report them after the second signal; default 1m
//	-health ADDR          SLIPWAY_WORKER_HEALTH       loopback address that serves /livez, /readyz (connected, and not draining) and /metrics
//	-log-format FORMAT    SLIPWAY_LOG_FORMAT          text or json, on standard error; default text
//	-log-level LEVEL      SLIPWAY_LOG_LEVEL           debug, info, warn or error; default info
//
// # The user that builds run as
//
// A build can do what the user can that it runs as. Without -build-user that is the agent's own: a hostile build reads its credential, and the
// logs and sources of other builds, and ends it. With -build-user, for which the agent must be root, it can do neither: the
// credential must be root's, with permissions 600, and the directory of -dir must be one that the user can pass through, which
// doctor checks. The user should be nobody's else. Builds of one agent still are one user.
//
// # Register
//
//	agent register -url https://builds.example.com -name mac-7 -token-file token -key-file /etc/slipway/agent.key
//
// exchanges an enrolment token, which slipway keys create enroller --worker mac-7 makes, for a credential, and puts that into the file of
// -key-file, which only its owner can read. The token is in the file of -token-file, of which others must not be able to read it, or with
// -token-file - on standard input, or in SLIPWAY_ENROL_TOKEN; it is never an argument. A file that exists is left alone unless -force is
// given. The name must be one that the token is for, and have no credential that is still good.
//
// The secret of the credential is made here and stays here: the controller is sent its SHA-256. Until all is done a draft is kept beside
// the file, as FILE.NAME.draft. Whatever comes between, the same command, with the same token, goes on from there, also when the
// controller has counted the token as used and its answer was lost.
//
// # Doctor
//
// agent doctor takes the settings of run and looks at all that they need: the settings themselves, the credential and who can read
// it, the directory, its file system and its free space, the limit of open files, the programs of -tools, and whether a build that does
// nothing can be run. Of each controller it checks name, connection, TLS, answer, clock, credential and version of the protocol. It asks
// for a version that does not exist: a controller refuses that after it has checked the credential, so that an agent that runs
// with it keeps its session. That refusal also tells which name the credential was made for.
//
// Each finding is ok, a warning or a failure, with a command that mends it or shows more; with -json it is an element
// {name, status, detail, fix} of an array, whose status is ok, warn or fail.
//
// # Status and drain
//
// An agent answers on a socket in its directory, control/socket, which only its own user and root can reach: builds that run as
// that user can, too. agent status prints what it does, with -json as an object. agent drain returns at once; with -wait
// when the agent has ended, with exit code 0 if it had finished what it ran and 1 if it was stopped or killed before. With -timeout it
// waits that long, and then returns 7 while the agent goes on. Where the path of the socket is longer than the system allows, about a
// hundred bytes, the agent says so and works without.
//
// # As a service
//
// slipway-agent.service is a unit for systemd and build.slipway.agent.plist a daemon for launchd. Where NOTIFY_SOCKET is set the agent
// tells systemd that it is ready, once a controller has taken it; what it does, as systemctl status shows; and, if there is a watchdog,
// that it lives: at each heartbeat that a controller has answered, and while a build runs within its lease. WatchdogSec must be
// several times as long as the controller's -heartbeat, 10s by default.
//
// # Signals
//
// SIGINT and SIGTERM mean more each time:
//
//   - At the first the agent drains: it takes no build, and ends when those that run have ended and are reported.
//   - At the second it stops the builds that run, as a cancel does, reports them to be attempted elsewhere, and ends, within -stop-timeout.
//   - At the third it ends at once. What it ran is killed, as it is however the agent ends.
//
// What could not be reported is reported by the next agent that is started in the same directory, also after kill -9.
//
// # Exit codes
//
//	0      done; of run: stopped by a signal, or drained
//	1      failed
//	2      the command line or the environment is wrong
//	3      the settings cannot be used: no credential, a directory that is in use, …
//	4      the controller refuses the credential, or the token of register
//	5      the controller does not speak this agent's version of the protocol
//	6      a check of doctor has failed
//	7      builds still ran when the time of drain -wait was up
//	128+n  ended at once by a third signal, of number n: 130 for SIGINT, 143 for SIGTERM
package main
