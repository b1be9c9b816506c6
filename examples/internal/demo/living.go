package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// living names the processes of the demo that are there, apart from the demo itself: those that carry its mark, run one of its
// programs, or work in its directory.
func (d *demo) living(ctx context.Context) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil || len(entries) == 0 {
		return d.livingByPS(ctx)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !d.owns(pid) {
			continue
		}
		found = append(found, fmt.Sprintf("%d %s", pid, commandLine(pid)))
	}
	return found
}

// owns reports whether a process is one of the demo's. What cannot be read belongs to somebody else, or has ended.
func (d *demo) owns(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if zombie(pid) {
		return false
	}
	if env, err := os.ReadFile(filepath.Join(proc, "environ")); err == nil && bytes.Contains(env, []byte(d.mark)) {
		return true
	}
	for _, link := range []string{"exe", "cwd"} {
		target, err := os.Readlink(filepath.Join(proc, link))
		if err == nil && strings.HasPrefix(target, d.dir+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// livingByPS does it where there is no /proc: by the paths in command lines.
func (d *demo) livingByPS(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return []string{"ps: " + err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, d.dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// alive reports whether there is a process of that id that has not ended.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	return !zombie(pid)
}

// zombie reports whether a process has ended and only waits for its parent to notice.
func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	// The state follows the program's name, which is in parentheses and may hold any character.
	_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	return ok && (strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X"))
}

func commandLine(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")) // for people; it may be gone
	return strings.TrimSpace(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
}
