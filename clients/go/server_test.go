package lightmem

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lightmem/lightmem/clients/go/lightmempb"
)

// TestWholeAPI calls every method of the client on a real server.
func TestWholeAPI(t *testing.T) {
	ctx := t.Context()
	user := "ann-" + newNames().run
	c := serverClient(t, WithUserID(user))
	if err := c.WaitReady(ctx); err != nil || !c.IsHealthy(ctx) {
		t.Fatalf("not ready: %v", err)
	}
	moved := Turn{
		Text: "I moved to Rome", Speaker: "Ann", OccurredAt: time.Date(2024, 5, 8, 9, 0, 0, 0, time.UTC),
		Metadata: Metadata{"topic": "home", "year": 2024, "share": 0.5, "isDone": true},
	}
	stored, err := c.Write(ctx, []Turn{moved}, SessionID("monday"), RequestID("r1"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Write(ctx, []Turn{moved}, SessionID("monday"), RequestID("r1"))
	if err != nil || !again.GetIsReplay() || !slices.Equal(again.GetMemoryIds(), stored.GetMemoryIds()) {
		t.Fatalf("%v, %v", again, err)
	}
	writer, err := c.OpenWriter(SessionID("tuesday"))
	if err != nil {
		t.Fatal(err)
	}
	cello, err := writer.Send(ctx, Text("My brother plays the cello"))
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if result, err := cello.Result(ctx); err != nil || len(result.GetMemoryIds()) != 1 {
		t.Fatalf("%v, %v", result, err)
	}
	id := stored.GetMemoryIds()[0]
	options := []RetrieveOption{
		MaxMemories(1), MaxCandidates(8), MaxTokens(200), Deadline(10 * time.Second), Where(Or(Meta("topic").Eq("home"),
			And(Meta("year").Gt(2025), Not(Meta("isDone").Eq(true))))), AskedAt(moved.OccurredAt), TimeZone("Europe/Rome"),
		Mode(SelectorModeFull), MinRelevance(0), IncludeCoarse(), ExcludeContext(), ExcludeShared(), Tokenizer("builtin"),
	}
	answer, err := c.Retrieve(ctx, "Where do I live?", options...)
	if err != nil || len(answer.Memories) != 1 || answer.Memories[0].GetMemory().GetId() != id || len(answer.Coarse) != 1 ||
		len(answer.Context) != 0 || !strings.Contains(answer.PackedContext, "Rome") || answer.Trace.GetMatchedCount() != 1 {
		t.Fatalf("%+v, %v", answer, err)
	}
	brief, err := c.Retrieve(ctx, "Where do I live?", ExcludeTrace())
	if err != nil || brief.Memories[0].GetMemory().GetId() != id || brief.Trace != nil {
		t.Fatalf("%+v, %v", brief, err)
	}
	var parts int
	for part, err := range c.RetrieveStream(ctx, "Who plays?", SessionID("tuesday")) {
		if err != nil {
			t.Fatal(err)
		}
		if context, is := part.GetPart().(*lightmempb.RetrieveResponse_Context); is != (parts == 0) {
			t.Fatalf("part %d is %v", parts, context)
		}
		parts++
	}
	if parts != 3 {
		t.Fatalf("%d parts", parts)
	}
	explained, err := c.Explain(ctx, "Where do I live?", id, ExcludeContext(), Deadline(10*time.Second))
	if err != nil || explained.GetReachedStage() != "returned" {
		t.Fatalf("%v, %v", explained, err)
	}
	memory, err := c.Get(ctx, id)
	if err != nil || memory.GetText() != moved.Text || !memory.GetOccurredAt().AsTime().Equal(moved.OccurredAt) ||
		MetadataOf(memory)["year"] != int64(2024) {
		t.Fatalf("%v, %v", memory, err)
	}
	pinned := true
	memory, err = c.Update(ctx, id, MemoryChanges{
		IsPinned: &pinned, Metadata: Metadata{}, ExpiresAt: &time.Time{}, ExpectedVersion: memory.GetVersion(),
	})
	if err != nil || !memory.GetIsPinned() || len(memory.GetMetadata()) != 0 {
		t.Fatalf("%v, %v", memory, err)
	}
	if _, err := c.Update(ctx, id, MemoryChanges{IsPinned: &pinned, ExpectedVersion: 1}); !errors.Is(err, ErrAborted) {
		t.Fatalf("%v", err)
	}
	if versions, err := c.History(ctx, id); err != nil || len(versions) != 2 || versions[0].GetCause() != "write" {
		t.Fatalf("%v, %v", versions, err)
	}
	if turns, err := c.GetContext(ctx, "monday", 0); err != nil || len(turns) != 1 {
		t.Fatalf("%v, %v", turns, err)
	}
	var texts []string
	for memory, err := range c.List(ctx, PageSize(1), Filter(MemoryFilter{Kinds: []Kind{KindTurn}, Tiers: []Tier{TierMTM}})) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, memory.GetText())
	}
	if !slices.Equal(texts, []string{"My brother plays the cello", "I moved to Rome"}) {
		t.Fatalf("%v", texts)
	}
	operate(t, c, user)
	if err := c.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("%v", err)
	}
	var lines []string
	for part, err := range c.ExportUser(ctx, user) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, part.GetJsonLines()...)
	}
	if receipt, err := c.EraseUser(ctx, user); err != nil || receipt.GetMemoryCount() == 0 {
		t.Fatalf("%v, %v", receipt, err)
	}
	if result, err := c.ImportUser(ctx, user, slices.Values(lines)); err != nil || result.GetImportedCount() == 0 {
		t.Fatalf("%v, %v", result, err)
	}
	refused := slices.Values([]string{"no line of an export"})
	if _, err := c.ImportUser(ctx, user, refused); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("%v", err)
	}
}

