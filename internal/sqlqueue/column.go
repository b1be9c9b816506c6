package sqlqueue

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/slipway-build/slipway/queue"
)

// ID returns id as an argument of a query on db, in the form of db's dialect.
func ID(db bun.IDB, id queue.ID) any {
	if db.Dialect().Name() == dialect.SQLite {
		return id[:]
	}
	return id.String()
}

// IDs is [ID] for several.
func IDs(db bun.IDB, ids []queue.ID) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = ID(db, id)
	}
	return args
}

// An idColumn reads an id in the form of either dialect. Null becomes the zero ID.
type idColumn queue.ID

func (c *idColumn) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*c = idColumn{}
		return nil
	case []byte:
		if len(v) == len(c) {
			copy(c[:], v)
			return nil
		}
		return (*queue.ID)(c).UnmarshalText(v)
	case string:
		return (*queue.ID)(c).UnmarshalText([]byte(v))
	case [16]byte:
		*c = v
		return nil
	default:
		return fmt.Errorf("sqlqueue: cannot read an id from %T", src)
	}
}

// A timeColumn reads a time in the form of either dialect, always in UTC. Null becomes the zero time.
type timeColumn time.Time

func (c *timeColumn) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*c = timeColumn{}
	case int64:
		*c = timeColumn(time.UnixMicro(v).UTC())
	case time.Time:
		*c = timeColumn(v.UTC())
	default:
		return fmt.Errorf("sqlqueue: cannot read a time from %T", src)
	}
	return nil
}

// A digestColumn reads a digest. Null becomes the zero digest.
type digestColumn queue.Digest

func (c *digestColumn) Scan(src any) error {
	if src == nil {
		*c = digestColumn{}
		return nil
	}
	b, ok := src.([]byte)
	if !ok || len(b) != len(c) {
		return fmt.Errorf("sqlqueue: cannot read a digest from %T", src)
	}
	copy(c[:], b)
	return nil
}

// Duration returns a stored duration.
func Duration(micros int64) time.Duration { return time.Duration(micros) * time.Microsecond }

// ParseLabels reads back what [queue.Labels.String] wrote. The result is never nil.
func ParseLabels(s string) (queue.Labels, error) {
	if s == "" {
		return queue.Labels{}, nil
	}
	return queue.ParseLabels(strings.Split(s, ",")...)
}

// FormatMetadata writes a build's metadata as it is stored: an object of JSON, or nothing if there is none.
func FormatMetadata(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings can always be written
	}
	return string(text)
}

// ParseMetadata reads back what [FormatMetadata] wrote.
func ParseMetadata(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, fmt.Errorf("sqlqueue: metadata: %w", err)
	}
	return m, nil
}
