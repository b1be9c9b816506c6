package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readIn reads the settings of a command line with a config file.
func readIn(t *testing.T, env func(string) string, text string, args ...string) (*settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &settings{}
	return s, s.read(s.flags(), append([]string{"-config", path}, args...), env)
}

func TestWhichSettingPrevails(t *testing.T) {
	text := "# of all builders\n\n slots=2\nname = from-file\nurl = http://a\nurl = http://b,http://c\nkeep-workspace = true\r\n" +
		"reconnect-min = 2s\nlabel = disk=fast\n"
	s, err := readIn(t, noEnv("SLIPWAY_WORKER_NAME", "from-env", "SLIPWAY_WORKER_SLOTS", "3"), text, "-slots", "4")
	if err != nil {
		t.Fatal(err)
	}
	if s.agent.Slots != 4 || s.agent.Worker != "from-env" || !s.agent.KeepWorkspace || s.agent.ReconnectMin.String() != "2s" {
		t.Errorf("read %+v", s.agent)
	}
	if want := []string{"http://a", "http://b", "http://c"}; !slices.Equal(s.agent.URLs, want) || !slices.Equal(s.labels, []string{"disk=fast"}) {
		t.Errorf("read %v and %v", s.agent.URLs, s.labels)
	}
	s, err = readIn(t, noEnv("SLIPWAY_URL", "http://x"), text)
	if err != nil || !slices.Equal(s.agent.URLs, []string{"http://x"}) {
		t.Errorf("lists are mixed: %v, %v", s.agent.URLs, err)
	}
}

func TestWrongConfig(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown":    {"slots = 1\n\nslotz = 2\n", `agent.conf:3: there is no setting "slotz": did you mean slots?`},
		"misspelled": {"keyfile = x", `agent.conf:1: there is no setting "keyfile": did you mean key-file?`},
		"config":     {"config = x", "agent.conf:1: there is no setting"},
		"no value":   {"slots", "agent.conf:1: a line must have the form key = value"},
		"bad value":  {"slots = many", "agent.conf:1: slots: parse error"},
		"rule":       {"slots = 0", "agent.conf:1: slots must be at least 1"},
		"name":       {"name = A/B", "agent.conf:1: name must consist of"},
		"twice":      {"slots = 1\nslots = 1", "agent.conf:2: slots is set a second time"},
		"long":       {strings.Repeat("#", mostConfig+1), "is longer than 1048576 bytes"},
		"key file":   {"key-file = nowhere", "agent.conf:1: key-file: cannot read the credential"},
		"url":        {"url = ftp://x", "agent.conf:1: url: an address must begin with"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := readIn(t, noEnv(), tt.text)
			if err == nil {
				err = s.check(noEnv())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if code := exitCode(err); code != exitConfig {
				t.Errorf("exit code %d, want %d", code, exitConfig)
			}
		})
	}
	var stderr bytes.Buffer
	if code := run(nil, []string{"-config", "nowhere"}, noEnv(), &stderr, &stderr); code != exitConfig || !strings.HasPrefix(stderr.String(), "agent: -config: ") {
		t.Errorf("without the file it ends with %d and says %q", code, stderr.String())
	}
}

// TestVersionNeedsNothing has settings that no agent can use.
func TestVersionNeedsNothing(t *testing.T) {
	var stdout bytes.Buffer
	if code := run(nil, []string{"version"}, noEnv("SLIPWAY_WORKER_SLOTS", "many"), &stdout, &stdout); code != exitOK {
		t.Errorf("%d: %s", code, stdout.String())
	}
}
