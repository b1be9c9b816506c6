package pgqueue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/testenv"
)

// invariants hold for every row of a table, whatever was done to it. They are not constraints of the database, because it would read and
// compile each of them with each statement. Every test that uses open ends with a look at all of them.
var invariants = map[string][]string{
	"build": {
		"epoch >= 0", "run_timeout >= 0", "queue_timeout > 0", "source_size >= 0", "project <> ''", "pool <> ''", "state BETWEEN 0 AND 10",
		"octet_length(source_digest) = 32", "octet_length(token_hash) = 32", "octet_length(idem_hash) = 32", "class_id >= 0",
		"(state BETWEEN 2 AND 4) = (session_id IS NOT NULL)", "(state BETWEEN 2 AND 4) = (deadline IS NOT NULL)",
		"(state >= 5) = (finished_at IS NOT NULL)",
		"state NOT BETWEEN 1 AND 4 OR coalesce(class_id, 0) > 0",
		"state = 0 OR not_before IS NULL",
		"state BETWEEN 3 AND 4 OR token_hash IS NULL",
		"attempts_used BETWEEN 0 AND max_attempts", "attempts_used <= epoch",
		"(attempts_used > 0) = (started_at IS NOT NULL)",
		"(epoch > 0) = (worker <> '')",
		"(avoid_worker IS NULL) = (avoid_until IS NULL)",
		"(source_digest IS NULL) = (source_size IS NULL)",
		"(queue_timeout IS NULL) = (expires_at IS NULL)",
		"backoff_base BETWEEN 0 AND backoff_max",
		"(idem_key IS NULL) = (idem_hash IS NULL)",
		"class_id IS NOT NULL OR limit_key = ''",
		"class_id IS NULL OR class_id = 0 OR EXISTS (SELECT FROM {schema}.class c WHERE c.id = class_id AND c.pool = x.pool AND c.labels = x.labels)",
	},
	"attempt": {
		"epoch >= 1", "outcome BETWEEN 5 AND 10", "result IN (0, 1) OR result BETWEEN 5 AND 10", "worker <> ''", "octet_length(log_sha256) = 32",
		"EXISTS (SELECT FROM {schema}.build b WHERE b.id = x.build_id AND b.epoch >= x.epoch)",
		"NOT EXISTS (SELECT FROM {schema}.log_head h WHERE h.build_id = x.build_id AND h.epoch = x.epoch AND NOT h.closed)",
	},
	"log_head": {
		"epoch >= 1", "length >= 0", "tail BETWEEN -1 AND length",
		"EXISTS (SELECT FROM {schema}.build b WHERE b.id = x.build_id AND b.epoch >= x.epoch)",
	},
	"artifact": {
		"EXISTS (SELECT FROM {schema}.build b WHERE b.id = x.build_id AND b.epoch >= x.epoch)",
	},
}

// violations returns what does not hold of the rows that db sees, at most one row of each table.
func violations(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, schema string,
) (found []string, err error) {
	for table, conditions := range invariants {
		var sql strings.Builder
		sql.WriteString("SELECT row_to_json(x)::text || concat(")
		for i, condition := range conditions {
			if i > 0 {
				sql.WriteString(", ")
			}
			fmt.Fprintf(&sql, "CASE WHEN NOT (%s) THEN ' breaks %s' END", condition, strings.ReplaceAll(condition, "'", "''"))
		}
		fmt.Fprintf(&sql, ") FROM {schema}.%s x WHERE NOT (coalesce(%s, true)) LIMIT 1", table, strings.Join(conditions, ", true) AND coalesce("))
		rows, err := db.Query(ctx, strings.ReplaceAll(sql.String(), "{schema}", schema))
		if err != nil {
			return nil, err
		}
		broken, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		for _, row := range broken {
			found = append(found, table+" "+row)
		}
	}
	return found, nil
}

// checkInvariants fails the test if it has left rows that should not be.
func checkInvariants(t testing.TB, db *testenv.Database) {
	t.Helper()
	found, err := violations(context.WithoutCancel(t.Context()), db.Pool, db.Schema)
	if err != nil {
		t.Errorf("look at the rows that are left: %v", err)
	}
	for _, f := range found {
		t.Error(f)
	}
}
