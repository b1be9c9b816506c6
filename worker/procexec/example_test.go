//go:build linux || darwin

package procexec_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

// What an agent does for each attempt. Its main, like the TestMain of this package, begins with procexec.Guardian().
func ExampleExecutor_Run() {
	executor, err := procexec.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "attempt-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		fmt.Println(err)
		return
	}
	result, err := executor.Run(context.Background(), worker.Job{
		Build:  queue.NewID(),
		Epoch:  1,
		Spec:   []byte(`{"command": ["sh", "-c", "echo hello; date > today.txt; exit 3"], "artifacts": ["*.txt"]}`),
		Dir:    dir,
		Source: source,
		Log:    os.Stdout,
		Grace:  10 * time.Second,
	})
	fmt.Println(result.ExitCode, result.Artifacts[0].Name, err)
	// Output:
	// hello
	// 3 today.txt <nil>
}

func ExampleSpec_Encode() {
	b, err := procexec.Spec{
		Command:   []string{"go", "build", "-o", "dist/", "./..."},
		Env:       map[string]string{"CGO_ENABLED": "0"},
		Artifacts: []string{"dist/**"},
	}.Encode()
	fmt.Println(string(b), err)
	// Output:
	// {"command":["go","build","-o","dist/","./..."],"env":{"CGO_ENABLED":"0"},"artifacts":["dist/**"]} <nil>
}

func ExampleParseSpec() {
	_, err := procexec.ParseSpec([]byte(`{"command": ["make"], "env": {"SLIPWAY_BUILD_TOKEN": "mine"}}`))
	fmt.Println(err)
	// Output:
	// worker: build spec not understood: env SLIPWAY_BUILD_TOKEN is Slipway's own: choose a name that does not begin with SLIPWAY_
}
