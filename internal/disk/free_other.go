//go:build !(linux || darwin || freebsd)

package disk

import (
	"errors"
	"os"
)

func freeOf(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
