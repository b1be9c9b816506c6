package queue_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A service submits a build and looks at it.
func Example() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)

	id, err := q.Submit(ctx, queue.Params{
		Project: "site",
		Labels:  queue.Labels{"os": "linux"},
		Spec:    []byte(`{"command": ["make", "test"]}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	b, err := q.Get(ctx, "site", id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.State, b.Pool, b.Labels, b.MaxAttempts)

	_, err = q.Get(ctx, "elsewhere", id)
	fmt.Println(err != nil)
	// Output:
	// pending default os=linux 3
	// true
}

// The life of an attempt, as the process sees it that holds the worker's connection.
func Example_attempt() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	build, err := q.Submit(ctx, queue.Params{Project: "site", Spec: []byte("make")})
	check(err)

	_, err = q.Beat(ctx) // several times in every Options.ControllerTTL
	check(err)
	_, err = q.Maintain(ctx) // every second or so
	check(err)

	session, err := q.OpenSession(ctx, queue.NewSession{
		Worker: "mac-mini-7", Instance: "boot-1", Pools: []string{queue.DefaultPool}, Slots: 2,
	})
	check(err)
	offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 2}})
	check(err)
	offer := offers[0]
	fmt.Printf("offered: %s, epoch %d\n", offer.Spec, offer.Epoch)

	// The worker accepts with the hash of a secret that it made.
	token := sha256.Sum256([]byte("a secret"))
	check(q.Accept(ctx, session, offer.AttemptID, token))

	output := []byte("all tests passed\n")
	_, err = q.AppendLog(ctx, queue.LogChunk{AttemptID: offer.AttemptID, Offset: 0, Data: output})
	check(err)

	binary := []byte("the artifact's bytes")
	_, err = q.ReserveArtifact(ctx, queue.NewArtifact{
		AttemptID: offer.AttemptID, Name: "bin/tool", Digest: sha256.Sum256(binary), Size: int64(len(binary)),
	})
	check(err)
	// The bytes go to a storage here.
	_, err = q.CommitArtifact(ctx, offer.AttemptID, "bin/tool")
	check(err)

	state, err := q.Finish(ctx, queue.Completion{
		AttemptID: offer.AttemptID, Outcome: queue.Succeeded, ExitCode: new(0),
		LogLength: int64(len(output)), LogSHA256: sha256.Sum256(output),
	})
	check(err)
	fmt.Println("finished:", state)

	// From here on the attempt's words do not count.
	_, err = q.AppendLog(ctx, queue.LogChunk{AttemptID: offer.AttemptID, Offset: int64(len(output)), Data: []byte("?")})
	fmt.Println(err == nil)

	page, err := q.ReadLog(ctx, "site", queue.AttemptID{Build: build}, 0, 1024)
	check(err)
	fmt.Printf("log: %s", page.Data)
	artifacts, err := q.Artifacts(ctx, "site", queue.AttemptID{Build: build})
	check(err)
	fmt.Println("artifact:", artifacts[0].Name, artifacts[0].Size)
	// Output:
	// offered: make, epoch 1
	// finished: succeeded
	// false
	// log: all tests passed
	// artifact: bin/tool 20
}

// Canceling ends a build at once if nothing runs yet.
func ExampleQueue_Cancel() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	id, err := q.Submit(ctx, queue.Params{Project: "site"})
	check(err)

	state, err := q.Cancel(ctx, "site", id, "superseded by a newer commit")
	check(err)
	b, err := q.Get(ctx, "site", id)
	check(err)
	fmt.Println(state, "-", b.Reason)
	// Output: canceled - superseded by a newer commit
}

// The last id of a page is the cursor of the next one.
func ExampleQueue_List() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	for i := range 5 {
		_, err := q.Submit(ctx, queue.Params{Project: "site", Pool: fmt.Sprintf("pool-%d", i)})
		check(err)
	}

	filter := queue.Filter{Project: "site", States: []queue.State{queue.Pending}, Limit: 2}
	for {
		page, err := q.List(ctx, filter)
		check(err)
		var pools []string
		for _, b := range page {
			pools = append(pools, b.Pool)
		}
		fmt.Println(pools)
		if len(page) < filter.Limit {
			break
		}
		filter.Before = page[len(page)-1].ID
	}
	// Output:
	// [pool-4 pool-3]
	// [pool-2 pool-1]
	// [pool-0]
}

func ExampleLabels_Satisfies() {
	worker := queue.Labels{"os": "linux", "arch": "arm64", "gpu": "none"}
	required, err := queue.ParseLabels("os=linux", "arch=arm64")
	check(err)
	fmt.Println(required, worker.Satisfies(required), required.Satisfies(worker))
	// Output: arch=arm64,os=linux true false
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
