package lightmem

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// The contract vectors of all clients; their README describes the format.
const vectorFolder = "../../tests/contract/vectors"

type vectorFile struct {
	Format  int
	Vectors []struct {
		Name  string
		Steps []step
	}
}

type step struct {
	Call           string
	Requests       []map[string]any
	Key            any
	Authorization  *string
	TimeoutSeconds *float64
	Responses      []any
	Last           any
	Error          map[string]any
}

// serverClient speaks to the real server that the tests are run beside.
func serverClient(t *testing.T, options ...Option) *Client {
	t.Helper()
	if os.Getenv("LIGHTMEM_TARGET") == "" {
		t.Skip("LIGHTMEM_TARGET names no server; `make test-clients` starts one")
	}
	c, err := New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestContractVectors(t *testing.T) {
	c := serverClient(t)
	paths, err := filepath.Glob(filepath.Join(vectorFolder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in %s: %v", vectorFolder, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file vectorFile
		if err := json.Unmarshal(content, &file); err != nil || file.Format != 1 {
			t.Fatalf("%s: format %d, %v", path, file.Format, err)
		}
		for _, vector := range file.Vectors {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".json")+": "+vector.Name, func(t *testing.T) {
				n := newNames()
				for i, step := range vector.Steps {
					if err := n.play(c, step); err != nil {
						t.Fatalf("step %d, %s: %v", i+1, step.Call, err)
					}
				}
			})
		}
	}
}

// bytesCodec leaves messages as they are, so that also what is no message can be sent.
type bytesCodec struct{}

func (bytesCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte{}, data...)
	return nil
}
func (bytesCodec) Name() string { return "proto" }

// names is what one playing of one vector knows: values of its own, and what it captured.
type names struct {
	run      string
	captured map[string]any
}

func newNames() *names {
	var run [6]byte
	_, _ = rand.Read(run[:])
	return &names{run: hex.EncodeToString(run[:]), captured: map[string]any{}}
}

func (n *names) play(c *Client, step step) error {
	responses, failed, err := n.send(c, step)
	if err != nil {
		return err
	}
	switch {
	case failed == nil && step.Error != nil:
		return fmt.Errorf("succeeded instead of failing with %v", step.Error)
	case failed != nil && step.Error == nil:
		return failed
	case failed != nil:
		described := map[string]any{"status": statusName(failed.Status), "reason": failed.Reason, "field": failed.Field}
		if err := n.match(step.Error, described, "$error"); err != nil {
			return err
		}
	}
	if step.Last == nil {
		return n.match(step.Responses, responses, "$responses")
	}
	if len(responses) == 0 {
		return errors.New("there is no last response")
	}
	return n.match(step.Last, responses[len(responses)-1], "$last")
}

// statusName is CANCELLED for Canceled, NOT_FOUND for NotFound.
func statusName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(code.String(), "${1}_$2"))
}

