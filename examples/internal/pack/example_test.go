package pack_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/slipway-build/slipway/examples/internal/pack"
)

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "source-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("hello\n"), 0o600); err != nil {
		log.Print(err)
		return
	}
	summary, err := pack.Write(context.Background(), io.Discard, dir, nil)
	fmt.Println(summary.Files, "file of", summary.Bytes, "bytes,", err)
	// Output: 1 file of 6 bytes, <nil>
}
