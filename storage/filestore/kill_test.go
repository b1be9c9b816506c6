package filestore_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

const (
	victimDir     = "FILESTORE_TEST_DIR"
	victimProject = "FILESTORE_TEST_PROJECT"
)

// victim puts blobs until it is killed. It tells its progress on stdout: a dot
// for each piece that was read, a line feed for each Put that succeeded.
func victim(dir, project string) int {
	b, err := filestore.New(dir, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := storage.New(b, nil)
	for i := 0; ; i++ {
		data := victimData(project, i)
		r := &dotted{r: bytes.NewReader(data)}
		if err := s.Put(context.Background(), project, describe(data), r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println()
	}
}

func victimData(project string, i int) []byte {
	seed := describe(fmt.Append(nil, project, i)).Digest
	data := make([]byte, int(seed[0])<<(seed[1]%10))
	_, _ = rand.NewChaCha8(seed).Read(data)
	return data
}

type dotted struct{ r io.Reader }

func (d *dotted) Read(p []byte) (int, error) {
	fmt.Print(".")
	return d.r.Read(p[:min(len(p), 8<<10)])
}

// A process is killed at random points of its Puts. What it had reported must
// be there, and all that is there must be whole.
func TestKill(t *testing.T) {
	const kills = 50
	dir := t.TempDir()
	acknowledged := 0
	for round := range kills {
		project := fmt.Sprintf("round%d", round)
		n := rand.IntN(200)
		puts := kill(t, dir, project, n)
		acknowledged += puts
		s := storage.New(open(t, dir), nil)
		for i := range puts {
			if _, err := s.Stat(t.Context(), project, describe(victimData(project, i)).Digest); err != nil {
				t.Errorf("round %d, killed after %d steps: blob %d of %d: %v", round, n, i, puts, err)
			}
		}
		for info, err := range s.List(t.Context(), project) {
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(t.Context(), project, info.Key.Digest(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			// The reader of a whole blob verifies it.
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("round %d, killed after %d steps: %v", round, n, err)
			}
			_ = r.Close()
		}
	}
	if acknowledged == 0 {
		t.Error("no Put succeeded before the kill, so nothing was tested")
	}

	// A day later the remains go, and only blobs are left.
	remains, err := filepath.Glob(filepath.Join(dir, "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range remains {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d Puts succeeded, %d temporary files were left", acknowledged, len(remains))
	open(t, dir)
	checkTree(t, dir)
}

// kill starts a victim, kills it when it has told n steps and returns the number
// of Puts it reported.
func kill(t *testing.T, dir, project string, n int) (puts int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir, victimProject+"="+project)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	steps := bufio.NewReader(stdout)
	for i := 0; ; i++ {
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		step, err := steps.ReadByte()
		if err != nil {
			break
		}
		if step == '\n' {
			puts++
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("victim: %v: %s", err, stderr.String())
	}
	return puts
}
