package sqlitequeue

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
)

// plans are the statements of this package, each with the indexes that its plan must name for the tables that grow.
var plans = map[string]struct {
	sql     string
	indexes []string
}{
	"submit": {submitSQL, []string{"autoindex_slipway_class_1", "p USING PRIMARY KEY", "r USING PRIMARY KEY"}},
	"submit keyed": {submitKeyedSQL, []string{
		"autoindex_slipway_class_1", "k USING INDEX slipway_build_idem_key (project=? AND idem_key=?)",
		"k USING COVERING INDEX slipway_build_idem_key (project=? AND idem_key=?)",
	}},
	"known":   {knownSQL, []string{"slipway_build_idem_key (project=? AND idem_key=?)"}},
	"probe":   {probeSQL, []string{"slipway_build_queued (class_id=? AND rank>?)", "c USING INTEGER PRIMARY KEY", "p USING PRIMARY KEY"}},
	"members": {membersSQL, []string{"INTEGER PRIMARY KEY"}},
	"pick":    {pickSQL, []string{"slipway_build_queued (class_id=? AND rank>?)", "slipway_project_paused"}},
	"takers": {takersSQL, []string{
		"q USING INDEX sqlite_autoindex_slipway_build_1 (id=?)", "s USING INTEGER PRIMARY KEY", "p USING PRIMARY KEY",
		"o USING COVERING INDEX slipway_build_queued (class_id=? AND rank>? AND rank<?)",
	}},
	"claim":     {claimSQL, []string{"autoindex_slipway_build_1"}},
	"accept":    {acceptSQL, []string{"autoindex_slipway_build_1"}},
	"accepted":  {acceptedSQL, []string{"autoindex_slipway_build_1"}},
	"release":   {releaseSQL, []string{"autoindex_slipway_build_1"}},
	"fence":     {fenceSQL, []string{"autoindex_slipway_build_1", "h USING PRIMARY KEY"}},
	"leases":    {leasesSQL, []string{"slipway_session_controller", "slipway_build_leased"}},
	"cancels":   {cancelsSQL, []string{"slipway_build_cancelling"}},
	"finish":    {finishSQL, []string{"autoindex_slipway_build_1", "h USING PRIMARY KEY"}},
	"finished":  {finishedSQL, []string{"a USING PRIMARY KEY", "b USING INDEX sqlite_autoindex_slipway_build_1"}},
	"end":       {endAttemptSQL, []string{"autoindex_slipway_build_1"}},
	"close log": {closeLogSQL, []string{"autoindex_slipway_build_1", "h USING PRIMARY KEY"}},
	"end build": {endBuildSQL, []string{"autoindex_slipway_build_1"}},
	"cancel":    {cancelSQL, []string{"slipway_build_project (project=? AND id=?)"}},
	"canceled":  {canceledSQL, []string{"slipway_build_project (project=? AND id=?)"}},

	"expire":          {expireSQL, []string{"slipway_build_expires"}},
	"release overdue": {releaseOverdueSQL, []string{"slipway_build_deadline"}},
	"release ended":   {releaseEndedSQL, []string{"slipway_build_deadline", "INTEGER PRIMARY KEY"}},
	"time out":        {timeOutSQL, []string{"slipway_build_deadline (state=? AND deadline<?)"}},
	"force":           {forceSQL, []string{"slipway_build_deadline (state=? AND deadline<?)"}},
	"fresh":           {freshSQL, []string{"PRIMARY KEY"}},
	"gone":            {goneSQL, []string{"slipway_session_ended", "slipway_session_controller", "slipway_build_leased"}},
	"intern":          {internSQL, []string{"slipway_build_new", "slipway_build_unknown"}},
	"classify":        {classifySQL, []string{"slipway_build_new", "slipway_build_unknown", "autoindex_slipway_class_1"}},
	"due":             {dueSQL, []string{"slipway_build_due (not_before<?)"}},
	"forget sessions": {forgetSessionsSQL, []string{"slipway_session_ended", "slipway_build_leased"}},
	"forget":          {forgetControllersSQL, []string{"slipway_session_controller"}},
	"forget keys":     {forgetKeysSQL, []string{"slipway_build_idem_end (finished_at<?)"}},
	"unreserve":       {unreserveSQL, []string{"slipway_artifact_reserved", "PRIMARY KEY (build_id=? AND epoch=? AND name=?)"}},
	"retired":         {retiredSQL, []string{"slipway_build_finished_at (finished_at<?)", "h USING PRIMARY KEY (build_id=?)"}},
	"drop logs":       {dropLogsSQL, []string{"autoindex_slipway_build_1", "h USING PRIMARY KEY (build_id=?)"}},
	"delete chunks":   {deletes[0], []string{"autoindex_slipway_log_chunk_1 (build_id=?)"}},
	"delete heads":    {deletes[1], []string{"PRIMARY KEY (build_id=?)"}},
	"delete files":    {deletes[2], []string{"PRIMARY KEY (build_id=?)"}},
	"delete attempts": {deletes[3], []string{"PRIMARY KEY (build_id=?)"}},
	"delete builds":   {deletes[4], []string{"autoindex_slipway_build_1"}},

	"lanes": {lanesSQL, []string{
		"slipway_build_gated ((pool,project,limit_key,class_id)>(?,?,?,?))", "INTEGER PRIMARY KEY (rowid=?)", "p USING PRIMARY KEY",
		"r USING PRIMARY KEY",
	}},
	"limit room":   {limitRoomSQL, []string{"slipway_build_limited (project=? AND limit_key=? AND state>? AND state<?)", "l USING PRIMARY KEY"}},
	"window":       {windowSQL, []string{"slipway_build_waiting (project=? AND pool=?)"}},
	"first":        {firstSQL, []string{"slipway_build_gated (pool=? AND project=? AND limit_key=? AND class_id=?)"}},
	"admit":        {admitSQL, []string{"autoindex_slipway_build_1"}},
	"hold paused":  {holdPausedSQL, []string{"slipway_project_paused", "slipway_build_waiting (project=?)"}},
	"hold key":     {holdKeySQL, []string{"slipway_build_limited (project=? AND limit_key=? AND state=? AND class_id=?)"}},
	"hold share":   {holdShareSQL, []string{"slipway_build_waiting (project=? AND pool=?)", "INTEGER PRIMARY KEY"}},
	"hold pool":    {holdPoolSQL, []string{"slipway_build_queued (class_id=?)", "autoindex_slipway_class_1 (pool=?)"}},
	"virtual time": {virtualTimeSQL, []string{"slipway_build_queued (class_id=?)", "autoindex_slipway_class_1 (pool=?)"}},
	"share":        {shareSQL, []string{"PRIMARY KEY (pool=? AND project=?)"}},
	"move share":   {moveShareSQL, nil},
	"move pool":    {movePoolSQL, []string{"PRIMARY KEY (name=?)"}},
	"serve":        {serveSQL, []string{"INTEGER PRIMARY KEY"}},

	"is fair":        {isFairSQL, []string{"PRIMARY KEY (name=?)"}},
	"change pool":    {changePoolSQL, nil},
	"weigh":          {weighSQL, nil},
	"pools":          {poolsSQL, []string{"PRIMARY KEY (pool=?)"}},
	"change project": {changeProjectSQL, nil},
	"projects":       {projectsSQL, []string{"PRIMARY KEY (name>?)"}},
	"set limit":      {setLimitSQL, nil},
	"drop limit":     {dropLimitSQL, []string{"PRIMARY KEY (project=? AND key=?)"}},
	"limits":         {limitsSQL, []string{"PRIMARY KEY (project=? AND key>?)", "slipway_build_limited (project=? AND limit_key=?"}},

	"beat":          {beatSQL, nil},
	"replaced":      {replacedSQL, []string{"slipway_session_controller"}},
	"controller":    {knowControllerSQL, nil},
	"replace":       {replaceSQL, []string{"slipway_session_live"}},
	"open":          {openSQL, nil},
	"lose":          {loseSQL, []string{"INTEGER PRIMARY KEY"}},
	"release lost":  {releaseLostSQL, []string{"slipway_build_leased"}},
	"session":       {sessionSQL, []string{"INTEGER PRIMARY KEY"}},
	"worker leases": {workerLeasesSQL, []string{"slipway_session_worker", "slipway_build_leased"}},
	"move":          {moveSQL, []string{"autoindex_slipway_build_1"}},
	"take back":     {takeBackSQL, []string{"autoindex_slipway_build_1"}},
	"ended":         {endedSQL, []string{"a USING PRIMARY KEY", "autoindex_slipway_build_1"}},

	"heads":            {headsSQL, []string{"autoindex_slipway_build_1", "h USING PRIMARY KEY"}},
	"grow":             {growSQL, nil},
	"closed logs":      {closedLogsSQL, []string{"slipway_log_head_closed", "slipway_log_head USING PRIMARY KEY"}},
	"archive log":      {archiveLogSQL, []string{"slipway_log_head USING PRIMARY KEY"}},
	"closed":           {closedSQL, []string{"slipway_attempt USING PRIMARY KEY"}},
	"dropped logs":     {droppedLogsSQL, []string{"slipway_log_drop_free (taken_until<?)", "slipway_log_drop USING PRIMARY KEY"}},
	"forget logs":      {forgetLogsSQL, []string{"slipway_log_drop USING PRIMARY KEY"}},
	"drop chunks":      {dropChunksSQL, []string{"autoindex_slipway_log_chunk_1"}},
	"reserve":          {reserveSQL, nil},
	"room":             {roomSQL, []string{"PRIMARY KEY"}},
	"artifact":         {artifactSQL, []string{"PRIMARY KEY"}},
	"commit":           {commitArtifactSQL, []string{"PRIMARY KEY"}},
	"release artifact": {releaseArtifactSQL, []string{"PRIMARY KEY"}},
}

