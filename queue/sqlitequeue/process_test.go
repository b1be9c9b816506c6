package sqlitequeue_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// The test binary runs itself as another process of the service: childMode names what the child does, childFile its database.
const (
	childMode = "SLIPWAY_TEST_CHILD"
	childFile = "SLIPWAY_TEST_FILE"
)

func TestMain(m *testing.M) {
	var child func(context.Context, *queue.Queue) error
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "claim":
		child = claimAll
	case "churn":
		child = churn
	case "limit":
		child = workLimited
	case "key":
		child = submitKeyed
	}
	if err := asChild(child); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func asChild(child func(context.Context, *queue.Queue) error) error {
	db, err := sqlitequeue.Open(os.Getenv(childFile), &sqlitequeue.Options{Timeout: time.Minute})
	if err != nil {
		return err
	}
	b, err := sqlitequeue.New(db, &sqlitequeue.Options{Timeout: time.Minute})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := b.Migrate(ctx); err != nil {
		return err
	}
	if err := child(ctx, queue.New(b, &queue.Options{MaintainEvery: 20 * time.Millisecond})); err != nil {
		return err
	}
	return db.Close()
}

// command returns a child process, not started yet.
func command(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childMode+"="+mode, childFile+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func newSession(worker string, slots int) queue.NewSession {
	return queue.NewSession{Worker: worker, Instance: "boot", Pools: []string{queue.DefaultPool}, Slots: slots}
}

// claimAll claims builds and prints their ids until there are no more.
func claimAll(ctx context.Context, q *queue.Queue) error {
	session, err := q.OpenSession(ctx, newSession(fmt.Sprintf("worker-%d", os.Getpid()), 20))
	if err != nil {
		return err
	}
	for {
		offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 20}})
		if err != nil || len(offers) == 0 {
			return err
		}
		for _, offer := range offers {
			if err := q.Accept(ctx, session, offer.AttemptID, queue.Digest{1}); err != nil {
				return err
			}
			fmt.Println(offer.Build, offer.Epoch)
		}
	}
}

