package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/slipway-build/slipway/internal/archive"
)

// unpack writes the files of a source below an empty root. A source that breaks a rule or a limit is an error that wraps errBadSource;
// part of it has been written then, none of it outside.
func unpack(ctx context.Context, root *os.Root, source io.ReaderAt, size int64, limits UnpackLimits) error {
	err := archive.Extract(ctx, root, source, size, archive.Limits(limits))
	if errors.Is(err, archive.ErrInvalid) {
		return fmt.Errorf("%w: %w", errBadSource, err)
	}
	return err
}