func operate(t *testing.T, c *Client, user string) {
	t.Helper()
	ctx := t.Context()
	var last *ConsolidationProgress
	for progress, err := range c.Consolidate(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		last = progress
	}
	if last.GetStage() != "done" || last.GetRunId() == "" {
		t.Fatalf("%v", last)
	}
	if _, err := c.UndoConsolidation(ctx, last.GetRunId()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CancelConsolidation(ctx); err != nil {
		t.Fatal(err)
	}
	if stats, err := c.Stats(ctx, UserID(user)); err != nil || stats.GetUserCount() != 1 || len(stats.GetModels()) == 0 {
		t.Fatalf("%v, %v", stats, err)
	}
	key, err := c.CreateKey(ctx, NewKey{Label: "go", UserIDs: []string{user}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	limited := serverClient(t, WithAPIKey(key.GetSecret()), WithUserID("somebody else"))
	if _, err := limited.Retrieve(ctx, "x"); !errors.Is(err, ErrPermissionDenied) {
		t.Fatalf("%v", err)
	}
	rotated, err := c.RotateKey(ctx, key.GetKey().GetKeyId(), time.Hour)
	if err != nil || rotated.GetReplaced().GetKeyId() != key.GetKey().GetKeyId() {
		t.Fatalf("%v, %v", rotated, err)
	}
	var copied *BackupProgress
	for progress, err := range c.Backup(ctx, user) {
		if err != nil {
			t.Fatal(err)
		}
		copied = progress
	}
	if copied.GetStage() != "done" || copied.GetSizeBytes() == 0 {
		t.Fatalf("%v", copied)
	}
	for _, err := range c.Backup(ctx, user) {
		if !errors.Is(err, ErrFailedPrecondition) {
			t.Fatalf("%v", err)
		}
	}
	isListed := false
	for listed, err := range c.ListKeys(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		isListed = isListed || listed.GetKeyId() == key.GetKey().GetKeyId()
	}
	if revoked, err := c.RevokeKey(ctx, key.GetKey().GetKeyId()); err != nil || !isListed || revoked.GetRevokedAt() == nil {
		t.Fatalf("%v, %v, listed %v", revoked, err, isListed)
	}
	if _, err := limited.Retrieve(ctx, "x", UserID(user)); !errors.Is(err, ErrUnauthenticated) {
		t.Fatalf("%v", err)
	}
}

// TestReadme runs the programs of the README as they stand, and expects what they promise to print.
func TestReadme(t *testing.T) {
	serverClient(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(programs) == 0 {
		t.Fatal("the README has no program")
	}
	for _, program := range programs {
		folder, err := os.MkdirTemp(".", "_readme") // within this module; the underscore hides it from ./...
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		path := filepath.Join(folder, "main.go")
		if err := os.WriteFile(path, []byte(program[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := exec.CommandContext(t.Context(), "go", "run", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		for _, promise := range regexp.MustCompile(`// prints: (.*)`).FindAllStringSubmatch(program[1], -1) {
			if !strings.Contains(string(output), promise[1]) {
				t.Errorf("%q is not in what it prints: %s", promise[1], output)
			}
		}
	}
}
