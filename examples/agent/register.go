package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/worker"
)

// tokenVariable holds the token if no file does.
const tokenVariable = "SLIPWAY_ENROL_TOKEN" //nolint:gosec // a name, and no secret

func registerFlags(in *invocation, f *flag.FlagSet) {
	f.StringVar(&in.tokenFile, "token-file", "", "`FILE` with the enrolment token, - for standard input; default: the token in "+tokenVariable)
	f.BoolVar(&in.force, "force", false, "replace the file of -key-file if there is one")
}

// register exchanges an enrolment token for a credential of which no one else knows the secret, and puts it into the file of -key-file.
//
// What it needs to ask again is on the disk before it asks, so that whenever it ends, the same command goes on where it was. That is one
// file beside the key's: first with the draft of the key, then with the key, and then it becomes the key's.
func (in *invocation) register(ctx context.Context) error {
	s := in.settings
	if err := s.checkTyped(); err != nil {
		return err
	}
	if err := s.checkURLs(); err != nil {
		return err
	}
	if s.keyFile == "" {
		return unusable("say with -key-file where to put the credential")
	}
	r := &registration{invocation: in, file: s.keyFile + "." + s.agent.Worker + ".draft"}
	if err := r.checkKeyFile(); err != nil {
		return err
	}
	token, err := in.readToken()
	if err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	if r.credential == "" {
		if err := r.exchange(ctx, token); err != nil {
			return err
		}
	}
	if err := r.place(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(in.stdout, "worker %s is registered; its credential is in %s: agent run -name %[1]s -key-file %[2]s\n", s.agent.Worker, s.keyFile)
	return err
}

// readToken takes the token from its file, or else from the environment.
func (in *invocation) readToken() (string, error) {
	text, name := strings.TrimSpace(in.getenv(tokenVariable)), tokenVariable
	if in.tokenFile != "" {
		var err error
		if text, err = readSecret(in.tokenFile, "token"); err != nil {
			return "", unusable("-token-file: %w", err)
		}
		name = "-token-file"
	}
	switch {
	case text == "":
		return "", unusable("there is no token: name a file that holds it with -token-file, or set %s; slipway keys create enroller --worker %s makes one",
			tokenVariable, in.settings.agent.Worker)
	case !strings.HasPrefix(text, "slw_enrol_") || strings.ContainsAny(text, " \t\r\n"):
		return "", unusable("%s: that is no enrolment token: slipway keys create enroller --worker %s makes one", name, in.settings.agent.Worker)
	default:
		return text, nil
	}
}

// A registration is how far a machine is on its way to a credential.
type registration struct {
	*invocation
	file  string // what is known so far
	draft auth.Draft
	fresh bool // nobody has been asked for a key with the draft
	// credential is what the file has in place of the draft, or nothing.
	credential string
}

// checkKeyFile sees that no credential is in the way. One that was put in place by a process that ended then is no longer a draft.
func (r *registration) checkKeyFile() error {
	key, err := os.Stat(r.settings.keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unusable("%s: %w", r.settings.called("key-file"), err)
	}
	if draft, err := os.Stat(r.file); err == nil && os.SameFile(key, draft) {
		if err := os.Remove(r.file); err != nil {
			return unusable("%s: %w", r.settings.called("key-file"), err)
		}
	}
	if !r.force {
		return unusable("%s: %s exists already: agent doctor tells whether it is good, -force replaces it", r.settings.called("key-file"), r.settings.keyFile)
	}
	return nil
}

// open takes up what an earlier process has left, or begins anew.
func (r *registration) open() error {
	text, err := readSecret(r.file, "draft of the credential")
	if errors.Is(err, fs.ErrNotExist) {
		r.fresh, r.draft = true, auth.NewDraft()
		err = writeSecret(r.file, r.draft.Text().Reveal(), false)
	} else if err == nil && strings.HasPrefix(text, "slw_worker_") {
		r.credential = text
	} else if err == nil {
		r.draft, err = auth.ParseDraft(text)
	}
	if err != nil {
		return unusable("%s: %w", r.settings.called("key-file"), err)
	}
	return nil
}

// exchange has the credential made that belongs to the draft.
func (r *registration) exchange(ctx context.Context, token string) error {
	key, err := r.ask(ctx, token)
	if err != nil {
		if refused(err) && r.fresh {
			err = errors.Join(err, os.Remove(r.file)) // no controller knows of it
		}
		return r.explain(err)
	}
	credential, err := r.draft.Key(key.ID)
	if err != nil {
		return fmt.Errorf("what answers there is no controller: %w", err)
	}
	r.credential = credential.Reveal()
	if err := writeSecret(r.file, r.credential, true); err != nil {
		return r.unwritten(err)
	}
	return nil
}

// place makes the file the key's. It is well if another process has put the same there.
func (r *registration) place() error {
	err := moveSecret(r.file, r.settings.keyFile, r.force)
	if err == nil {
		return nil
	}
	if there, readErr := readSecret(r.settings.keyFile, "credential"); readErr != nil || there != r.credential {
		return r.unwritten(err)
	}
	if err := os.Remove(r.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.unwritten(err)
	}
	return nil
}

func (r *registration) unwritten(err error) error {
	return unusable("%s: cannot write the credential, and the same command goes on from here: %w", r.settings.called("key-file"), err)
}

// ask asks one controller after the other, until one answers. They are those of one service, so that it does not matter which.
func (r *registration) ask(ctx context.Context, token string) (key api.Key, err error) {
	hash := r.draft.Hash()
	e := api.Enrolment{Worker: r.settings.agent.Worker, SHA256: hex.EncodeToString(hash[:])}
	for _, base := range r.settings.agent.URLs {
		if u, err := url.Parse(base); err == nil && exposed(u) {
			fmt.Fprintf(r.stderr, "agent: there is no TLS: whoever is between here and %s can read the token\n", u.Host)
		}
		// As run does, without a proxy.
		c, newErr := client.New(base, token, &client.Options{Transport: &http.Transport{TLSHandshakeTimeout: probeTimeout}})
		if newErr != nil {
			return key, unusable("%w", newErr)
		}
		if key, err = c.Enrol(ctx, e); err == nil || !errors.Is(err, client.ErrUnreachable) || ctx.Err() != nil {
			return key, err
		}
	}
	return key, err
}

// refused reports whether a controller has said that it makes no such key, and will not.
func refused(err error) bool {
	p, ok := errors.AsType[*worker.Problem](err)
	return ok && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests
}

// explain makes an error say what to do about it.
func (r *registration) explain(err error) error {
	s := r.settings
	p, ok := errors.AsType[*worker.Problem](err)
	if !ok || !refused(err) {
		return fmt.Errorf("%w; the same command can be repeated", err)
	}
	switch {
	case errors.Is(p, worker.ErrUnauthorized):
		return fmt.Errorf("the token is unknown, expired, used up or revoked, as slipway keys list tells; slipway keys create enroller --worker %s makes another: %w",
			s.agent.Worker, err)
	case p.Status == http.StatusForbidden:
		return unusable("%s: %s is not a name that this token can be used for: %w", s.called("name"), s.agent.Worker, err)
	case p.Status == http.StatusConflict:
		return unusable("%s: worker %s has a key already: find it with slipway keys list and revoke it, or choose another name: %w",
			s.called("name"), s.agent.Worker, err)
	case p.Status == http.StatusNotFound, p.Status == http.StatusMethodNotAllowed:
		return fmt.Errorf("what answers there takes no enrolment tokens: name a controller with -url, or let slipway keys create worker make the credential: %w", err)
	default:
		return err
	}
}
