package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

var update = flag.Bool("update", false, "rewrite testdata/frames.jsonl and testdata/log.hex")

var (
	build, _    = queue.ParseID("0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f")
	instance, _ = queue.ParseID("0198c2e1-03b2-7a51-8d0e-5a6f1b2c3d4e")
	digest, _   = queue.ParseDigest("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bd822cd15d6c15b0f00a0")
	ref         = wire.Ref{Build: build, Epoch: 3}
)

// frames holds one message of every type, every field set where the rules allow it.
var frames = []wire.Message{
	&wire.Hello{
		Worker: "mac-7", Instance: instance, Version: "0.1.0", OS: "darwin", Arch: "arm64", Slots: 4,
		Labels: queue.Labels{"xcode": "16.2"}, Draining: true,
		Running: []wire.Running{
			{Ref: ref, State: wire.StageRunning, LogLen: 81920},
			{Ref: wire.Ref{Build: instance, Epoch: 1}, State: wire.StageFinished, LogLen: 12, Exit: new(3)},
		},
	},
	&wire.Welcome{
		Session: "4711", Heartbeat: 10_000, IdleHeartbeat: 40_000, Lease: 30_000, KillTime: 10_000,
		Limits:     wire.SessionLimits{MaxMessage: 1 << 20, LogFrame: 64 << 10, LogWindow: 1 << 20, LogFlush: 200},
		ServerTime: time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC),
		Decisions:  []wire.Decision{{Ref: ref, Action: wire.ActionKeep, LogOffset: 65536}},
	},
	&wire.Offer{
		Ref: ref, Expires: 10_000, Project: "acme", Pool: "mac", Spec: []byte(`{"command":["make"]}`),
		Source: &wire.Source{URL: "/v1/worker/source/0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f", Size: 48213, SHA256: digest},
		Limits: wire.AttemptLimits{RunTimeout: 3_600_000, CancelGrace: 10_000, LogCap: 64 << 20},
	},
	&wire.Accept{Ref: ref, TokenHash: digest},
	&wire.Decline{Ref: ref, Reason: wire.DeclinePreflight, Message: "only 1 GiB of disk left"},
	&wire.Start{Ref: ref, Lease: 30_000, Secrets: wire.Secrets{"DEPLOY_KEY": "correct horse <battery>\n"}},
	&wire.StateReport{Ref: ref, Phase: wire.PhaseSource, Percent: new(40), Message: "unpacking"},
	&wire.Heartbeat{Seq: 17, Leases: []wire.Ref{ref}, Load: 3.25, FreeSlots: 3, Draining: true},
	&wire.HeartbeatOK{
		Seq: 17, Lease: 30_000, Kept: []wire.Ref{ref}, Lost: []wire.Ref{{Build: instance, Epoch: 1}},
		Cancel: []wire.Cancel{{Ref: ref, Reason: "superseded", Grace: 10_000}},
	},
	&wire.LogAck{Ref: ref, Offset: 131072, Window: 1 << 20},
	&wire.LogNack{Ref: ref, Expected: 65536},
	&wire.LogLimit{Ref: ref, Cap: 64 << 20},
	&wire.Cancel{Ref: ref, Reason: "superseded", Grace: 10_000},
	&wire.Cancelling{Ref: ref},
	&wire.Finished{
		Ref: ref, Outcome: wire.OutcomeFailed, ExitCode: new(2), Reason: "exit code 2", LogLen: 131099, LogSHA256: digest,
		Partial: true, PartialReason: "disk full", Artifacts: 1,
		Usage: wire.Usage{UserTime: 91_500, SystemTime: 7_250, MaxRSS: 734003200},
	},
	&wire.FinishedOK{Ref: ref},
	&wire.Drain{Reason: "maintenance", Deadline: 600_000},
	&wire.Pause{Reason: "on battery"},
	&wire.Resume{Reason: "on mains"},
	&wire.Error{
		Code: wire.CodeRateLimited, Re: wire.TypeState, Build: build, Epoch: 3, Message: "too many reports", RetryAfter: 5000,
	},
	&wire.Bye{Reason: "machine is shutting down"},
}

var logFrame = wire.LogFrame{Ref: ref, Offset: 65536, Data: []byte("ok  \tacme/engine\t0.412s\n")}

