// Command slipway submits builds to a controller and shows what becomes of them.
//
//	slipway [flags] submit DIR [--label KEY=VALUE …] [--artifact GLOB …] [--wait] -- COMMAND [ARGUMENT …]
//	slipway [flags] logs ID [-f] [--epoch N]
//	slipway [flags] list [--state STATE …] [--pool POOL] [--worker NAME] [--limit N] [--all]
//	slipway [flags] show ID
//	slipway [flags] cancel ID [--reason TEXT]
//	slipway [flags] retry ID
//	slipway [flags] download ID [NAME …] [-o DIR] [--epoch N] [--force]
//	slipway [flags] keys create ROLE | keys list | keys revoke KEY
//	slipway [flags] stats [--days N]
//	slipway [flags] pause [--pool POOL] | resume [--pool POOL] | limit KEY MAX
//	slipway version
//
// Every command explains itself with --help.
//
// # Flags and environment
//
//	--url URL        SLIPWAY_URL       the controller; default http://127.0.0.1:8080
//	--key-file FILE  SLIPWAY_KEY_FILE  file with the key; others must not be able to read it
//	                 SLIPWAY_KEY       the key itself, if there is no file; it is never an argument, which everybody on the machine sees
//	--project NAME   SLIPWAY_PROJECT   the project, for admins; default: default. Other keys have one project.
//	--json                             print JSON
//
// A flag wins over its variable, and a file over SLIPWAY_KEY.
//
// # Submitting
//
// submit packs the directory, sends it unless the controller has it already, and submits a build that unpacks it and runs the command
// in it. In a git checkout that is what git tracks, and what is new and not ignored; elsewhere, and with --no-git, it is everything but
// .git. The command is given to no shell. It prints the build's id; with --wait it prints the log instead and ends when the build
// does. Ctrl-C ends the waiting and not the build.
//
// A build waits for its time (--not-before), for its turn, which --priority moves, and for room among the builds with its concurrency key
// (--key). show tells what it lacks. With --once a submit can be repeated: a build that was submitted with the same text is taken
// instead of a new one.
//
// # Logs
//
// logs -f goes on until the build has ended, also through restarts of the controller. When a worker is lost and the build
// attempted again, a notice says so and the log of the new attempt follows. Every log that is stored whole is compared with the length
// and SHA-256 that its worker reported.
//
// # Downloading
//
// download saves the named artifacts, or all, below a directory. A file appears under its name only when its bytes have the right
// SHA-256. Files that exist are left alone unless --force is given.
//
// # Keys
//
// keys create worker makes the credential of a worker, to be carried to its machine. keys create enroller makes a token instead, by which
// agent register gets a machine a credential that nobody else has seen: --worker is the name, or as NAME* what names begin with, --uses how
// many machines (1), --expires-in how long (1h). keys list shows how many are left, and revoking a token leaves the workers that it has enrolled.
//
// # Output
//
// Results go to standard output; notices and errors go to standard error, one line each, with a progress display only on a terminal.
// With --json a command prints one JSON document: submit, show, retry and submit --wait a build, list {"builds": [build …]}, cancel {"id",
// "state"}, download {"id", "files": [{"name", "path", "size", "sha256", "epoch"}]}, keys create a key with its secret in "key" or,
// with -o, its file in "key_file", keys list {"keys": [key …]}, keys revoke {"id"}, stats the numbers, version {"version", "go", "os", "arch"}. Builds and
// keys have the fields of the HTTP API, which the controller describes at /openapi.json. logs prints JSON lines, {"epoch", "offset",
// "data"}, with the bytes in base64.
//
// # Exit codes
//
//	0  done; with --wait: the build succeeded
//	1  it failed, or the build that was waited for did not succeed
//	2  the command line or the environment is wrong
package main
