package memauth_test

import (
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/authtest"
	"github.com/slipway-build/slipway/auth/memauth"
)

func TestBackend(t *testing.T) {
	authtest.Run(t, func(*testing.T) auth.Backend { return memauth.New() })
}
