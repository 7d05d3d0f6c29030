package lightmem

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// authority is a private certificate authority, made for one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newPrivateKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	data, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(data)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

// issue gives a certificate for this machine, good for a server and for a client.
func (a *authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key := newPrivateKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	data, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{data}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func newPrivateKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newTLSPeer is a peer with a certificate of ours; with `clients` it asks for one of theirs.
func newTLSPeer(t *testing.T, ours, clients *authority) *peer {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ours.issue(t)}}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool()
	}
	return newPeer(t, grpc.Creds(credentials.NewTLS(config)))
}

func checkWorks(t *testing.T, p *peer, config *tls.Config) {
	t.Helper()
	c := p.client(t, WithTLS(config))
	writer, err := c.OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Send(t.Context(), Text("hello")); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
}

// checkRefused sees that nothing was sent, and that the error is typed and, where this end finds out, says what is wrong.
func checkRefused(t *testing.T, p *peer, says string, options ...Option) {
	t.Helper()
	_, err := p.client(t, options...).Write(t.Context(), []Turn{{Text: "secret"}})
	var failure *Error
	if !errors.Is(err, ErrUnavailable) || !errors.As(err, &failure) || failure.Reason != "UNREACHABLE" ||
		!strings.Contains(failure.Message, says) || p.callCount() != 0 {
		t.Fatalf("%v, %d calls", err, p.callCount())
	}
}

func TestServerOfAPrivateAuthorityIsSpokenToOverTLS(t *testing.T) {
	ours := newAuthority(t, "ours")
	checkWorks(t, newTLSPeer(t, ours, nil), &tls.Config{RootCAs: ours.pool()})
}

func TestServerOfAnUnknownAuthorityIsNotSpokenTo(t *testing.T) {
	p := newTLSPeer(t, newAuthority(t, "ours"), nil)
	for _, config := range []*tls.Config{{RootCAs: newAuthority(t, "others").pool()}, {}} {
		checkRefused(t, p, "certificate signed by unknown authority", WithTLS(config))
	}
}

func TestServerWithAnotherNameIsNotSpokenTo(t *testing.T) {
	ours := newAuthority(t, "ours")
	config := &tls.Config{RootCAs: ours.pool(), ServerName: "memory.example.org"}
	checkRefused(t, newTLSPeer(t, ours, nil), "not memory.example.org", WithTLS(config))
}

func TestPlainTextIsNotSpokenToAServerWithTLS(t *testing.T) {
	checkRefused(t, newTLSPeer(t, newAuthority(t, "ours"), nil), "", WithPlainText())
}

func TestServerThatAsksForACertificateGetsIt(t *testing.T) {
	ours, clients := newAuthority(t, "ours"), newAuthority(t, "clients")
	config := &tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{clients.issue(t)}}
	checkWorks(t, newTLSPeer(t, ours, clients), config)
}

func TestServerThatAsksForACertificateRefusesOthers(t *testing.T) {
	ours, clients := newAuthority(t, "ours"), newAuthority(t, "clients")
	p := newTLSPeer(t, ours, clients)
	wrong := []tls.Certificate{newAuthority(t, "others").issue(t)}
	checkRefused(t, p, "", WithTLS(&tls.Config{RootCAs: ours.pool()}))
	checkRefused(t, p, "", WithTLS(&tls.Config{RootCAs: ours.pool(), Certificates: wrong}))
}
