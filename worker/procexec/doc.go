// Package procexec runs builds as processes of the worker's own machine. It is the [worker.Executor] of an agent without containers.
//
// A build's spec is the JSON form of a [Spec]: a command, variables and artifact globs. Whoever submits builds makes it with
// [Spec.Encode]; whoever takes them in can check it with [ParseSpec].
//
//	func main() {
//		procexec.Guardian() // first of all
//		executor, err := procexec.New(&procexec.Options{PassEnv: []string{"GOCACHE", "GOMODCACHE"}})
//		// give executor to the agent
//	}
//
// # What a build gets
//
// The command runs in the source directory, with nothing on standard input and with standard output and standard error in one
// pipe, so that the log has them in the order they were written. Its environment is an allow-list, in which later entries prevail:
//
//   - PATH, LANG, LC_* and TZ of the agent, and what [Options.PassEnv] names
//   - HOME and TMPDIR: new directories, the attempt's own
//   - the spec's variables
//   - the variables that Slipway gives to the attempt, SLIPWAY_…, which a spec must not set
//
// It has no terminal, no open files of the agent, and a lower priority than the agent.
//
// # How a build ends
//
// Beside each build runs a guardian: the agent's own program, started a second time. It starts the command in a process group
// of its own and holds a pipe from the agent. It kills the group when the pipe ends, so a build does not survive its agent, however
// that ended. Around each end:
//
//   - When the command ends by itself, what it left running is killed. A build has no daemons.
//   - A build is stopped with SIGTERM to its group. What has not ended after the job's grace is killed.
//   - When the guardian itself is killed, the agent kills what is in its session, and Run returns [ErrGuardianLost].
//   - The guardian knows how long the build's lease lasts, and kills the build then if the agent, which renews it, stands still.
//   - When the agent was killed and is started again, [Executor.Reap] waits until the guardian has killed the build, before anybody is
//     told that it may be attempted again.
//   - When nobody in the build is left, but somebody outside holds its output open, the log is cut after two seconds, with a
//     notice. What the build wrote is in it.
//
// On Linux the guardian is a child subreaper: processes that left the group with setsid or a double fork are found and killed
// too, and the kernel kills the command if its guardian dies. On macOS such processes escape. On other systems [New] fails.
//
// # What it does not do
//
// It is no sandbox. A build runs as the agent's user, can read what that user can read, its credential among it, and can kill the agent.
// With [Options.User] it runs as a user of its own, who can do neither: he gets the directories of the attempt, and can pass through, but
// not look into, those around it; the guardian stays root. Files that are not his are no artifacts. Builds that run at once on
// one agent are still one user, and can read each other's files, variables and secrets, as can whatever else runs as him; and what
// that user leaves in places that all can write to, such as /tmp, stays. Whoever runs builds of people who do not trust each other
// gives each project an agent, or a machine, of its own.
//
// Guardian and agent watch each other: when both are killed in one stroke, nobody is left to kill the build's group until the agent is
// started again; only the kernel on Linux still kills the command itself. A guardian that is killed with SIGKILL, which a hostile build can do, leaves
// behind what had left its session before. Where that matters a systemd unit or a container around the agent
// bounds what is left of it.
//
// Limits of memory and processor time are the operating system's to set, for example in the agent's systemd unit.
//
// # Artifacts
//
// After the command the source directory is searched for regular files that the globs name. Symbolic links are neither
// followed nor taken. Failed commands have artifacts too; see [Executor.Run]. A glob without a match is a line in the log.
//
// Lines that this package adds to a log begin with "slipway: ".
//
// # Testing
//
// A test binary that runs builds re-executes itself like any other program, so its TestMain calls [Guardian] first.
package procexec
