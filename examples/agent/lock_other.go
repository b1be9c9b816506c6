//go:build !unix

package main

import (
	"errors"
	"os"
)

// lock fails where there is no lock that ends with its process.
func lock(*os.File) error { return errors.ErrUnsupported }
