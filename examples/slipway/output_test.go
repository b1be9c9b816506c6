package main

import (
	"testing"

	"github.com/slipway-build/slipway/examples/internal/api"
)

func TestDescribe(t *testing.T) {
	for _, test := range []struct {
		build api.Build
		want  string
	}{
		{api.Build{State: "running"}, "running"},
		{api.Build{State: "succeeded", ExitCode: new(0)}, "succeeded"},
		{api.Build{State: "failed", ExitCode: new(3)}, "failed: exit code 3"},
		{api.Build{State: "failed", ExitCode: new(3), Reason: "exit code 3"}, "failed: exit code 3"},
		{api.Build{State: "failed", ExitCode: new(-1), Signal: "SIGSEGV"}, "failed: SIGSEGV"},
		{api.Build{State: "canceled", Reason: "\x1b[2Jnot\nneeded"}, "canceled: \ufffd[2Jnot\ufffdneeded"},
	} {
		if got := describe(test.build); got != test.want {
			t.Errorf("%+v is described as %q, want %q", test.build, got, test.want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 999_999: "1.0 MB", 999_949: "999.9 kB", 9_223_372_036_854_775_807: "9.2 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range []string{"0 files", "1 file", "2 files"} {
		if got := count(n, "file"); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got, want := oneLine("a\nb\r\n\x1b[31mc\n"), "a b [31mc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
