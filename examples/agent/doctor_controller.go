package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

const (
	// probeTimeout is how long each look at a controller may take.
	probeTimeout = 10 * time.Second
	// skew is how far clocks may differ without a word; leases do not go by them.
	skew = time.Minute
	// probeProtocol is no version of the worker protocol, so that a controller refuses it once it knows who asks, and says what it speaks.
	probeProtocol = "slipway.doctor"
)

// checkController looks at one controller as an agent would meet it: no proxy is used and no redirect followed.
func (d *doctor) checkController(ctx context.Context, base string) {
	u, err := url.Parse(base)
	if err != nil {
		return // checkURLs has said so
	}
	u = u.JoinPath("/")
	if !d.checkNetwork(ctx, u) {
		return
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: probeTimeout},
		Timeout:       probeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if d.checkLive(ctx, client, u) {
		d.checkHandshake(ctx, client, u)
	}
}

// checkNetwork goes as far as a connection.
func (d *doctor) checkNetwork(ctx context.Context, u *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if net.ParseIP(u.Hostname()) == nil {
		addresses, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		if err != nil {
			d.fail("dns "+u.Host, "getent hosts "+u.Hostname(), "%v", err)
			return false
		}
		d.ok("dns "+u.Host, "%s", strings.Join(addresses, ", "))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		d.fail("tcp "+u.Host, fmt.Sprintf("nc -vz %s %s", u.Hostname(), port), "%v", err)
		return false
	}
	defer conn.Close()
	d.ok("tcp "+u.Host, "%s", conn.RemoteAddr())
	if u.Scheme != "https" {
		if exposed(u) {
			d.warn("tls "+u.Host, "agent -url https://"+u.Host, "there is none: whoever is between here and the controller can read the credential")
		}
		return true
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		d.fail("tls "+u.Host, fmt.Sprintf("openssl s_client -connect %s:%s -servername %[1]s", u.Hostname(), port), "%v", err)
		return false
	}
	state := secure.ConnectionState()
	d.ok("tls "+u.Host, "%s, certificate good until %s", tls.VersionName(state.Version), state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	return true
}

// exposed reports whether what is sent to an address can be read on the way.
func exposed(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme != "https" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// checkLive asks whether a controller serves there, and what time it has.
func (d *doctor) checkLive(ctx context.Context, client *http.Client, u *url.URL) bool {
	live := u.JoinPath("livez").String()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, live, nil)
	if err != nil {
		d.fail("live "+u.Host, "curl -i "+live, "%v", err)
		return false
	}
	before := time.Now()
	resp, err := client.Do(req)
	took := time.Since(before)
	if err != nil {
		d.fail("live "+u.Host, "curl -i "+live, "%v", err)
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		// A service that embeds a hub need not have this page.
		d.warn("live "+u.Host, "curl -i "+live, "%s answers %s", live, resp.Status)
	} else {
		d.ok("live "+u.Host, "answers in %v", took.Round(time.Millisecond))
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return true
	}
	off := before.Add(took / 2).Sub(theirs)
	if off.Abs() > skew+took {
		d.warn("clock "+u.Host, "timedatectl set-ntp true", "this machine's clock is %v %s the controller's", off.Abs().Round(time.Second), ahead(off))
	} else {
		d.ok("clock "+u.Host, "like the controller's")
	}
	return true
}

func ahead(off time.Duration) string {
	if off > 0 {
		return "ahead of"
	}
	return "behind"
}

// checkHandshake asks for a version of the protocol that does not exist. A controller knows who asks before it looks at that, and
// refuses it, so that an agent that runs with the same credential keeps its session.
func (d *doctor) checkHandshake(ctx context.Context, client *http.Client, u *url.URL) {
	name := "credential " + u.Host
	resp, err := d.handshake(ctx, client, u)
	if err != nil {
		d.fail(name, "curl -i "+u.JoinPath("readyz").String(), "%v", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusBadRequest {
		d.fail(name, "agent doctor -url with the address of a controller", "what answers there is no controller: %s", resp.Status)
		return
	}
	problem := worker.ReadProblem(resp)
	switch {
	case errors.Is(problem, worker.ErrUnauthorized), errors.Is(problem, worker.ErrForbidden):
		d.fail(name, d.settings.newKey(), "%v", problem)
	case resp.StatusCode == http.StatusUpgradeRequired && len(problem.Supported) > 0:
		if made := problem.Worker; made != "" && made != d.settings.agent.Worker {
			d.fail(name, fmt.Sprintf("-name %s, or %s", made, d.settings.newKey()), "it was made for worker %s, and %s is %s", made, d.settings.called("name"),
				d.settings.agent.Worker)
		} else {
			d.ok(name, "accepted")
		}
		d.checkProtocol(u, problem)
	case resp.StatusCode == http.StatusServiceUnavailable:
		d.warn(name, "curl -i "+u.JoinPath("readyz").String(), "the controller is not ready: %v", problem)
	default:
		d.fail(name, "agent doctor -url with the address of a controller", "what answers there is no controller: %v", problem)
	}
}

func (d *doctor) handshake(ctx context.Context, client *http.Client, u *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("v1/worker/connect").String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+string(d.settings.agent.Credential))
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "c2xpcHdheS1kb2N0b3ItMQ==")
	req.Header.Set("Sec-WebSocket-Protocol", probeProtocol)
	return client.Do(req)
}

// checkProtocol looks at why a controller that has let the agent in has refused the version.
func (d *doctor) checkProtocol(u *url.URL, problem *worker.Problem) {
	name := "protocol " + u.Host
	common := slices.ContainsFunc(wire.Subprotocols(), func(version string) bool { return slices.Contains(problem.Supported, version) })
	switch {
	case problem.Code == "handshake":
		d.fail(name, "have the proxy pass the headers Connection and Upgrade on", "a handshake of WebSocket does not arrive as one: %v", problem)
	case !common:
		d.fail(name, "install the agent of the controller's version", "the controller speaks %s, this agent %s",
			strings.Join(problem.Supported, ", "), strings.Join(wire.Subprotocols(), ", "))
	default:
		d.ok(name, "%s", strings.Join(problem.Supported, ", "))
	}
}

// newKey is the command that makes a credential for this worker.
func (s *settings) newKey() string {
	return fmt.Sprintf("slipway keys create worker --worker %s -o FILE, and -key-file FILE", s.agent.Worker)
}
