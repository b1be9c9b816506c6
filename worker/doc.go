// Package worker brings builds to machines: a [Hub] on the side of the service that keeps the queue, an [Agent] on each machine that
// runs builds, and between them one WebSocket connection and plain HTTP for large files. Package wire defines what they say.
//
// A service mounts a Hub and runs it:
//
//	hub, err := worker.NewHub(q, blobs, authenticate, nil)
//	if err != nil {
//		return err
//	}
//	mux.Handle("/v1/worker/", hub)
//	return hub.Run(ctx)
//
// A machine runs an Agent with an [Executor], such as the one in package procexec:
//
//	agent, err := worker.NewAgent(worker.AgentOptions{
//		URLs:       []string{"https://builds.example.com"},
//		Credential: worker.Secret(credential),
//		Worker:     "mac-mini-7",
//		Slots:      2,
//		Executor:   executor,
//		Dir:        "/var/lib/slipway",
//	})
//	if err != nil {
//		return err
//	}
//	return agent.Run(ctx)
//
// # The way of a build
//
// The Hub claims a build for a session with a free slot and offers it. The Agent accepts, with the hash of a token that it made for this
// attempt, and waits; nothing runs until the database says that the attempt is running and the Hub says start. Then the Agent
// downloads and unpacks the source, has the Executor run the build, sends the log while it is written, uploads the artifacts,
// and reports the end when the log is stored. It forgets the attempt when the database has the report.
//
// Any number of controllers may have Hubs on one queue, and a worker may connect to any of them. All that a Hub knows beyond its
// connections is in the database; when a connection breaks, or a controller ends, the build goes on, and hello and welcome
// put the worker and the next controller in agreement.
//
// # Leases
//
// A worker may run an attempt for as long as it has the lease, which each answered heartbeat renews. It counts from when it sent the
// heartbeat, by the monotonic or the wall clock, whichever says that more time has passed, so that a machine that slept
// knows. When a lease of [HubOptions.Lease] (30 s) is over the Agent tells the Executor to stop; half of [HubOptions.KillTime] (10 s)
// later it has it kill. A Hub answers heartbeats only while its database has lately confirmed that this controller is alive.
//
// The database gives a build to another worker at the earliest [queue.Options.Grace] (60 s) after its session was lost or its controller
// was last alive. Hence
//
//	Grace ≥ Lease + KillTime + max(Margin, ControllerTTL)        60 s ≥ 30 s + 10 s + 20 s
//
// is what keeps two workers from running one build at once; [queue.Options.ControllerTTL] is how long a controller may go on renewing
// the leases of a session that was replaced at another one. NewHub refuses options that break it.
//
// # What is guaranteed
//
//   - A build that was claimed is offered, run or given back, whatever fails on the way. An offer that comes to nothing uses up no
//     attempt.
//   - Whatever a worker sends carries the build and the epoch of its claim, and counts only while that is the newest: a worker that comes
//     back from the dead changes nothing. Its token opens nothing either.
//   - A message that has an effect is answered from the database, after it has committed, and is sent again until it is answered.
//   - A log arrives whole, in order and once, through any number of broken connections and controllers, up to a limit and then with a
//     line that says where it was cut. Its length and SHA-256 come with the report of the end, for readers to check.
//   - An artifact shows when all of its bytes are stored and have the declared digest, or never.
//   - A source is unpacked within its directory and its limits: no name and no link leads out of it.
//   - A panic while one worker is served, or one build is run, ends that connection or attempt and no other.
//
// # What is not
//
//   - A build may be attempted more than once: when its worker is lost, or reports that the machine failed. It should bear that.
//   - An Agent that is killed loses the builds that it ran, but no build that had ended: the next one on its directory sends the rest of
//     the logs and the ends, and reports as lost, with the reason agent_restart, what had not ended. What a build wrote in its last moment
//     may be missing then; the log says so.
//   - The lease keeps two attempts apart only if the Executor does what it says and no clock runs more than [HubOptions.Margin] wrong
//     within a lease. The fence, which keeps what an old attempt does from counting, needs neither.
//   - A worker is authenticated when it connects. One whose credential is revoked goes on until its connection ends.
//   - The Hub limits no rates, and stores what it is sent: limits on connections and on logs of a whole project are the host's.
//
// Package keyauth makes a Hub's authenticate function of package auth's keys, package storeblobs its [Blobs] of a storage.Store.
//
// # Secrets
//
// What [HubOptions.Secrets] returns goes to the worker with the start, from memory to memory, into the variables of the build's environment.
// It is in no row of the queue and no file of the Agent. The Agent takes it out of the log and of all that it says of the build, in the plain
// and in encodings that tools use; a build that wants to tell a secret can still do so, and its artifacts are stored as they are.
//
// # Testing
//
// Package workertest plays either side of a connection in tests, and holds any worker and any controller to the protocol.
//
// # Writing an Executor
//
// An [Executor] decides what a build's spec means. It is called once for each attempt, gets a directory, the unpacked source, the
// variables for the build's environment and a writer for its output, and returns when nothing of the attempt is left alive: the Agent
// takes it at its word.
package worker