func TestEveryTypeHasAFrame(t *testing.T) {
	have := make(map[wire.Type]bool)
	for _, m := range frames {
		have[m.Type()] = true
		if m.Type().New() == nil {
			t.Errorf("%s: New returned nil", m.Type())
		}
	}
	// The golden file counts the table of the protocol.
	if got := slices.Sorted(maps.Keys(have)); len(got) != 21 {
		t.Errorf("frames for %d types, want 21: %v", len(got), got)
	}
}

func TestGoldenFrames(t *testing.T) {
	const name = "testdata/frames.jsonl"
	var got []byte
	for _, m := range frames {
		data, err := wire.Encode(m)
		if err != nil {
			t.Fatalf("Encode(%s): %v", m.Type(), err)
		}
		got = append(append(got, data...), '\n')
	}
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%d frames, %s has %d", len(gotLines), name, len(wantLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Errorf("frame %d\n got %s\nwant %s", i+1, gotLines[i], wantLines[i])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range frames {
		t.Run(string(want.Type()), func(t *testing.T) {
			data, err := wire.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestEveryFieldIsSet keeps the examples whole: a field that is added to a message must be in its frame.
func TestEveryFieldIsSet(t *testing.T) {
	for _, m := range frames {
		v := reflect.ValueOf(m).Elem()
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			// Signal and ExitCode exclude each other.
			if v.Field(i).IsZero() && field != "Signal" {
				t.Errorf("%s: field %s is not set in the example", m.Type(), field)
			}
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	for _, want := range frames {
		data, err := wire.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		more := bytes.Replace(data, []byte(`"d":{`), []byte(`"later":[1,{"x":null}],"must":true,"d":{"later":{"y":[true]}, `), 1)
		more = bytes.Replace(more, []byte(", }"), []byte("}"), 1)
		got, err := wire.Decode(more)
		if err != nil {
			t.Errorf("%s: %v", want.Type(), err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	for _, tt := range []struct {
		name, frame string
		want        wire.Message
		err         error
	}{
		{"ignored", `{"t":"snapshot","d":{"x":1}}`, &wire.Unknown{Name: "snapshot"}, nil},
		{"must be false", `{"t":"snapshot","must":false}`, &wire.Unknown{Name: "snapshot"}, nil},
		{"of another form", `{"t":"snapshot","d":[1,2]}`, &wire.Unknown{Name: "snapshot"}, nil},
		{"must", `{"t":"snapshot","must":true,"d":{}}`, nil, wire.ErrUnsupported},
		{"bad name", `{"t":"<script>","d":{}}`, nil, wire.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.Decode([]byte(tt.frame))
			if !errors.Is(err, tt.err) || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Decode = %+v, %v; want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
	if _, err := wire.Encode(&wire.Unknown{Name: "snapshot"}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("Encode(Unknown) = %v, want ErrMalformed", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const (
		id    = `"build":"0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f"`
		secrt = "canary-7f3a"
	)
	nested := strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth)
	for _, tt := range []struct {
		name, frame string
		kind        error
		text        string // a part of the error
	}{
		{"empty", ``, wire.ErrMalformed, "JSON object"},
		{"not an object", `"canary-7f3a"`, wire.ErrMalformed, "JSON object"},
		{"syntax", `{"t":"bye","d":{canary-7f3a}}`, wire.ErrMalformed, "valid JSON"},
		{"cut off", `{"t":"bye","d":{`, wire.ErrMalformed, "valid JSON"},
		{"two values", `{"t":"bye"}{"t":"bye"}`, wire.ErrMalformed, "single"},
		{"not UTF-8", "{\"t\":\"bye\",\"d\":{\"reason\":\"\xff\"}}", wire.ErrMalformed, "UTF-8"},
		{"no type", `{"d":{}}`, wire.ErrMalformed, `"t"`},
		{"type of another kind", `{"t":7}`, wire.ErrMalformed, "t: is of the wrong JSON type"},
		{"null for the body", `{"t":"bye","d":null}`, wire.ErrMalformed, `"d" must be an object`},
		{"list for the body", `{"t":"bye","d":[]}`, wire.ErrMalformed, `"d" must be an object`},
		{"field twice", `{"t":"start","d":{` + id + `,"epoch":1,"epoch":2,"lease":1}}`, wire.ErrMalformed, "twice"},
		{"field twice by case", `{"t":"start","d":{` + id + `,"epoch":1,"EPOCH":2,"lease":1}}`, wire.ErrMalformed, "twice"},
		{"field twice by folding", `{"t":"start","d":{"lease":1,"lea\u017fe":2}}`, wire.ErrMalformed, "twice"},
		{"field twice by escape", `{"t":"bye","d":{},"\u0064":{}}`, wire.ErrMalformed, "twice"},
		{"unknown field twice", `{"t":"bye","x":{"y":1,"y":1}}`, wire.ErrMalformed, "twice"},
		{"too deep", `{"t":"bye","d":{"x":` + nested + `}}`, wire.ErrTooLarge, "nest"},
		{"long list", `{"t":"bye","d":{"x":[0` + strings.Repeat(",0", wire.MaxList) + `]}}`, wire.ErrTooLarge, "elements"},
		{"too long", `{"t":"bye","d":{"x":"` + strings.Repeat("x", wire.MaxMessage) + `"}}`, wire.ErrTooLarge, "1 MiB"},
		{"no build", `{"t":"cancelling","d":{"epoch":1}}`, wire.ErrMalformed, "cancelling: build: must be a UUID"},
		{"null build", `{"t":"cancelling","d":{"build":null,"epoch":1}}`, wire.ErrMalformed, "build"},
		{"bad build", `{"t":"cancelling","d":{"build":"canary-7f3a","epoch":1}}`, wire.ErrMalformed, "id must be a UUID"},
		{"other UUID version", `{"t":"cancelling","d":{"build":"0198c2f0-7d4e-4cc3-98c4-dc0c0c07398f","epoch":1}}`, wire.ErrMalformed, "UUID"},
		{"no epoch", `{"t":"cancelling","d":{` + id + `}}`, wire.ErrMalformed, "epoch: must be from 1"},
		{"epoch zero", `{"t":"cancelling","d":{` + id + `,"epoch":0}}`, wire.ErrMalformed, "epoch"},
		{"epoch negative", `{"t":"cancelling","d":{` + id + `,"epoch":-1}}`, wire.ErrMalformed, "epoch"},
		{"epoch above 32 bits", `{"t":"cancelling","d":{` + id + `,"epoch":4294967296}}`, wire.ErrMalformed, "epoch"},
		{"epoch above 64 bits", `{"t":"cancelling","d":{` + id + `,"epoch":98765432109876543210}}`, wire.ErrMalformed, "epoch"},
		{"epoch with exponent", `{"t":"cancelling","d":{` + id + `,"epoch":1e0}}`, wire.ErrMalformed, "epoch"},
		{"epoch as text", `{"t":"cancelling","d":{` + id + `,"epoch":"canary-7f3a"}}`, wire.ErrMalformed, "epoch"},
		{"negative duration", `{"t":"cancel","d":{` + id + `,"epoch":1,"grace":-1}}`, wire.ErrMalformed, "grace"},
		{"endless duration", `{"t":"cancel","d":{` + id + `,"epoch":1,"grace":9223372036854775807}}`, wire.ErrMalformed, "grace"},
		{"no lease", `{"t":"start","d":{` + id + `,"epoch":1}}`, wire.ErrMalformed, "lease"},
		{"bad digest", `{"t":"accept","d":{` + id + `,"epoch":1,"token_hash":"canary-7f3a"}}`, wire.ErrMalformed, "digest"},
		{"no digest", `{"t":"accept","d":{` + id + `,"epoch":1}}`, wire.ErrMalformed, "token_hash"},
		{"bad base64", `{"t":"offer","d":{"spec":"canary-7f3a!"}}`, wire.ErrMalformed, "base64"},
		{"bad time", `{"t":"welcome","d":{"server_time":"canary-7f3a"}}`, wire.ErrMalformed, "RFC 3339"},
		{"long text", `{"t":"bye","d":{"reason":"` + strings.Repeat("x", wire.MaxText+1) + `"}}`, wire.ErrTooLarge, "bye: a text"},
		{"unknown reason", `{"t":"decline","d":{` + id + `,"epoch":1,"reason":"canary-7f3a"}}`, wire.ErrMalformed, "reason: must be one of"},
		{"unknown code", `{"t":"error","d":{"code":"canary-7f3a"}}`, wire.ErrMalformed, "code: must be one of"},
		{"half a reference", `{"t":"error","d":{"code":"internal","epoch":1}}`, wire.ErrMalformed, "build"},
		{
			"element of a list", `{"t":"heartbeat","d":{"seq":1,"leases":[{` + id + `,"epoch":1},{` + id + `,"epoch":0}]}}`,
			wire.ErrMalformed, "heartbeat: leases[1].epoch: must be",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := wire.Decode([]byte(tt.frame))
			if m != nil || !errors.Is(err, tt.kind) {
				t.Fatalf("Decode = %+v, %v; want an error that is %q", m, err, tt.kind)
			}
			if _, ok := errors.AsType[*wire.FormatError](err); !ok {
				t.Errorf("%T is not a *FormatError", err)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not say %q", err, tt.text)
			}
			if strings.Contains(err.Error(), secrt) || strings.Contains(err.Error(), "98765432109876543210") {
				t.Errorf("error %q repeats the input", err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	list := make([]wire.Ref, wire.MaxList+1)
	for i := range list {
		list[i] = ref
	}
	good := *frames[2].(*wire.Offer)
	offer := func(change func(*wire.Offer)) *wire.Offer {
		m := good
		m.Source = new(*good.Source)
		change(&m)
		return &m
	}
	hello := func(change func(*wire.Hello)) *wire.Hello {
		m := *frames[0].(*wire.Hello)
		m.Running = slices.Clone(m.Running)
		change(&m)
		return &m
	}
	welcome := func(change func(*wire.Welcome)) *wire.Welcome {
		m := *frames[1].(*wire.Welcome)
		change(&m)
		return &m
	}
	finished := func(change func(*wire.Finished)) *wire.Finished {
		m := *frames[14].(*wire.Finished)
		change(&m)
		return &m
	}
	for field, m := range map[string]wire.Message{
		"worker":              hello(func(m *wire.Hello) { m.Worker = "../etc" }),
		"instance":            hello(func(m *wire.Hello) { m.Instance = queue.ID{} }),
		"version":             hello(func(m *wire.Hello) { m.Version = "" }),
		"os":                  hello(func(m *wire.Hello) { m.OS = "li\x1bnux" }),
		"arch":                hello(func(m *wire.Hello) { m.Arch = strings.Repeat("x", wire.MaxToken+1) }),
		"slots":               hello(func(m *wire.Hello) { m.Slots = wire.MaxSlots + 1 }),
		"labels":              hello(func(m *wire.Hello) { m.Labels = queue.Labels{"OS": "x"} }),
		"running[0].state":    hello(func(m *wire.Hello) { m.Running[0].State = "" }),
		"running[0].exit":     hello(func(m *wire.Hello) { m.Running[0].Exit = new(0) }),
		"running[1].log_len":  hello(func(m *wire.Hello) { m.Running[1].LogLen = -1 }),
		"session":             welcome(func(m *wire.Welcome) { m.Session = "" }),
		"heartbeat":           welcome(func(m *wire.Welcome) { m.Heartbeat = 0 }),
		"lease":               welcome(func(m *wire.Welcome) { m.Lease = m.Heartbeat }),
		"kill_time":           welcome(func(m *wire.Welcome) { m.KillTime = 0 }),
		"limits.max_message":  welcome(func(m *wire.Welcome) { m.Limits.MaxMessage = 1 }),
		"limits.log_frame":    welcome(func(m *wire.Welcome) { m.Limits.LogFrame = wire.MaxLogData + 1 }),
		"limits.log_window":   welcome(func(m *wire.Welcome) { m.Limits.LogWindow = 1 }),
		"server_time":         welcome(func(m *wire.Welcome) { m.ServerTime = m.ServerTime.In(time.FixedZone("", 3600)) }),
		"decisions[0].action": welcome(func(m *wire.Welcome) { m.Decisions = []wire.Decision{{Ref: ref}} }),
		"expires":             offer(func(m *wire.Offer) { m.Expires = 0 }),
		"project":             offer(func(m *wire.Offer) { m.Project = "" }),
		"pool":                offer(func(m *wire.Offer) { m.Pool = "a b" }),
		"spec":                offer(func(m *wire.Offer) { m.Spec = make([]byte, queue.MaxSpec+1) }),
		"source.url":          offer(func(m *wire.Offer) { m.Source.URL = "//evil.example/x" }),
		"source.size":         offer(func(m *wire.Offer) { m.Source.Size = -1 }),
		"source.sha256":       offer(func(m *wire.Offer) { m.Source.SHA256 = queue.Digest{} }),
		"limits.run_timeout":  offer(func(m *wire.Offer) { m.Limits.RunTimeout = 0 }),
		"limits.cancel_grace": offer(func(m *wire.Offer) { m.Limits.CancelGrace = -1 }),
		"limits.log_cap":      offer(func(m *wire.Offer) { m.Limits.LogCap = -1 }),
		"outcome":             finished(func(m *wire.Finished) { m.Outcome = "expired" }),
		"exit_code":           finished(func(m *wire.Finished) { m.ExitCode = new(math.MaxInt32 + 1) }),
		"signal":              finished(func(m *wire.Finished) { m.Signal = "SIGKILL" }),
		"log_len":             finished(func(m *wire.Finished) { m.LogLen = -1 }),
		"log_sha256":          finished(func(m *wire.Finished) { m.LogSHA256 = queue.Digest{} }),
		"partial_reason":      finished(func(m *wire.Finished) { m.PartialReason = "" }),
		"artifacts":           finished(func(m *wire.Finished) { m.Artifacts = -1 }),
		"usage.user_time":     finished(func(m *wire.Finished) { m.Usage.UserTime = math.MaxInt64 }),
		"usage.max_rss":       finished(func(m *wire.Finished) { m.Usage.MaxRSS = -1 }),
		"phase":               &wire.StateReport{Ref: ref},
		"percent":             &wire.StateReport{Ref: ref, Phase: wire.PhaseRunning, Percent: new(101)},
		"seq":                 &wire.Heartbeat{},
		"leases":              &wire.Heartbeat{Seq: 1, Leases: list},
		"load":                &wire.Heartbeat{Seq: 1, Load: math.NaN()},
		"free_slots":          &wire.Heartbeat{Seq: 1, FreeSlots: -1},
		"cancel[0].epoch":     &wire.HeartbeatOK{Seq: 1, Lease: 1, Cancel: []wire.Cancel{{Ref: wire.Ref{Build: build}}}},
		"offset":              &wire.LogAck{Ref: ref, Offset: -1},
		"window":              &wire.LogAck{Ref: ref, Window: -1},
		"expected":            &wire.LogNack{Ref: ref, Expected: -1},
		"cap":                 &wire.LogLimit{Ref: ref, Cap: -1},
		"deadline":            &wire.Drain{Deadline: -1},
		"re":                  &wire.Error{Code: wire.CodeInternal, Re: "A b"},
		"retry_after":         &wire.Error{Code: wire.CodeInternal, RetryAfter: -1},
	} {
		data, err := wire.Encode(m)
		e, ok := errors.AsType[*wire.FormatError](err)
		if !ok {
			t.Errorf("%s: Encode = %s, %v; want an error", field, data, err)
		} else if e.Field != field || e.Type != m.Type() {
			t.Errorf("%s: error is %v", field, err)
		}
	}
}

func TestSourceURLStaysOnItsHost(t *testing.T) {
	for url, ok := range map[string]bool{
		"/v1/source/x":                          true,
		"/v1/source/x?part=1":                   true,
		"/v1/a..b":                              true,
		"":                                      false,
		"v1/source":                             false,
		"https://evil.example/":                 false,
		"//evil.example/":                       false,
		`/\evil.example/`:                       false,
		"/v1/../admin":                          false,
		"/v1/x#y":                               false,
		"/v1/x y":                               false,
		"/v1/\x00":                              false,
		"/v1/é":                                 false,
		"/" + strings.Repeat("x", wire.MaxPath): false,
	} {
		m := *frames[2].(*wire.Offer)
		m.Source = &wire.Source{URL: url, SHA256: digest}
		if _, err := wire.Encode(&m); (err == nil) != ok {
			t.Errorf("%q: %v, want ok = %t", url, err, ok)
		}
	}
}

func TestTextIsMadeToFit(t *testing.T) {
	long := strings.Repeat("é", wire.MaxText)
	for in, want := range map[wire.Text]wire.Text{
		"plain\tand\nsimple":         "plain\tand\nsimple",
		"\x1b[31mred\x00\r":          "\uFFFD[31mred\uFFFD\uFFFD",
		"\xff\xfe":                   "\uFFFD\uFFFD",
		wire.Text(long):              wire.Text(long[:wire.MaxText]),
		"x" + wire.Text(long):        "x" + wire.Text(long[:wire.MaxText-2]),
		"\u0085 is a control too":    "\uFFFD is a control too",
		"<b> & other markup is kept": "<b> & other markup is kept",
	} {
		data, err := wire.Encode(&wire.Bye{Reason: in})
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		m, err := wire.Decode(data)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if got := m.(*wire.Bye).Reason; got != want {
			t.Errorf("%q arrived as %q, want %q", in, got, want)
		}
	}
	// A peer that does not clean its texts cannot reach a terminal either.
	m, err := wire.Decode([]byte(`{"t":"bye","d":{"reason":"\u001b]8;;"}}`))
	if err != nil || m.(*wire.Bye).Reason != "\uFFFD]8;;" {
		t.Errorf("Decode = %+v, %v", m, err)
	}
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]wire.Millis{
		0: 0, 1: 1, time.Millisecond: 1, 1999 * time.Microsecond: 1, 10 * time.Second: 10_000, -time.Second: -1000,
	} {
		if got := wire.MillisOf(d); got != want {
			t.Errorf("MillisOf(%v) = %d, want %d", d, got, want)
		}
	}
	if got := wire.Millis(1500).Duration(); got != 1500*time.Millisecond {
		t.Errorf("Duration = %v", got)
	}
}

func TestRefIsAnAttemptID(t *testing.T) {
	if id := queue.AttemptID(ref); id.Build != ref.Build || id.Epoch != ref.Epoch || wire.Ref(id) != ref {
		t.Errorf("converted to %v", id)
	}
}

func TestOutcomesAreStates(t *testing.T) {
	for _, o := range []wire.Outcome{
		wire.OutcomeSucceeded, wire.OutcomeFailed, wire.OutcomeCanceled, wire.OutcomeTimedOut, wire.OutcomeLost,
	} {
		if s, err := queue.ParseState(string(o)); err != nil || !s.Terminal() {
			t.Errorf("%s: %v, %v; want a terminal state", o, s, err)
		}
	}
}

func TestDefaultsKeepTheInequality(t *testing.T) {
	if wire.DefaultGrace <= wire.DefaultLease+wire.DefaultKillTime {
		t.Error("an old process may live when a new one starts")
	}
	if wire.DefaultLease <= wire.DefaultHeartbeat*12/10 || wire.DefaultReadTimeout <= wire.DefaultHeartbeat*12/10 {
		t.Error("one late heartbeat ends a lease or a connection")
	}
}

func TestCloseCodes(t *testing.T) {
	for code, want := range map[wire.CloseCode]wire.Retry{
		1000: wire.RetryBackoff, 1001: wire.RetrySoon, 1002: wire.RetrySlow, 1009: wire.RetrySlow, 1011: wire.RetryBackoff,
		1013: wire.RetrySlow, 4401: wire.RetryNever, 4403: wire.RetrySlow, 4408: wire.RetryBackoff, 4409: wire.RetryBackoff,
		4426: wire.RetryNever, 4429: wire.RetrySlow,
	} {
		if got := code.Retry(); got != want {
			t.Errorf("%d %v: retry %v, want %v", code, code, got, want)
		}
		if code.String() == "unknown" {
			t.Errorf("%d has no text", code)
		}
	}
	if got := wire.CloseCode(4999).Retry(); got != wire.RetryBackoff {
		t.Errorf("a code that is not listed: retry %v, want backoff", got)
	}
}

func FuzzDecode(f *testing.F) {
	golden, err := os.ReadFile("testdata/frames.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(golden) {
		f.Add(bytes.TrimSpace(line))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := wire.Decode(data)
		if err != nil {
			if _, ok := errors.AsType[*wire.FormatError](err); !ok || m != nil {
				t.Fatalf("Decode = %v, %T %v", m, err, err)
			}
			return
		}
		if _, ok := m.(*wire.Unknown); ok {
			return
		}
		first, err := wire.Encode(m)
		if errors.Is(err, wire.ErrTooLarge) {
			return // escapes make it longer than it came
		}
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		again, err := wire.Decode(first)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, first)
		}
		if second, err := wire.Encode(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable: %v\n%s\n%s", err, first, second)
		}
	})
}

func TestFramesAreOneJSONObject(t *testing.T) {
	for _, m := range frames {
		data, err := wire.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		var envelope map[string]json.RawMessage
		if err := json.Unmarshal(data, &envelope); err != nil || len(envelope) != 2 || envelope["t"] == nil || envelope["d"] == nil {
			t.Errorf("%s: envelope %s, %v", m.Type(), data, err)
		}
	}
}
