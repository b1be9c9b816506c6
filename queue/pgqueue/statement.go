package pgqueue

import (
	"strings"

	"github.com/slipway-build/slipway/internal/sqlqueue"
)

// statements are the backend's SQL for its schema. Each field is expanded once from the constant of the same name.
type statements struct {
	gates, submitOne, submitOneRare   statement
	submitOneKeyed                    statement
	submitPlain, submitKeyed, known   statement
	submitSlots                       statement
	count                             string
	probe, probeFar, claim, claimSole string
	accept, accepted, release         string
	lockEnding, finish, finished      string
	lockEndingIn                      statement
	finishIn, finishedIn              statement
	cancel                            string
	expire, takeBack, orphans         string
	timeOut, force, sweep             string
	unclassed, intern, classify, due  string
	forgetSessions, forgetControllers string
	beat, openSessions, loseSessions  string
	leases, cancels, lease            string
	lockSession, lockLeases, adopt    string
	takeBackUnheld, reports           string
	appendLogs, closedLogs            string
	archiveLog                        string
	droppedLogs, forgetLogs           string
	reserve, commit, releaseArtifact  string
	settle, retire, unreserve         string
	forgetKeys, fold                  string
	takeLock, admit                   string
	changePool, changeWeights         string
	holdPool, pools                   string
	changeProject, projects           string
	setLimit, clearLimit, limits      string
	serve                             string
}

func expand(names sqlqueue.Names) statements {
	// statement_timestamp does not change while a statement runs, so that the planner may look it up in an index.
	x := func(sql string) string {
		return names.Expand(strings.ReplaceAll(sql, "{now}", "coalesce($1::timestamptz, statement_timestamp())"))
	}
	both := func(sql string) statement { return bothForms(x(sql)) }
	return statements{
		gates: both(gatesSQL), submitOne: both(submitOnePlain()), submitOneRare: both(submitOneRare("")), submitOneKeyed: both(submitOneRare(ifNew)),
		submitPlain: both(submitPlain()), submitKeyed: both(submitKeyed()), known: both(knownSQL), count: x(countSQL),
		submitSlots: both(submitSlots()),
		probe:       x(probeSQL), probeFar: x(probeFarSQL), claim: x(claimSQL), claimSole: x(claimSoleSQL),
		accept: x(acceptSQL), accepted: x(acceptedSQL), release: x(releaseSQL),
		lockEnding: x(lockEndingSQL), finish: x(finishSQL), finished: x(finishedSQL),
		lockEndingIn: both(lockEndingInSQL), finishIn: both(finishSQL), finishedIn: both(finishedSQL),
		cancel: x(cancelSQL),
		expire: x(expireSQL), takeBack: x(takeBackSQL), orphans: x(orphansSQL),
		timeOut: x(timeOutSQL), force: x(forceSQL), sweep: x(sweepSQL),
		unclassed: x(unclassedSQL), intern: x(internSQL), classify: x(classifySQL), due: x(dueSQL),
		forgetSessions: x(forgetSessionsSQL), forgetControllers: x(forgetControllersSQL),
		beat: x(beatSQL), openSessions: x(openSessionsSQL), loseSessions: x(loseSessionsSQL),
		leases: x(leasesSQL), cancels: x(cancelsSQL), lease: x(leaseSQL),
		lockSession: x(lockSessionSQL), lockLeases: x(lockLeasesSQL), adopt: x(adoptSQL),
		takeBackUnheld: x(takeBackUnheldSQL), reports: x(reportsSQL),
		appendLogs: x(appendLogsSQL), closedLogs: x(closedLogsSQL), archiveLog: x(archiveLogSQL),
		droppedLogs: x(droppedLogsSQL), forgetLogs: x(forgetLogsSQL),
		reserve: x(reserveSQL), commit: x(commitSQL), releaseArtifact: x(releaseArtifactSQL),
		settle: x(settleSQL), retire: x(retireSQL), unreserve: x(unreserveSQL), forgetKeys: x(forgetKeysSQL), fold: x(foldSQL),
		takeLock: takeLockSQL, admit: x(admitSQL),
		changePool: x(changePoolSQL), changeWeights: x(changeWeightsSQL), holdPool: x(holdPoolSQL), pools: x(poolsSQL),
		changeProject: x(changeProjectSQL), projects: x(projectsSQL),
		setLimit: x(setLimitSQL), clearLimit: x(clearLimitSQL), limits: x(limitsSQL),
		serve: x(serveSQL),
	}
}