// mayScan are the lines of plans that walk only what a call is about, by name: what an index holds that holds nothing else, the few
// rows that another part of the plan found, and the pools and controllers there are.
var mayScan = map[string][]string{
	"closed logs":  {"SCAN l USING INDEX slipway_log_head_closed"},
	"submit":       {"SCAN j", "SCAN t", "SCAN CONSTANT ROW"},
	"submit keyed": {"SCAN j", "SCAN i", "SCAN t", "SCAN CONSTANT ROW"},
	"end":          {"SCAN e"},
	"close log":    {"SCAN e"},
	"end build":    {"SCAN e"},
	"pick":         {"SCAN r USING COVERING INDEX slipway_project_paused"},
	"cancels":      {"SCAN b USING INDEX slipway_build_cancelling"},
	"gone":         {"SCAN c", "SCAN g"},
	"intern":       {"SCAN b USING INDEX slipway_build_new", "SCAN b USING INDEX slipway_build_unknown", "SCAN u"},
	"classify":     {"SCAN b USING INDEX slipway_build_new", "SCAN b USING INDEX slipway_build_unknown", "SCAN u"},
	"forget":       {"SCAN c"},
	"unreserve":    {"SCAN a USING COVERING INDEX slipway_artifact_reserved"},
	"lanes":        {"SCAN s", "SCAN CONSTANT ROW"},
	"hold paused":  {"SCAN r USING COVERING INDEX slipway_project_paused"},
	"hold key":     {"SCAN k"},
	"pools":        {"SCAN p"},
	"List":         {"SCAN p", "SCAN f"},
	"ListWorker":   {"SCAN p", "SCAN f"},
	"ListPending":  {"SCAN CONSTANT ROW", "SCAN b USING INDEX slipway_build_open", "SCAN p", "SCAN n"},
}

