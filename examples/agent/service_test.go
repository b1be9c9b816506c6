package main

import (
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"
)

// accepts reads the arguments of a command as the program does, without running it.
func accepts(t *testing.T, args []string) {
	t.Helper()
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		t.Fatalf("there is no command %q", args[0])
	}
	s := &settings{}
	f := s.flags()
	if all[i].flags != nil {
		all[i].flags(&invocation{}, f)
	}
	if err := f.Parse(args[1:]); err != nil || f.NArg() > 0 || s.agent.Dir == "" {
		t.Errorf("%q: %v", args, err)
	}
}

// TestUnit has the program take what systemd is to start.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("slipway-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	started := 0
	for line := range strings.Lines(string(text)) {
		if _, args, ok := strings.Cut(strings.TrimSpace(line), "/usr/local/bin/agent "); ok {
			started++
			accepts(t, strings.Fields(args))
		}
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "=SLIPWAY_"); ok && !strings.HasPrefix(value, strings.TrimPrefix(variables["config"], "SLIPWAY_")+"=") {
			t.Errorf("%s sets SLIPWAY_%s", key, value)
		}
	}
	if started != 2 {
		t.Errorf("%d lines start the agent, want 2", started)
	}
	for _, line := range []string{"Type=notify", "NotifyAccess=main", "WatchdogSec=", "KillMode=mixed", "TimeoutStopSec="} {
		if !strings.Contains(string(text), "\n"+line) {
			t.Errorf("there is no %s", line)
		}
	}
}

// TestPlist has the program take what launchd is to start.
func TestPlist(t *testing.T) {
	text, err := os.ReadFile("build.slipway.agent.plist")
	if err != nil {
		t.Fatal(err)
	}
	var plist struct {
		Args []string `xml:"dict>array>string"`
	}
	if err := xml.Unmarshal(text, &plist); err != nil {
		t.Fatal(err)
	}
	if len(plist.Args) < 2 || plist.Args[0] != "/usr/local/bin/agent" {
		t.Fatalf("it starts %q", plist.Args)
	}
	accepts(t, plist.Args[1:])
}
