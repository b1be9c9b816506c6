package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDataDirectory(t *testing.T) {
	data, address := filepath.Join(t.TempDir(), "deep", "data"), filepath.Join(t.TempDir(), "address")
	p := start(t, nil, "-data", data, "-addr-file", address)
	if text, err := os.ReadFile(address); err != nil || "http://"+string(text) != p.url+"\n" {
		t.Errorf("address %q (%v), url %s", text, err, p.url)
	}
	build := p.submit()

	second := launch(t, []string{adminKeyVariable + "=" + goodKey}, "-listen", "127.0.0.1:0", "-data", data)
	second.wantRefusal(1, "another controller")

	p.signal(syscall.SIGKILL)
	p.wait()
	p = start(t, nil, "-data", data, "-migrate=false")
	if got := p.status("/v1/builds/" + build.ID.String()); got != http.StatusOK {
		t.Errorf("after a restart the build is %d", got)
	}
	for path, mode := range map[string]os.FileMode{data: 0o700, filepath.Join(data, "queue.db"): 0o600, filepath.Join(data, "auth.db"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v (%v), want %v", path, info.Mode(), err, mode)
		}
	}

	empty := launch(t, []string{adminKeyVariable + "=" + goodKey}, "-listen", "127.0.0.1:0", "-migrate=false", "-data", filepath.Join(t.TempDir(), "new"))
	empty.wantRefusal(1, "database")
	occupied := launch(t, []string{adminKeyVariable + "=" + goodKey}, "-listen", strings.TrimPrefix(p.url, "http://"))
	occupied.wantRefusal(1, "address already in use")
}

// TestShutdown ends a controller while a reader waits for a log.
func TestShutdown(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := start(t, nil, "-drain-delay", "300ms", "-log-level", "debug")
		answers := make(chan string, 1)
		path := "/v1/builds/" + p.submit().ID.String() + "/log?wait_ms=30000"
		go func() {
			resp, err := p.request("GET", path, "")
			if err != nil {
				answers <- err.Error()
				return
			}
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			answers <- fmt.Sprint(resp.Status, err)
		}()
		p.signal(signal)
		p.eventually("not ready", func() bool { return p.status("/readyz") == http.StatusServiceUnavailable })
		if got := p.status("/v1/builds"); got != http.StatusOK {
			t.Errorf("before the end of the delay: status %d", got)
		}
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.stderr.String())
		}
		if got := <-answers; got != "200 OK<nil>" {
			t.Errorf("the reader got %s", got)
		}
		if text := p.stderr.String(); !strings.Contains(text, "msg=stopped") || strings.Contains(text, "level=ERROR") {
			t.Errorf("log:\n%s", text)
		}
	}
}

// dial opens a connection for a client that does not behave.
func (p *program) dial() net.Conn {
	p.t.Helper()
	conn, err := new(net.Dialer).DialContext(p.t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// stuck leaves an upload under way.
func stuck(t *testing.T, p *program) {
	t.Helper()
	conn := p.dial()
	fmt.Fprintf(conn, "PUT /v1/sources/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", p.key)
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, nil, "-shutdown-timeout", "1h")
	stuck(t, p)
	p.signal(syscall.SIGTERM)
	p.eventually("the shutdown", func() bool { return strings.Contains(p.stderr.String(), "shutting down") })
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code == 0 {
		t.Error("exit code 0")
	}
}

func TestShutdownIsBounded(t *testing.T) {
	p := start(t, nil, "-shutdown-timeout", "50ms")
	stuck(t, p)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 || !strings.Contains(p.stderr.String(), "cut off") {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pool := makeCertificate(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	p := launch(t, []string{adminKeyVariable + "=" + goodKey}, "-listen", "127.0.0.1:0",
		"-tls-cert", filepath.Join(dir, "cert.pem"), "-tls-key", filepath.Join(dir, "key.pem"), "-log-format", "json")
	p.eventually("the address, and a log", func() bool { return strings.Contains(p.stdout.String(), "\n") && p.stderr.String() != "" })
	p.url = strings.TrimSpace(strings.TrimPrefix(p.stdout.String(), "SLIPWAY_URL="))
	if !strings.HasPrefix(p.url, "https://") || !strings.HasPrefix(p.stderr.String(), "{") {
		t.Errorf("url %s, log %s", p.url, p.stderr.String())
	}
	get := func(o *tls.Config) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: o}}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/livez", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(&tls.Config{RootCAs: pool}); err != nil {
		t.Error(err)
	}
	if err := get(&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}); err != nil {
		t.Error(err)
	}
	if err := get(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is served")
	}
}

func makeCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool
}

// TestSlowHead: a head of a request that does not come is not waited for.
func TestSlowHead(t *testing.T) {
	p := start(t, nil, "-read-header-timeout", "50ms")
	conn := p.dial()
	fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	resp, err := p.request("GET", "/livez?x="+strings.Repeat("x", 80<<10), "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of 80 KiB: %s", resp.Status)
	}
}