// A statement of which nobody looked at the plan may walk anything.
func TestEveryStatementHasAPlan(t *testing.T) {
	looked := map[string]bool{
		beginSQL: true, commitSQL: true, rollbackSQL: true, savepointSQL: true, releaseSavepointSQL: true, rollbackToSQL: true,
	}
	for _, p := range plans {
		looked[p.sql] = true
	}
	for text := range statements {
		if !looked[text] {
			t.Errorf("no plan is expected of\n%s", text)
		}
		// SQLite looks at the values of limits when it plans, and plans anew whenever one is bound, unless an operator hides them.
		if strings.Contains(text, "LIMIT ?") {
			t.Errorf("a limit without a + makes this a statement that is parsed at each use:\n%s", text)
		}
	}
}

// Finding what a call is about must not cost more when more builds are stored, whether SQLite knows how many there are or not.
func TestPlansUseIndexes(t *testing.T) {
	b := newBackend(t)
	t.Run("Empty", func(t *testing.T) { checkPlans(t, b) })
	fill(t, b)
	t.Run("Filled", func(t *testing.T) { checkPlans(t, b) })
	if _, err := b.db.DB.ExecContext(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	t.Run("Analyzed", func(t *testing.T) { checkPlans(t, b) })
}

func checkPlans(t *testing.T, b *Backend) {
	t.Helper()
	for name, p := range plans {
		checkPlan(t, name, plan(t, b, p.sql), p.indexes)
	}
	for name, p := range readerPlans(t, b) {
		checkPlan(t, name, plan(t, b, p), map[string][]string{
			"Get":              {"autoindex_slipway_build_1"},
			"List":             {"slipway_build_project_end (project=? AND state=?)", "slipway_build_open (project=?)", "slipway_build_leased"},
			"ListPage":         {"slipway_build_project (project=? AND id<?)"},
			"ListOpen":         {"slipway_build_open (project=? AND id<?)"},
			"ListAll":          {"autoindex_slipway_build_1 (id>? AND id<?)"},
			"ListState":        {"slipway_build_end (state=? AND id<?)"},
			"ListProjectState": {"slipway_build_project_end (project=? AND state=? AND id<?)"},
			"ListBetween":      {"slipway_build_project_end (project=? AND state=? AND id>? AND id<?)"},
			"ListWorker":       {"slipway_build_worker (worker=? AND id<?)", "slipway_session_worker (worker=?)", "slipway_build_leased (session_id=?)"},
			"ListPending":      {"slipway_build_open (project>?)", "slipway_build_open (project=? AND id<?)"},
			"Specs":            {"autoindex_slipway_build_1"},
			"Classes":          {"INTEGER PRIMARY KEY"},
			"Stats":            {"slipway_stat_day"},
			"StatsProject":     {"PRIMARY KEY (project=? AND day>? AND day<?)"},
		}[name])
	}
}

func checkPlan(t *testing.T, name string, lines, indexes []string) {
	t.Helper()
	for _, index := range indexes {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, index) }) {
			t.Errorf("%s does not use %s:\n  %s", name, index, strings.Join(lines, "\n  "))
		}
	}
	for _, line := range lines {
		table, scan := strings.CutPrefix(line, "SCAN ")
		if scan && !strings.Contains(table, "VIRTUAL TABLE") && !strings.HasPrefix(table, "(subquery-") && !slices.Contains(mayScan[name], line) {
			t.Errorf("%s walks a whole table: %s\n  %s", name, line, strings.Join(lines, "\n  "))
		}
	}
}

