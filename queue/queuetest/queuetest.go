package queuetest

import (
	"testing"

	"github.com/slipway-build/slipway/queue"
)

// Run runs the whole suite. It calls open for each case, and expects an empty backend that stays usable until the case's t is
// cleaned up.
func Run(t *testing.T, open func(t *testing.T) queue.Backend) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"Submit", submitCases},
		{"Slot", slotCases},
		{"Order", orderCases},
		{"Schedule", scheduleCases},
		{"Idempotency", idempotencyCases},
		{"Claim", claimCases},
		{"Accept", acceptCases},
		{"Release", releaseCases},
		{"Finish", finishCases},
		{"Retry", retryCases},
		{"Cancel", cancelCases},
		{"Maintain", maintainCases},
		{"Limit", limitCases},
		{"Room", roomCases},
		{"Pause", pauseCases},
		{"Fair", fairCases},
		{"FairLane", fairLaneCases},
		{"Session", sessionCases},
		{"Sweep", sweepCases},
		{"Adopt", adoptCases},
		{"Log", logCases},
		{"LogLimit", logLimitCases},
		{"Archive", archiveCases},
		{"Artifact", artifactCases},
		{"Quota", quotaCases},
		{"Record", recordCases},
		{"Stats", statsCases},
		{"Explain", explainCases},
		{"Retention", retentionCases},
		{"Dropped", droppedCases},
		{"Table", tableCases()},
		{"Concurrency", concurrencyCases},
		{"Race", raceCases},
		{"Context", contextCases},
		{"Waker", wakerCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.check(t, open(t)) })
			}
		})
	}
	t.Run("Walk", func(t *testing.T) { walkRandomly(t, open(t)) })
}

// A testCase checks one sentence of the contract.
type testCase struct {
	name string
	says string // the sentence
	run  func(s *subject)
}

func (c testCase) check(t *testing.T, b queue.Backend) {
	defer func() {
		if t.Failed() {
			t.Logf("the contract says: %s", c.says)
		}
	}()
	c.run(newSubject(t, b))
}
