// Package s3 keeps published objects in a bucket of an S3-compatible store, for houses whose edges stand elsewhere.
//
// Invariant: that of publish.Store, by conditional writes: an object is put only where there is none (If-None-Match: *),
// and an object that is there already is compared byte by byte. The media type, the lifetime and the purge key go with
// the object, so that a CDN in front of the bucket needs no rules of its own.
//
// Refuses: plain HTTP to anything but loopback unless told so, a bucket that is not there, to make or to change buckets,
// credentials in its configuration's text (they come from a file).
package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bulkhead"
	"bulkhead/publish"
)

// Config says where the bucket is. Endpoint, Bucket, AccessKey and SecretKey are required.
type Config struct {
	Endpoint  string // HOST:PORT or HOST
	Bucket    string
	Prefix    string // before every name, for several houses in one bucket; "" or "house1/"
	Region    string // "us-east-1" when empty
	AccessKey string
	SecretKey string
	Insecure  bool   // plain HTTP
	RootsPEM  []byte // trust anchors of the endpoint; the system's when empty
}

// maxObject bounds what Get reads into memory; packs are streamed by Open.
const maxObject = 1 << 30

// requestTimeout bounds the wait for the first octet of an answer.
const requestTimeout = 30 * time.Second

// Bucket is a publish.Store in a bucket.
type Bucket struct {
	core   minio.Core
	bucket string
	prefix string
}

var _ publish.Store = (*Bucket)(nil)

// Open checks the configuration and that the bucket is there.
func Open(ctx context.Context, c Config) (*Bucket, error) {
	if c.Endpoint == "" || c.Bucket == "" || c.AccessKey == "" || c.SecretKey == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "object store: endpoint, bucket, access key and secret key are required").WithHint("complete the file that objects names")
	}
	if c.Insecure && !loopback(c.Endpoint) {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "object store: plain HTTP to %s would show the credentials to the network", c.Endpoint).WithHint("use https, or an endpoint on loopback")
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	transport := &http.Transport{Proxy: nil, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: requestTimeout, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute, DisableCompression: true}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(c.RootsPEM) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(c.RootsPEM) {
			return nil, bulkhead.NewFault(bulkhead.KindUsage, "object store: the file of trust anchors holds no certificate")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Secure: !c.Insecure, Region: c.Region, Transport: transport, BucketLookup: minio.BucketLookupPath})
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "object store: %s is no endpoint", c.Endpoint).WithCause(err)
	}
	b := &Bucket{core: minio.Core{Client: client}, bucket: c.Bucket, prefix: c.Prefix}
	there, err := client.BucketExists(ctx, c.Bucket)
	if err != nil {
		return nil, trouble("look at bucket "+c.Bucket, err)
	}
	if !there {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "object store: there is no bucket %s", c.Bucket).WithHint("make the bucket; bulkhead makes none")
	}
	return b, nil
}

func loopback(endpoint string) bool {
	host := endpoint
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (b *Bucket) key(name string) string { return b.prefix + name }

// headName is the one mutable object.
const headName = "head"

// Put implements publish.Store.
func (b *Bucket) Put(ctx context.Context, o publish.Object) error {
	if err := publish.CheckName(o.Name); err != nil {
		return err
	}
	if o.Body == nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "object %s has no body", o.Name)
	}
	size, err := o.Body.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = o.Body.Seek(0, io.SeekStart)
	}
	if err != nil {
		return trouble("read "+o.Name, err)
	}
	opts := minio.PutObjectOptions{ContentType: o.Type, CacheControl: o.CacheControl, DisableMultipart: true}
	if o.SurrogateKey != "" {
		opts.UserMetadata = map[string]string{"surrogate-key": o.SurrogateKey}
	}
	opts.SetMatchETagExcept("*")
	_, err = b.core.Client.PutObject(ctx, b.bucket, b.key(o.Name), io.NopCloser(o.Body), size, opts)
	switch code(err) {
	case "":
		return nil
	case "PreconditionFailed", "ConditionalRequestConflict":
		return b.same(ctx, o)
	}
	// A server may refuse while the body is still being sent, and the connection breaks before the answer is read; or the
	// object was stored and only the answer is lost. What is there decides.
	if there := b.same(ctx, o); ctx.Err() == nil && bulkhead.KindOf(there) != bulkhead.KindNotFound && bulkhead.KindOf(there) != bulkhead.KindUnavailable {
		return there
	}
	return trouble("put "+o.Name, err)
}

