package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/slipway-build/slipway/examples/internal/api"
)

// notice tells people something on standard error.
func (in *invocation) notice(format string, args ...any) {
	if !in.quiet {
		fmt.Fprintln(in.stderr, "slipway: "+oneLine(fmt.Sprintf(format, args...)))
	}
}

// document prints v as one JSON document.
func (in *invocation) document(v any) error {
	e := json.NewEncoder(in.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// visible replaces what would move a terminal's cursor or hide text.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// describe says how a build stands: "failed: exit code 3".
func describe(b api.Build) string {
	end := ""
	switch {
	case b.Signal != "":
		end = visible(b.Signal)
	case b.ExitCode != nil && *b.ExitCode != 0:
		end = fmt.Sprintf("exit code %d", *b.ExitCode)
	}
	text := b.State
	if end != "" && !strings.Contains(b.Reason, end) {
		text += ": " + end
	}
	if b.Reason != "" {
		text += ": " + visible(b.Reason)
	}
	return text
}

// took is how long the newest attempt ran.
func took(b api.Build) string {
	if b.StartedAt == nil || b.FinishedAt == nil {
		return ""
	}
	return fmt.Sprintf(" after %s on %s", b.FinishedAt.Sub(*b.StartedAt).Round(time.Millisecond), visible(b.Worker))
}

// size writes a number of bytes for people.
func size(n int64) string {
	value, units := float64(n), "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	for value /= 1000; value >= 999.95; value /= 1000 {
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, units[0])
}

// count writes how many there are of what has a regular plural: "1 file", "2 files".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// A progress shows on a terminal how far a transfer is. On anything else it shows nothing.
type progress struct {
	w     io.Writer // nil shows nothing
	what  string
	total int64
	done  int64
	shown time.Time
}

func (in *invocation) progress(what string, total int64) *progress {
	p := &progress{what: what, total: total}
	if !in.quiet && !in.json && isTerminal(in.stderr) {
		p.w = in.stderr
	}
	return p
}

// Write counts what passes by.
func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	const often = 100 * time.Millisecond
	if p.w != nil && time.Since(p.shown) >= often {
		p.shown = time.Now()
		fmt.Fprintf(p.w, "\r\x1b[K%s: %s of %s", p.what, size(p.done), size(p.total))
	}
	return len(b), nil
}

// end removes the display.
func (p *progress) end() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
