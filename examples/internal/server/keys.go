package server

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
)

type createKeyInput struct{ Body api.NewKey }

type createKeyOutput struct {
	Location string `header:"Location"`
	Body     api.CreatedKey
}

func (s *Server) createKey(ctx context.Context, in *createKeyInput) (*createKeyOutput, error) {
	b := in.Body
	n := auth.NewKey{
		Name: b.Name, Role: auth.Role(b.Role), Project: b.Project, Worker: b.Worker, Pools: b.Pools, Uses: b.Uses,
		Lifetime: time.Duration(b.ExpiresInMS) * time.Millisecond,
	}
	roles := map[auth.Kind]auth.Role{auth.KindWorker: auth.Worker, auth.KindEnrol: auth.Enroller}
	if role, fixed := roles[auth.Kind(b.Kind)]; fixed {
		if b.Role != "" {
			return nil, invalid("role must be left out for kind " + b.Kind)
		}
		n.Role = role
	}
	key, secret, err := s.Keys.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	s.opts.Logger.InfoContext(ctx, "key created", "key_id", key.ID, "role", string(key.Role), "project", key.Project,
		"worker", key.Worker, "by", callerOf(ctx).KeyID, "request_id", requestID(ctx))
	return &createKeyOutput{Location: "/v1/keys/" + key.ID, Body: api.CreatedKey{Key: keyOf(key), Secret: secret.Reveal()}}, nil
}

type listKeysInput struct {
	Project string `query:"project" doc:"Only keys of this project. Default: of all and none."`
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Largest number of keys."`
	Cursor  string `query:"cursor" doc:"next_cursor of the page before."`
}

type listKeysOutput struct{ Body api.KeyPage }

func (s *Server) listKeys(ctx context.Context, in *listKeysInput) (*listKeysOutput, error) {
	filter := auth.Filter{Project: in.Project, Limit: in.Limit}
	if in.Cursor != "" {
		var err error
		if filter.Before, err = parseKeyCursor(in.Cursor); err != nil {
			return nil, err
		}
	}
	keys, err := s.Keys.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := api.KeyPage{Keys: make([]api.Key, len(keys))}
	for i, k := range keys {
		page.Keys[i] = keyOf(k)
	}
	if len(keys) == in.Limit {
		page.NextCursor = keyCursor(keys[len(keys)-1].ID)
	}
	return &listKeysOutput{Body: page}, nil
}

type revokeKeyInput struct {
	ID string `path:"id" doc:"Id of the key."`
}

func (s *Server) revokeKey(ctx context.Context, in *revokeKeyInput) (*struct{}, error) {
	if err := s.Keys.Revoke(ctx, in.ID); err != nil {
		return nil, err
	}
	s.opts.Logger.InfoContext(ctx, "key revoked", "key_id", in.ID, "by", callerOf(ctx).KeyID, "request_id", requestID(ctx))
	return nil, nil
}
