// Command house checks what the linters cannot.
//
//	house module-directory ...
//
// In each module a Go file has at most 400 lines, tests and generated files
// aside, and no exported declaration of an importable package shows a
// third-party type, the packages aside that exist to adapt one. It prints what
// it finds, one finding a line, and exits 1 when there was any.
package main

import (
	"fmt"
	"os"
)

func main() {
	found, err := inspect(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(2)
	}
	for _, f := range found {
		fmt.Println(f)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

func inspect(modules []string) ([]string, error) {
	var found []string
	for _, dir := range modules {
		long, err := longFiles(dir)
		if err != nil {
			return nil, err
		}
		foreign, err := foreignTypes(dir)
		if err != nil {
			return nil, err
		}
		found = append(append(found, long...), foreign...)
	}
	return found, nil
}
