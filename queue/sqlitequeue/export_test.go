package sqlitequeue

import (
	"database/sql"
	"time"
)

// OpenVolatile is Open without waiting for the disk, which matters to no test but those about power failures.
func OpenVolatile(path string) (*sql.DB, error) { return open(path, time.Minute, "OFF") }
