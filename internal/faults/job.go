package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// jobArgument makes this program a build.
const jobArgument = "job"

// The files by which a build and its cell speak with each other, in a directory of the cell.
const (
	gateFile  = "gate" // lets the build end
	wroteName = ".wrote"
	aliveName = ".alive" // has the times at which the attempt was alive
	toldName  = ".told"  // has the time at which the attempt was told to end
	endedName = ".ended" // is there if the attempt has written all that it wanted
)

// How a build lives.
const (
	jobLine     = 5 * time.Millisecond
	jobLimit    = 3 * time.Minute
	jobLinger   = 1500 * time.Millisecond // after SIGTERM
	jobArtifact = 4 << 20
)

// job writes lines until the gate is open, or for a while after it was told to end.
func job(dir string) int {
	epoch := os.Getenv("SLIPWAY_EPOCH")
	wrote, err := os.OpenFile(filepath.Join(dir, epoch+wroteName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	alive, err := os.OpenFile(filepath.Join(dir, epoch+aliveName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	go func() { // whether or not anybody takes its output
		for {
			fmt.Fprintln(alive, time.Now().UnixNano())
			time.Sleep(50 * time.Millisecond)
		}
	}()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	begun := time.Now()
	var stop time.Time
	for i := 0; ; i++ {
		line := fmt.Sprintf("epoch %s line %06d 0123456789abcdefghijklmnopqrstuvwxyz\n", epoch, i)
		// What is stored is the beginning of the file, at whatever moment the process is killed.
		if _, err := wrote.WriteString(line); err != nil {
			return 2
		}
		if _, err := os.Stdout.WriteString(line); err != nil {
			return 2
		}
		_, gate := os.Stat(filepath.Join(dir, gateFile))
		switch {
		case !stop.IsZero() && time.Now().After(stop):
			return end(dir, epoch, 143)
		case gate == nil && stop.IsZero():
			return end(dir, epoch, 0)
		case time.Since(begun) > jobLimit:
			return 3
		}
		select {
		case <-told:
			name := filepath.Join(dir, epoch+toldName)
			if err := os.WriteFile(name, fmt.Appendln(nil, time.Now().UnixNano()), 0o600); err != nil {
				return 2
			}
			stop = time.Now().Add(jobLinger)
		case <-time.After(jobLine):
		}
	}
}

// end leaves an artifact and says that nothing more is written.
func end(dir, epoch string, code int) int {
	if err := os.WriteFile("artifact", make([]byte, jobArtifact), 0o600); err != nil {
		return 2
	}
	if err := os.WriteFile(filepath.Join(dir, epoch+endedName), nil, 0o600); err != nil {
		return 2
	}
	return code
}
