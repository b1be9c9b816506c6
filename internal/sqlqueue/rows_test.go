package sqlqueue

import (
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Every column of a row is read into the field of its name, and no field is forgotten.
func TestRowsTellAll(t *testing.T) {
	id, other := queue.NewID(), queue.NewID()
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	row := buildRow{
		ID: idColumn(id), Project: "project", Pool: "pool", Labels: "os=linux", State: Failed, Spec: []byte("spec"),
		SourceDigest: digestColumn{1}, SourceSize: new(int64(2)), Epoch: 3, AttemptsUsed: 4, MaxAttempts: 5, RunTimeout: 6, QueueTimeout: new(int64(7)),
		BackoffBase: 8, BackoffMax: 9, RetryFailed: true, Priority: 10, LimitKey: "limit", IdemKey: new("idem"), Metadata: new(`{"a":"b"}`),
		RetryOf: idColumn(other), CreatedAt: timeColumn(at(1)), NotBefore: timeColumn(at(2)), Worker: "worker", StartedAt: timeColumn(at(3)),
		FinishedAt: timeColumn(at(4)), Reason: "reason", ExitCode: new(11), Signal: "signal",
	}
	want := queue.Build{
		ID: id, Project: "project", Pool: "pool", Labels: queue.Labels{"os": "linux"}, State: queue.Failed, Spec: []byte("spec"),
		Source: &queue.Source{Digest: queue.Digest{1}, Size: 2}, Epoch: 3, AttemptsUsed: 4, MaxAttempts: 5, Worker: "worker",
		RunTimeout: 6 * time.Microsecond, QueueTimeout: 7 * time.Microsecond,
		Backoff: queue.Backoff{Base: 8 * time.Microsecond, Max: 9 * time.Microsecond}, RetryFailed: true, Priority: 10,
		ConcurrencyKey: "limit", IdempotencyKey: "idem", Metadata: map[string]string{"a": "b"}, RetryOf: other,
		CreatedAt: at(1), NotBefore: at(2), StartedAt: at(3), FinishedAt: at(4), Reason: "reason", ExitCode: new(11), Signal: "signal",
	}
	got, err := row.build()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the build is\n%+v, %v, want\n%+v", got, err, want)
	}
	for _, v := range []any{row, want} {
		for field, value := range reflect.ValueOf(v).Fields() {
			if value.IsZero() && field.Name != "BaseModel" {
				t.Errorf("%s of %T has no value in this test", field.Name, v)
			}
		}
	}
	attempt := attemptRow{
		BuildID: idColumn(id), Epoch: 1, Worker: "worker", StartedAt: timeColumn(at(1)), EndedAt: timeColumn(at(2)), Outcome: Lost,
		Reason: "reason", ExitCode: new(2), Signal: "signal", LogSHA256: digestColumn{3}, LogComplete: true, LogLength: 4, LogCut: true,
	}
	wantAttempt := queue.Attempt{
		AttemptID: queue.AttemptID{Build: id, Epoch: 1}, Worker: "worker", StartedAt: at(1), EndedAt: at(2), Outcome: queue.Lost,
		Reason: "reason", ExitCode: new(2), Signal: "signal", LogLength: 4, LogSHA256: queue.Digest{3}, LogComplete: true, LogCut: true,
	}
	if got := attempt.attempt(); !reflect.DeepEqual(got, wantAttempt) {
		t.Errorf("the attempt is\n%+v, want\n%+v", got, wantAttempt)
	}
}

func TestRowsOfLittle(t *testing.T) {
	row := buildRow{State: Held}
	got, err := row.build()
	if err != nil || got.Source != nil || got.Metadata != nil || got.IdempotencyKey != "" || got.QueueTimeout != 0 || !got.RetryOf.IsZero() {
		t.Errorf("the build is %+v, %v", got, err)
	}
	if !maps.Equal(got.Labels, queue.Labels{}) || got.State != queue.Pending {
		t.Errorf("the build is %+v", got)
	}
	for _, spoiled := range []buildRow{{Labels: "no label"}, {Metadata: new("no object")}} {
		if got, err := spoiled.build(); err == nil {
			t.Errorf("the build is %+v", got)
		}
	}
}

func TestDaysAreReadInBothDialects(t *testing.T) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, src := range []any{day.Unix() / secondsPerDay, day, day.In(time.FixedZone("", 3600))} {
		var c dayColumn
		if err := c.Scan(src); err != nil || time.Time(c) != day {
			t.Errorf("%v is read as %v, %v", src, time.Time(c), err)
		}
	}
	for _, src := range []any{nil, "2026-03-01", 1.5} {
		if err := new(dayColumn).Scan(src); err == nil {
			t.Errorf("%T is read", src)
		}
	}
}