// readerPlans returns what the shared reader asks, by method.
func readerPlans(t *testing.T, b *Backend) map[string]string {
	t.Helper()
	var rec recorder
	reader := sqlqueue.NewReader(b.db.WithQueryHook(&rec), names)
	id, pending, failed := queue.NewID(), []queue.State{queue.Pending}, []queue.State{queue.Failed}
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	list := func(f queue.Filter) func() error {
		return func() error { _, err := reader.List(t.Context(), f); return err }
	}
	queries := make(map[string]string)
	for _, ask := range []struct {
		name string
		err  func() error
	}{
		{"Get", func() error { _, err := reader.Get(t.Context(), "p", id); return err }},
		{"List", list(queue.Filter{Project: "p", Pool: "q", States: queue.States(), Limit: 50})},
		{"ListPage", list(queue.Filter{Project: "p", Before: id, Limit: 50})},
		{"ListOpen", list(queue.Filter{Project: "p", States: pending, Before: id, Limit: 50})},
		{"ListAll", list(queue.Filter{AllProjects: true, Since: queue.IDAt(time.Unix(1, 0)), Before: id, Limit: 50})},
		{"ListState", list(queue.Filter{AllProjects: true, States: failed, Before: id, Limit: 50})},
		{"ListProjectState", list(queue.Filter{Project: "p", States: failed, Before: id, Limit: 50})},
		{"ListBetween", list(queue.Filter{Project: "p", States: failed, Since: queue.IDAt(time.Unix(1, 0)), Before: id, Limit: 50})},
		{"ListWorker", list(queue.Filter{AllProjects: true, Worker: "w", Before: id, Limit: 50})},
		{"ListPending", list(queue.Filter{AllProjects: true, States: pending, Before: id, Limit: 50})},
		{"Stats", func() error { _, err := reader.Stats(t.Context(), "", day, day.AddDate(0, 0, 30)); return err }},
		{"StatsProject", func() error { _, err := reader.Stats(t.Context(), "p", day, day.AddDate(0, 0, 30)); return err }},
		{"Specs", func() error { _, err := reader.Specs(t.Context(), []queue.ID{id}); return err }},
		{"Classes", func() error { _, err := reader.Classes(t.Context(), 1, 10); return err }},
	} {
		rec.query = ""
		if err := ask.err(); err != nil && ask.name != "Get" {
			t.Fatal(err)
		}
		queries[ask.name] = rec.query
	}
	return queries
}

