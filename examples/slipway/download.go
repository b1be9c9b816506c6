package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
)

type downloadCommand struct {
	Output string `short:"o" default:"." placeholder:"DIR" help:"Directory to save below; it is created if need be. Default: the current one."`
	Epoch  int64  `placeholder:"N" help:"The attempt, by its epoch. Default: the newest."`
	Force  bool   `help:"Replace files that exist."`

	ID    queue.ID `arg:"" name:"id" help:"The build."`
	Names []string `arg:"" optional:"" name:"name" help:"Artifacts to save. Default: all."`
}

// A savedFile is an artifact on this machine's disk.
type savedFile struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Epoch  int64  `json:"epoch"`
}

// Run saves artifacts.
func (d *downloadCommand) Run(in *invocation) error {
	if d.Epoch < 0 {
		return usage("--epoch must be a positive number; slipway show %s lists the attempts", d.ID)
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	wanted, err := d.choose(in, c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Output, 0o777); err != nil { //nolint:gosec // the umask decides, as for any file a user makes
		return fmt.Errorf("cannot save below %s: %w", d.Output, err)
	}
	root, err := os.OpenRoot(d.Output)
	if err != nil {
		return fmt.Errorf("cannot save below %s: %w", d.Output, err)
	}
	defer root.Close()
	files := []savedFile{}
	for _, a := range wanted {
		if err := d.save(in, c, root, a); err != nil {
			return err
		}
		file := savedFile{Name: a.Name, Path: filepath.Join(d.Output, filepath.FromSlash(a.Name)), Size: a.Size, SHA256: a.SHA256, Epoch: a.Epoch}
		files = append(files, file)
		if !in.json {
			fmt.Fprintln(in.stdout, file.Path)
		}
	}
	if in.json {
		return in.document(struct {
			ID    queue.ID    `json:"id"`
			Files []savedFile `json:"files"`
		}{d.ID, files})
	}
	return nil
}

// choose returns the artifacts that were asked for.
func (d *downloadCommand) choose(in *invocation, c *client.Client) ([]api.Artifact, error) {
	all, err := c.Artifacts(in.ctx, d.ID, d.Epoch)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("build %s has no artifacts; name files to keep with --artifact when you submit, and see slipway logs %s", d.ID, d.ID)
	}
	wanted := all
	if len(d.Names) > 0 {
		wanted = nil
	}
	for _, name := range d.Names {
		i := slices.IndexFunc(all, func(a api.Artifact) bool { return a.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("build %s has no artifact %q; slipway download %s saves the %s that it has", d.ID, name, d.ID, count(len(all), "artifact"))
		}
		wanted = append(wanted, all[i])
	}
	for _, a := range wanted {
		if !filepath.IsLocal(filepath.FromSlash(a.Name)) || path.Clean(a.Name) != a.Name {
			return nil, fmt.Errorf("artifact %q would be saved outside of %s: it is not touched", a.Name, d.Output)
		}
	}
	return wanted, nil
}

// save downloads one artifact to a temporary file beside its place and puts it there when it is whole.
func (d *downloadCommand) save(in *invocation, c *client.Client, root *os.Root, a api.Artifact) (err error) {
	name := filepath.FromSlash(a.Name)
	if _, err := root.Lstat(name); err == nil && !d.Force {
		return d.exists(a.Name)
	}
	dir := filepath.Dir(name)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("cannot save %q below %s: %w", a.Name, d.Output, err)
	}
	temp := filepath.Join(dir, ".slipway-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return fmt.Errorf("cannot save %q below %s: %w", a.Name, d.Output, err)
	}
	defer func() {
		_ = f.Close()
		_ = root.Remove(temp) // after a rename there is none
	}()
	p := in.progress(a.Name, a.Size)
	err = c.Fetch(in.ctx, d.ID, a, io.MultiWriter(f, p))
	p.end()
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot save %q below %s: %w", a.Name, d.Output, err)
	}
	return d.publish(root, temp, name)
}

// publish gives a file its name. Without force a file that has appeared there meanwhile stays.
func (d *downloadCommand) publish(root *os.Root, temp, name string) error {
	move := root.Link
	if d.Force {
		move = root.Rename
	}
	err := move(temp, name)
	if errors.Is(err, fs.ErrExist) {
		return d.exists(name)
	}
	if err != nil {
		return fmt.Errorf("cannot save %q below %s: %w", name, d.Output, err)
	}
	return nil
}

func (d *downloadCommand) exists(name string) error {
	return fmt.Errorf("%s exists; --force replaces it, -o saves elsewhere", filepath.Join(d.Output, name))
}
