package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

var scheduleCases = []testCase{
	{
		"Held",
		"A build is held until its NotBefore, and then queued by Maintain.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds[0])
			s.running(builds[0], s.worker())
			b := s.at(builds[1], time.Hour)
			if done := s.submit(b)[0]; done.ID != b.ID || done.Class != 0 || done.Waiting {
				s.Errorf("Submit returned %+v for a scheduled build, which only time can let go", done)
			}
			s.wantBuild(s.get(b), b)
			s.pass(time.Hour - 2*time.Second)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued %d builds before their time", done.Queued)
			}
			s.wantHead(b, 0)
			s.pass(2 * time.Second)
			if done := s.maintain(s.rules()); done.Queued != 1 || done.Interned != 0 {
				s.Errorf("Maintain did %+v, want one build queued", done)
			}
			if got := s.get(b); got.State != queue.Pending || !got.NotBefore.IsZero() {
				s.Errorf("build that is queued is %s", describe(got))
			}
			s.running(b, s.worker())
		},
	},
	{
		"UnknownClass",
		"Maintain makes the class of a scheduled build; the build stays held until its time.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			s.submit(b)
			if done := s.maintain(s.rules()); done.Interned != 1 || done.Queued != 0 {
				s.Errorf("Maintain did %+v, want one class made and nothing queued", done)
			}
			s.wantHead(b, 0)
			if got := s.get(b); !got.NotBefore.Equal(b.NotBefore) {
				s.Errorf("build is %s", describe(got))
			}
			s.pass(time.Hour)
			if done := s.maintain(s.rules()); done.Interned != 0 || done.Queued != 1 {
				s.Errorf("Maintain did %+v, want one build queued", done)
			}
			s.running(b, s.worker())
		},
	},
	{
		"Late",
		"Held builds are queued in the call that makes their class, also when their time came before it.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			s.submit(b)
			s.pass(2 * time.Hour)
			if done := s.maintain(s.rules()); done.Interned != 1 || done.Queued != 1 {
				s.Errorf("Maintain did %+v, want one class made and one build queued", done)
			}
			s.running(b, s.worker())
		},
	},
	{
		"PlaceInTheQueue",
		"A scheduled build takes its place in the queue as if it were submitted at its NotBefore, whenever Maintain comes.",
		func(s *subject) {
			builds := s.drafts(4)
			builds[0], builds[1] = s.at(builds[0], 20*time.Minute), s.at(builds[1], 10*time.Minute)
			builds[1].Priority = -int(5 * time.Minute / queue.PriorityStep)
			s.queued(builds[:2]...)
			s.pass(14 * time.Minute)
			s.queued(builds[2])
			s.pass(9 * time.Minute)
			s.queued(builds[3])
			s.wantOrder(builds[0], []queue.NewBuild{builds[2], builds[1], builds[0], builds[3]})
		},
	},
	{
		"Past",
		"A NotBefore that has come is no reason to hold a build, nor one to put it ahead of others.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds[0])
			for i, ago := range []time.Duration{time.Hour, 0} {
				b := builds[1+i]
				b.NotBefore = s.now.Add(time.Second - ago) // submit passes a second
				done := s.submit(b)[0]
				if done.Class == 0 || done.Waiting || done.Rank != s.now.UnixMicro() {
					s.Errorf("Submit returned %+v, want the build queued", done)
				}
				if got := s.get(b); !got.NotBefore.IsZero() {
					s.Errorf("build is %s", describe(got))
				}
			}
			s.wantOrder(builds[0], builds)
		},
	},
	{
		"QueueTimeout",
		"The queue timeout is counted from NotBefore if that is later than the submit.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			b.QueueTimeout = 10 * time.Minute
			s.queued(b)
			s.pass(time.Hour + 9*time.Minute)
			s.maintain(s.rules())
			s.wantState(b, queue.Pending)
			s.pass(2 * time.Minute)
			if done := s.maintain(s.rules()); done.Expired != 1 {
				s.Errorf("Maintain expired %d builds, want 1", done.Expired)
			}
			s.wantState(b, queue.Expired)
		},
	},
	{
		"Canceled",
		"Cancel ends a scheduled build: its time does not bring it back.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			s.queued(b)
			s.cancel(b, queue.Canceled)
			if got := s.get(b); !got.NotBefore.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			s.pass(2 * time.Hour)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued a canceled build")
			}
			s.wantHead(b, 0)
		},
	},
	{
		"Limit",
		"Maintain queues at most rules.Limit builds whose time has come in one call, and says More.",
		func(s *subject) {
			builds := s.drafts(11)
			for i := range builds {
				builds[i] = s.at(builds[i], time.Hour)
			}
			s.submit(builds...)
			rules := s.rules()
			rules.Limit = 4
			s.maintain(rules)
			s.pass(time.Hour)
			if done := s.maintain(rules); done.Queued != len(builds) {
				s.Errorf("Maintain queued %d builds in steps of %d, want %d", done.Queued, rules.Limit, len(builds))
			}
			s.wantOrder(builds[0], builds)
		},
	},
}

// at schedules a build for a while after its submit, which takes place in a second.
func (s *subject) at(b queue.NewBuild, d time.Duration) queue.NewBuild {
	b.NotBefore = s.now.Add(time.Second + d)
	return b
}