// send calls every method as a stream, which is the same on the wire.
func (n *names) send(c *Client, step step) (responses []any, failed *Error, err error) {
	service, name, _ := strings.Cut(step.Call, "/")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, nil, err
	}
	method := descriptor.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	timeout := time.Minute
	if step.TimeoutSeconds != nil {
		timeout = time.Duration(*step.TimeoutSeconds * float64(time.Second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if ctx, err = n.authorize(ctx, c, step); err != nil {
		return nil, nil, err
	}
	stream, err := c.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/"+step.Call, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		return []any{}, toError(ctx, err), nil
	}
	for _, request := range step.Requests {
		data, err := n.encode(method.Input(), request)
		if err != nil {
			return nil, nil, err
		}
		if stream.SendMsg(&data) != nil {
			break // what ended it, RecvMsg says
		}
	}
	_ = stream.CloseSend()
	responses = []any{}
	for {
		var data []byte
		if err := stream.RecvMsg(&data); errors.Is(err, io.EOF) {
			return responses, nil, nil
		} else if err != nil {
			return responses, toError(ctx, err), nil
		}
		response, err := decode(method.Output(), data)
		if err != nil {
			return nil, nil, err
		}
		responses = append(responses, response)
	}
}

func (n *names) authorize(ctx context.Context, c *Client, step step) (context.Context, error) {
	if step.Authorization != nil {
		if *step.Authorization == "" {
			return ctx, nil
		}
		return metadata.AppendToOutgoingContext(ctx, "authorization", *step.Authorization), nil
	}
	if step.Key != nil {
		return metadata.AppendToOutgoingContext(ctx, "authorization", fmt.Sprint("Bearer ", n.resolve(step.Key))), nil
	}
	return c.authorize(ctx)
}

func (n *names) encode(kind protoreflect.MessageDescriptor, request map[string]any) ([]byte, error) {
	if raw, is := request["$raw"]; is {
		return base64.StdEncoding.DecodeString(raw.(string))
	}
	message, err := newMessage(kind)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(n.resolve(request))
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(text, message); err != nil {
		return nil, err
	}
	return proto.Marshal(message)
}

func decode(kind protoreflect.MessageDescriptor, data []byte) (value any, err error) {
	message, err := newMessage(kind)
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(data, message); err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	return value, json.Unmarshal(text, &value)
}

func newMessage(kind protoreflect.MessageDescriptor) (proto.Message, error) {
	message, err := protoregistry.GlobalTypes.FindMessageByName(kind.FullName())
	if err != nil {
		return nil, err
	}
	return message.New().Interface(), nil
}

// resolve fills in placeholders.
func (n *names) resolve(value any) any {
	switch value := value.(type) {
	case map[string]any:
		if name, is := value["$fresh"]; is {
			return fmt.Sprintf("%s-%s", name, n.run)
		}
		if name, is := value["$ref"]; is {
			return n.captured[name.(string)]
		}
		if text, is := value["$repeat"].(string); is {
			return strings.Repeat(text, int(value["count"].(float64)))
		}
		resolved := make(map[string]any, len(value))
		for key, item := range value {
			resolved[key] = n.resolve(item)
		}
		return resolved
	case []any:
		resolved := []any{}
		for _, item := range value {
			count := 1
			if object, is := item.(map[string]any); is && object["$repeat"] != nil {
				count, item = int(object["count"].(float64)), object["$repeat"]
			}
			for range count {
				resolved = append(resolved, n.resolve(item))
			}
		}
		return resolved
	}
	return value
}

var kinds = map[string]func(any) bool{
	"string":   func(value any) bool { _, is := value.(string); return is },
	"number":   isNumber,
	"time":     like(`^\d{4}-\d\d-\d\dT[0-9:.]+Z$`),
	"duration": like(`^\d+(\.\d+)?s$`),
	"list":     func(value any) bool { _, is := value.([]any); return is },
	"object":   func(value any) bool { _, is := value.(map[string]any); return is },
}

func isNumber(value any) bool {
	_, is := value.(float64)
	return is || like(`^-?\d+$`)(value) // 64-bit ones are text
}

func like(pattern string) func(any) bool {
	compiled := regexp.MustCompile(pattern)
	return func(value any) bool {
		text, is := value.(string)
		return is && compiled.MatchString(text)
	}
}

// match holds an answer against what is expected; fields that are not named are not judged.
func (n *names) match(expected, actual any, path string) error {
	switch expected := expected.(type) {
	case map[string]any:
		if name, is := expected["$capture"]; is {
			if actual == nil || actual == "" {
				return fmt.Errorf("%s: nothing to capture as %v", path, name)
			}
			n.captured[name.(string)] = actual
			return nil
		}
		if kind, is := expected["$any"]; is {
			if !kinds[kind.(string)](actual) {
				return fmt.Errorf("%s: %v is no %v", path, actual, kind)
			}
			return nil
		}
		if expected["$fresh"] != nil || expected["$ref"] != nil {
			return n.match(n.resolve(expected), actual, path)
		}
		object, is := actual.(map[string]any)
		if !is {
			return fmt.Errorf("%s: %v is no object", path, actual)
		}
		for key, item := range expected {
			if err := n.match(item, object[key], path+"."+key); err != nil {
				return err
			}
		}
		return nil
	case []any:
		list, is := actual.([]any)
		if !is || len(list) != len(expected) {
			return fmt.Errorf("%s: %v has not %d items", path, actual, len(expected))
		}
		for i, item := range expected {
			if err := n.match(item, list[i], fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if expected != actual {
		return fmt.Errorf("%s: %#v instead of %#v", path, actual, expected)
	}
	return nil
}
