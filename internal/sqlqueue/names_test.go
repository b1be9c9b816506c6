package sqlqueue_test

import (
	"strings"
	"testing"

	"github.com/slipway-build/slipway/internal/sqlqueue"
)

func TestExpand(t *testing.T) {
	const text = "UPDATE {schema}build SET state = {canceled} WHERE state IN ({held}, {cancelling}, {timed_out}) AND a = '{}'"
	want := `UPDATE "s".build SET state = 7 WHERE state IN (0, 4, 8) AND a = '{}'`
	if got := sqlqueue.WithPrefix(`"s".`).Expand(text); got != want {
		t.Errorf("expanded to\n%s\nwant\n%s", got, want)
	}
	for s := sqlqueue.Held; s <= sqlqueue.Lost; s++ {
		if got := sqlqueue.WithPrefix("").Expand("{" + s.Public().String() + "}"); s > sqlqueue.Queued && strings.HasPrefix(got, "{") {
			t.Errorf("the name of state %d, %v, is not known", s, s.Public())
		}
	}
}