// recorder notes the query that bun ran last.
type recorder struct{ query string }

func (*recorder) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }
func (r *recorder) AfterQuery(_ context.Context, e *bun.QueryEvent)                  { r.query = e.Query }

// plan returns the lines of a statement's query plan.
func plan(t *testing.T, b *Backend, query string) []string {
	t.Helper()
	var args []any
	for n := 1; strings.Contains(query, "?"+strconv.Itoa(n)); n++ {
		args = append(args, nil)
	}
	if len(args) == 0 {
		args = make([]any, strings.Count(query, "?"))
	}
	rows, err := b.db.DB.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	var lines []string
	err = each(rows, func(rows *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		lines = append(lines, detail)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// fill stores some thousands of builds, most of them waiting, and some in every other state.
func fill(t *testing.T, b *Backend) {
	t.Helper()
	const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) `
	for _, step := range []struct {
		rows int
		sql  string
	}{
		{20, `INSERT INTO {schema}class (id, pool, labels) SELECT i, 'pool-' || i, '' FROM n`},
		{3, `INSERT INTO {schema}controller (id, alive_until, fresh_since) SELECT randomblob(16), i, i FROM n`},
		{300, `INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at, ended_at)
			SELECT c.id, 'worker-' || (i / 3), 'boot', '', 'pool', 1, 0, i, CASE WHEN i % 3 > 0 THEN i END
			FROM n JOIN {schema}controller AS c ON c.alive_until = 1 + i % 3`},
		{5000, `INSERT INTO {schema}build (id, project, pool, labels, class_id, state, rank, max_attempts, run_timeout, created_at)
			SELECT randomblob(16), 'project-' || (i % 10), 'pool-1', '', 1 + i % 20, {queued}, i, 3, 1, i FROM n`},
		{300, `UPDATE {schema}build SET state = 2 + i % 3, epoch = 1, session_id = i, worker = 'w', deadline = i, started_at = i
			FROM n WHERE {schema}build.rowid = i`},
		{2000, `UPDATE {schema}build SET state = 5 + i % 6, finished_at = i FROM n WHERE {schema}build.rowid = 1000 + i`},
	} {
		if _, err := b.db.DB.ExecContext(t.Context(), numbers+names.Expand(step.sql), step.rows); err != nil {
			t.Fatalf("%v\n%s", err, step.sql)
		}
	}
}

func newBackend(t *testing.T) *Backend {
	t.Helper()
	o := &Options{Relaxed: true}
	db, err := Open(testenv.SQLite(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b, err := New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}
