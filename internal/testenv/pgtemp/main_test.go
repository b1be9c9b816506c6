package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestRun(t *testing.T) {
	tests := map[string]struct {
		args []string
		want int
	}{
		"success":        {[]string{"--", "true"}, 0},
		"exit code":      {[]string{"-fsync", "--", "sh", "-c", "exit 7"}, 7},
		"killed":         {[]string{"--", "sh", "-c", "kill -TERM $$"}, 128 + int(syscall.SIGTERM)},
		"no such":        {[]string{"--", "/no/such/program"}, exitOwn},
		"no command":     {nil, exitUsage},
		"unknown flag":   {[]string{"-nope"}, exitUsage},
		"asked for help": {[]string{"-h"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if got := run(t.Context(), tt.args, strings.NewReader(""), &out, &errs); got != tt.want {
				t.Errorf("exit code = %d, want %d; stderr: %s", got, tt.want, errs.String())
			}
		})
	}
}

// urlSink connects to the URL it is given on its first write, while the server
// still runs: a command has not ended until its output is consumed.
type urlSink struct {
	ctx context.Context
	got bytes.Buffer
	err error
}

func (s *urlSink) Write(p []byte) (int, error) {
	if s.got.Len() == 0 {
		conn, err := pgx.Connect(s.ctx, strings.TrimSpace(string(p)))
		if err == nil {
			err = conn.Close(s.ctx)
		}
		s.err = err
	}
	return s.got.Write(p)
}

func TestCommandFindsServer(t *testing.T) {
	sink := &urlSink{ctx: t.Context()}
	var errs bytes.Buffer
	args := []string{"--", "sh", "-c", "echo $SLIPWAY_TEST_DATABASE_URL"}
	if code := run(t.Context(), args, strings.NewReader(""), sink, &errs); code != 0 {
		t.Fatalf("exit code = %d; stderr: %s", code, errs.String())
	}
	if sink.err != nil {
		t.Errorf("connect to the URL the command was given: %v", sink.err)
	}
	if _, err := pgx.Connect(t.Context(), strings.TrimSpace(sink.got.String())); err == nil {
		t.Error("the server answers after the command has ended")
	}
}

func TestSignalsReachCommand(t *testing.T) {
	signals := make(chan os.Signal, 1)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		signals <- syscall.SIGTERM
		return len(p), nil
	})
	code, err := execute(cmd, signals)
	if err != nil || code != 9 {
		t.Errorf("execute = %d, %v; want the trap's exit code 9", code, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
