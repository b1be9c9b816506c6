//go:build !(linux || darwin || freebsd)

package disk

import (
	"errors"
	"os"
)

// Free is not implemented here.
func Free(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
