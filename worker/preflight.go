package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/slipway-build/slipway/internal/disk"
	"github.com/slipway-build/slipway/worker/wire"
)

// A Preflighter is an [Executor] that can tell beforehand that this machine could not run a build.
type Preflighter interface {
	// Preflight returns what is lacking for a build with that spec, in words that people are shown; nil if nothing is known to be. An agent
	// calls it before it accepts a build, and declines that otherwise: the build waits for another worker, or for this one to be fit, and no
	// attempt is used up. When ctx ends, after half of the time for which the offer stands, there must soon be an answer. A spec that
	// is wrong is for Run to refuse, which ends the build.
	//
	// It is safe for concurrent use.
	Preflight(ctx context.Context, spec []byte) error
}

// preflight reports whether the machine is fit for the build, and declines the offer if not.
func (t *attempt) preflight() bool {
	ctx, cancel := context.WithTimeout(t.ctx, t.offer.Expires.Duration()/2)
	defer cancel()
	err := t.agent.fit(ctx, t.offer)
	if err == nil {
		return true
	}
	t.log.Warn("build declined: this machine is not fit for it", "reason", err)
	if l := t.agent.link.Load(); l != nil { // else nobody waits for an answer
		l.send(t.ctx, &wire.Decline{Ref: t.ref, Reason: wire.DeclinePreflight, Message: wire.Text(err.Error())})
	}
	return false
}

// fit returns what this machine lacks for a build.
func (a *Agent) fit(ctx context.Context, o *wire.Offer) error {
	if a.opts.MinFree >= 0 {
		need := uint64(a.opts.MinFree)
		if o.Source != nil {
			need += 2 * uint64(o.Source.Size) // as it comes, and unpacked
		}
		free, err := disk.FreeAt(a.opts.Dir)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			return errors.New("the free space of the agent's disk is not known")
		case uint64(free) < need:
			return fmt.Errorf("the agent's disk has %d MiB free, and %d MiB are needed", free>>20, need>>20+1)
		}
	}
	if p, ok := a.opts.Executor.(Preflighter); ok {
		return p.Preflight(ctx, o.Spec)
	}
	return nil
}