func TestProcessesClaimEachBuildOnce(t *testing.T) {
	const builds, processes = 2000, 4
	path := testenv.SQLite(t)
	q := queue.New(open(t, path, &sqlitequeue.Options{Timeout: time.Minute}), nil)
	params := make([]queue.Params, builds)
	for i := range params {
		params[i].Project = "project"
	}
	ids, err := q.SubmitMany(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		done, err := q.Maintain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		more = done.More
	}

	outputs := make([][]byte, processes)
	var wg sync.WaitGroup
	for i := range outputs {
		cmd := command(t, "claim", path)
		wg.Go(func() {
			var err error
			if outputs[i], err = cmd.Output(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()

	claims := make(map[string]int)
	for i, output := range outputs {
		n := 0
		for line := range strings.Lines(string(output)) {
			claims[strings.TrimSpace(line)]++
			n++
		}
		t.Logf("process %d claimed %d builds", i, n)
	}
	for _, id := range ids {
		if n := claims[fmt.Sprintf("%v 1", id)]; n != 1 {
			t.Errorf("build %v was claimed %d times", id, n)
		}
	}
	if len(claims) != builds {
		t.Errorf("%d attempts were claimed, want %d", len(claims), builds)
	}
}

// churn submits, claims, logs and finishes builds until it is killed. It prints what was acknowledged, and only then.
func churn(ctx context.Context, q *queue.Queue) error {
	session, err := q.OpenSession(ctx, newSession("worker", 4))
	if err != nil {
		return err
	}
	for {
		ids, err := q.SubmitMany(ctx, []queue.Params{{Project: "project", Spec: make([]byte, 3000)}, {Project: "project"}})
		if err != nil {
			return err
		}
		for _, id := range ids {
			fmt.Println("submitted", id)
		}
		if _, err := q.Maintain(ctx); err != nil {
			return err
		}
		offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
		if err != nil {
			return err
		}
		for _, offer := range offers {
			if err := q.Accept(ctx, session, offer.AttemptID, queue.Digest{1}); err != nil {
				return err
			}
			if _, err := q.AppendLog(ctx, queue.LogChunk{AttemptID: offer.AttemptID, Data: make([]byte, 500)}); err != nil {
				return err
			}
			end := queue.Completion{AttemptID: offer.AttemptID, Outcome: queue.Succeeded, LogLength: 500}
			if _, err := q.Finish(ctx, end); err != nil {
				return err
			}
			fmt.Println("finished", offer.Build)
		}
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := testenv.SQLite(t)
	submitted, finished := make(map[string]bool), make(map[string]bool)
	for round := range 8 {
		cmd := command(t, "churn", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 5+7*round { // at another point of the loop each time
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			what, id, _ := strings.Cut(lines.Text(), " ")
			if what == "submitted" {
				submitted[id] = true
			} else {
				finished[id] = true
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("the child was not killed: %v", err)
		}
		checkFile(t, path, submitted, finished)
	}
	if len(finished) < 20 {
		t.Errorf("only %d builds were finished: the test shows little", len(finished))
	}
}

// checkFile looks at the database with the eyes of the next process.
func checkFile(t *testing.T, path string, submitted, finished map[string]bool) {
	t.Helper()
	db, err := sqlitequeue.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check says %q, %v", verdict, err)
	}
	var dangling int
	err = db.QueryRowContext(t.Context(), "SELECT count(*) FROM pragma_foreign_key_check").Scan(&dangling)
	if err != nil || dangling > 0 {
		t.Errorf("%d rows refer to nothing, %v", dangling, err)
	}
	b, err := sqlitequeue.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	for text := range submitted {
		id, err := queue.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		build, err := b.Get(t.Context(), "project", id)
		if err != nil {
			t.Errorf("build %v was acknowledged and is gone: %v", id, err)
		}
		if finished[text] && build.State != queue.Succeeded {
			t.Errorf("build %v was finished and is %v", id, build.State)
		}
		checkAttempts(t, b, build)
	}
}

// checkAttempts reports a build whose rows do not fit together: a change that was made by half.
func checkAttempts(t *testing.T, b *sqlitequeue.Backend, build queue.Build) {
	t.Helper()
	attempts, err := b.Attempts(t.Context(), build.Project, build.ID)
	if err != nil {
		t.Errorf("attempts of %v: %v", build.ID, err)
	}
	if len(attempts) != build.AttemptsUsed {
		t.Errorf("build %v has used %d attempts and has %d", build.ID, build.AttemptsUsed, len(attempts))
	}
	for _, a := range attempts {
		if (a.Outcome != 0) == build.State.Leased() {
			t.Errorf("build %v is %v, its attempt ended with %v", build.ID, build.State, a.Outcome)
		}
		page, err := b.ReadLog(t.Context(), build.Project, a.AttemptID, 0, queue.MaxLogRead)
		if err != nil || int64(len(page.Data)) != a.LogLength || page.Closed == build.State.Leased() {
			t.Errorf("log of %v has %d of %d bytes, closed %v, %v", build.ID, len(page.Data), a.LogLength, page.Closed, err)
		}
	}
}

// limits are those of the keys that several processes share.
var limits = map[string]int{"one": 1, "two": 2, "five": 5}

// workLimited works until its standard input ends. A table of the test's counts how many builds of each key run, and refuses more than the
// limit; the end of a build leaves it together with the build. Each build waits until its limit has been reached.
func workLimited(ctx context.Context, q *queue.Queue) error {
	db, err := sqlitequeue.Open(os.Getenv(childFile), &sqlitequeue.Options{Timeout: time.Minute, Relaxed: true})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var input sync.WaitGroup
	input.Go(func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	})
	worker := queue.NewWorker(q, fmt.Sprintf("worker-%d", os.Getpid()), &queue.WorkerOptions{Slots: 6, Poll: 20 * time.Millisecond})
	err = worker.Run(ctx, func(ctx context.Context, job *queue.Job) error {
		err := runLimited(ctx, q, db, job)
		if err != nil {
			fmt.Println(err)
		}
		return err
	})
	input.Wait()
	return errors.Join(err, db.Close())
}

func runLimited(ctx context.Context, q *queue.Queue, db *sql.DB, job *queue.Job) error {
	key := string(job.Spec)
	if _, err := db.ExecContext(ctx, "UPDATE gauge SET n = n + 1, peak = max(peak, n + 1) WHERE key = ?", key); err != nil {
		return err
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for peak := 0; peak < limits[key]; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		if err := db.QueryRowContext(ctx, "SELECT peak FROM gauge WHERE key = ?", key).Scan(&peak); err != nil {
			return err
		}
	}
	end, err := job.Completion(ctx, queue.Succeeded, "")
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "UPDATE gauge SET n = n - 1 WHERE key = ?", key); err != nil {
		return err
	}
	if done, err := sqlitequeue.Finish(ctx, q, tx, end); err != nil || len(done) != 1 {
		return fmt.Errorf("finished %d: %w", len(done), err)
	}
	return tx.Commit()
}

// However many processes admit, claim and finish, no more builds of a key run than its limit says, and as many do.
func TestProcessesKeepLimits(t *testing.T) {
	const processes, builds = 3, 20
	path := testenv.SQLite(t)
	db := openDB(t, path, nil)
	q := queue.New(migrated(t, db, nil), nil)
	run(t, db, "CREATE TABLE gauge (key TEXT PRIMARY KEY, n INTEGER, peak INTEGER, most INTEGER, CHECK (n BETWEEN 0 AND most))")
	var params []queue.Params
	for key, limit := range limits {
		run(t, db, "INSERT INTO gauge VALUES (?, 0, 0, ?)", key, limit)
		if err := q.SetLimit(t.Context(), "project", key, limit); err != nil {
			t.Fatal(err)
		}
		for range builds {
			params = append(params, queue.Params{Project: "project", Spec: []byte(key), ConcurrencyKey: key})
		}
	}
	ids, err := q.SubmitMany(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var stops []func() error
	for i := range processes {
		cmd := command(t, "limit", path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, in.Close)
		wg.Go(func() {
			if output, err := cmd.Output(); err != nil || len(output) > 0 {
				t.Errorf("process %d: %v\n%s", i, err, output)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, id := range ids {
		if b, err := q.Wait(ctx, "project", id); err != nil || b.State != queue.Succeeded {
			t.Errorf("build is %v, %v", b.State, err)
			break
		}
	}
	for _, stop := range stops {
		if err := stop(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
	wg.Wait()
	var left int
	if err := db.QueryRowContext(t.Context(), "SELECT sum(n) FROM gauge").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d builds seem to run still, %v", left, err)
	}
}

// submitKeyed submits the same builds as its siblings and prints the ids it was given.
func submitKeyed(ctx context.Context, q *queue.Queue) error {
	for i := range 50 {
		id, err := q.Submit(ctx, queue.Params{Project: "project", IdempotencyKey: fmt.Sprint("key ", i)})
		if err != nil {
			return err
		}
		fmt.Println(id)
	}
	return nil
}

func TestProcessesSubmitKeyOnce(t *testing.T) {
	path := testenv.SQLite(t)
	q := queue.New(open(t, path, nil), nil)
	outputs := make([]string, 3)
	var wg sync.WaitGroup
	for i := range outputs {
		cmd := command(t, "key", path)
		wg.Go(func() {
			output, err := cmd.Output()
			if err != nil {
				t.Errorf("process %d: %v", i, err)
			}
			outputs[i] = string(output)
		})
	}
	wg.Wait()
	for i, output := range outputs {
		if output != outputs[0] {
			t.Errorf("process %d was given other ids than process 0:\n%s\n%s", i, output, outputs[0])
		}
	}
	builds, err := q.List(t.Context(), queue.Filter{Project: "project", Limit: 200})
	if err != nil || len(builds) != 50 {
		t.Errorf("%d builds, %v, want 50", len(builds), err)
	}
}