// How often and after what time an object is looked for that another writer is just storing: some stores take the name
// before they show the object.
const (
	lookAgain  = 40
	lookPauses = 25 * time.Millisecond
)

// same decides about a name that is taken: the same bytes are no error. KindNotFound when nothing is there after all.
func (b *Bucket) same(ctx context.Context, o publish.Object) error {
	there, _, err := b.Open(ctx, o.Name)
	for i := 0; i < lookAgain && bulkhead.KindOf(err) == bulkhead.KindNotFound && ctx.Err() == nil; i++ {
		time.Sleep(lookPauses)
		there, _, err = b.Open(ctx, o.Name)
	}
	if err != nil {
		return err
	}
	defer there.Close()
	if _, err := o.Body.Seek(0, io.SeekStart); err != nil {
		return trouble("read "+o.Name, err)
	}
	equal, err := equalStreams(there, o.Body)
	if err != nil {
		return trouble("compare "+o.Name, err)
	}
	if !equal {
		return bulkhead.Faultf(bulkhead.KindConflict, "object %s exists with other bytes", o.Name).WithHint("objects never change: publish under a new name")
	}
	return nil
}

func equalStreams(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, erra := io.ReadFull(a, x)
		m, errb := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if ended(erra) && ended(errb) {
			return true, nil
		}
		if erra != nil || errb != nil {
			return false, errors.Join(erra, errb)
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// SetHead implements publish.Store. Nothing in front of the bucket may keep the head.
func (b *Bucket) SetHead(ctx context.Context, signed []byte) error {
	_, err := b.core.Client.PutObject(ctx, b.bucket, b.key(headName), bytes.NewReader(signed), int64(len(signed)),
		minio.PutObjectOptions{ContentType: "text/plain; charset=utf-8", CacheControl: "no-cache", DisableMultipart: true})
	if err != nil {
		return trouble("set head", err)
	}
	return nil
}

// Get implements publish.Reader.
func (b *Bucket) Get(ctx context.Context, name string) ([]byte, error) {
	if err := publish.CheckName(name); err != nil {
		return nil, err
	}
	return b.get(ctx, name)
}

func (b *Bucket) get(ctx context.Context, name string) ([]byte, error) {
	r, size, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > maxObject {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "object %s has %d octets, more than are read at once", name, size)
	}
	body, err := io.ReadAll(io.LimitReader(r, size+1))
	if err == nil && int64(len(body)) != size {
		err = fmt.Errorf("%d of %d octets arrived", len(body), size)
	}
	if err != nil {
		return nil, trouble("read "+name, err)
	}
	return body, nil
}

// Open implements publish.Reader.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := publish.CheckName(name); err != nil {
		return nil, 0, err
	}
	return b.open(ctx, name)
}

func (b *Bucket) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	body, info, _, err := b.core.GetObject(ctx, b.bucket, b.key(name), minio.GetObjectOptions{})
	switch code(err) {
	case "":
		return body, info.Size, nil
	case "NoSuchKey":
		return nil, 0, bulkhead.Faultf(bulkhead.KindNotFound, "object %s is not published", name).WithCause(err)
	}
	return nil, 0, trouble("open "+name, err)
}

// Head implements publish.Reader.
func (b *Bucket) Head(ctx context.Context) ([]byte, error) { return b.get(ctx, headName) }

// List implements publish.Store.
func (b *Bucket) List(ctx context.Context, prefix string) ([]publish.Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out []publish.Info
	for o := range b.core.Client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true}) {
		if o.Err != nil {
			return nil, trouble("list", o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.prefix)
		if publish.CheckName(name) != nil {
			continue // the head, and what is not ours
		}
		out = append(out, publish.Info{Name: name, Size: o.Size, At: o.LastModified.UTC()})
	}
	if err := ctx.Err(); err != nil {
		return nil, trouble("list", err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Delete implements publish.Store.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := publish.CheckName(name); err != nil {
		return err
	}
	err := b.core.Client.RemoveObject(ctx, b.bucket, b.key(name), minio.RemoveObjectOptions{})
	if err != nil && code(err) != "NoSuchKey" {
		return trouble("delete "+name, err)
	}
	return nil
}

// code is the error code of the store, "" for no error.
func code(err error) string {
	if err == nil {
		return ""
	}
	r := minio.ToErrorResponse(err)
	switch {
	case r.StatusCode == http.StatusPreconditionFailed:
		return "PreconditionFailed"
	case r.Code != "":
		return r.Code
	default:
		return "none"
	}
}

func trouble(what string, err error) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "object store: %s", what).WithHint("look at the object store and the file of its credentials").WithCause(err)
}
