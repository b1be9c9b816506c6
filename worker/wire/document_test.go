package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// document is docs/protocol.md, from which workers in other languages are written.
func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sections returns what stands below each heading of a level, up to the next heading of that level or a higher one.
func sections(text, level string) map[string]string {
	found := make(map[string]string)
	name := ""
	for line := range strings.Lines(text) {
		if marks, heading, ok := strings.Cut(line, " "); ok && marks != "" && strings.Trim(marks, "#") == "" && len(marks) <= len(level) {
			name = ""
			if marks == level {
				name = strings.TrimSpace(heading)
			}
			continue
		}
		if name != "" {
			found[name] += line
		}
	}
	return found
}

// blocks returns what stands in fenced blocks of a kind.
func blocks(text, kind string) (found []string) {
	for _, match := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// rows returns the cells of all tables, without the backquotes.
func rows(text string) (found [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		found = append(found, cells)
	}
	return found
}

// quoted returns what stands in backquotes.
func quoted(text string) (found []string) {
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			found = append(found, part)
		}
	}
	return found
}

func messageSections(t *testing.T) map[Type]string {
	t.Helper()
	found := make(map[Type]string)
	for name, text := range sections(sections(document(t), "##")["Messages"], "###") {
		found[Type(strings.Trim(name, "`"))] = text
	}
	return found
}

// same fails unless the document has what the code has, and nothing else.
func same[T ~string](t *testing.T, what string, document, code []T) {
	t.Helper()
	for _, c := range code {
		if !slices.Contains(document, c) {
			t.Errorf("%s: docs/protocol.md does not have %q", what, c)
		}
	}
	for _, d := range document {
		if !slices.Contains(code, d) {
			t.Errorf("%s: docs/protocol.md has %q, the code does not", what, d)
		}
	}
}

func TestDocumentHasEveryMessage(t *testing.T) {
	same(t, "messages", slices.Collect(maps.Keys(messageSections(t))), slices.Collect(maps.Keys(messages)))
}

// TestDocumentFrames decodes every frame of the document, as strictly as can be: nothing in it may be ignored.
func TestDocumentFrames(t *testing.T) {
	decoded := make(map[Type]bool)
	for _, block := range blocks(document(t), "json") {
		for line := range strings.Lines(block) {
			m := decodeStrictly(t, []byte(strings.TrimSpace(line)))
			decoded[m.Type()] = true
			again, err := Encode(m)
			if err != nil || !equalJSON(t, again, []byte(line)) {
				t.Errorf("the frame %s comes out as %s, %v", line, again, err)
			}
		}
	}
	for name, text := range messageSections(t) {
		own := strings.Join(blocks(text, "json"), "")
		for line := range strings.Lines(own) {
			if m := decodeStrictly(t, []byte(strings.TrimSpace(line))); m.Type() != name {
				t.Errorf("the section of %s has a frame of %s", name, m.Type())
			}
		}
		if own == "" {
			t.Errorf("the section of %s has no frame", name)
		}
	}
	if len(decoded) != len(messages) {
		t.Errorf("%d types have frames, want %d", len(decoded), len(messages))
	}
}

func decodeStrictly(t *testing.T, frame []byte) Message {
	t.Helper()
	m, err := Decode(frame)
	if err != nil {
		t.Fatalf("frame %s: %v", frame, err)
	}
	var envelope struct {
		T Type            `json:"t"`
		D json.RawMessage `json:"d"`
	}
	strict := func(data []byte, v any) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Fatalf("frame %s: %v", frame, err)
		}
	}
	strict(frame, &envelope)
	strict(envelope.D, envelope.T.New())
	return m
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestDocumentLogFrame(t *testing.T) {
	found := blocks(document(t), "hex")
	if len(found) != 1 {
		t.Fatalf("%d frames in hexadecimal, want 1", len(found))
	}
	frame, err := hex.DecodeString(strings.Join(strings.Fields(found[0]), ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeLog(frame)
	if err != nil || string(got.Data) != "ok  \tacme/engine\t0.412s\n" || got.Offset != 65536 || got.Epoch != 3 {
		t.Errorf("it decodes as %+v, %v", got, err)
	}
}

// TestDocumentFields holds the table of each message against the fields of its struct.
func TestDocumentFields(t *testing.T) {
	for name, text := range messageSections(t) {
		var have []string
		for _, row := range rows(text) {
			if row[0] != "field" {
				have = append(have, quoted(row[0])...)
			}
		}
		m := name.New()
		if m == nil {
			continue // which TestDocumentHasEveryMessage tells
		}
		var want []string
		leaves := fieldPaths("", reflect.TypeOf(m).Elem(), &want)
		for _, path := range have {
			if !slices.Contains(want, path) {
				t.Errorf("%s: docs/protocol.md has the field %q, the code does not", name, path)
			}
		}
		for _, path := range leaves {
			if !slices.Contains(have, path) {
				t.Errorf("%s: docs/protocol.md does not have the field %q", name, path)
			}
		}
	}
}

// fieldPaths adds to all the names of a struct's fields on the wire, such as running[].epoch, and returns those that hold no struct.
func fieldPaths(prefix string, in reflect.Type, all *[]string) (leaves []string) {
	for field := range in.Fields() {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous {
			leaves = append(leaves, fieldPaths(prefix, field.Type, all)...)
			continue
		}
		of, path := field.Type, prefix+tag
		*all = append(*all, path)
		switch {
		case of.Kind() == reflect.Pointer:
			of = of.Elem()
		case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			of, path = of.Elem(), path+"[]"
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			leaves = append(leaves, path)
			continue
		}
		leaves = append(leaves, fieldPaths(path+".", of, all)...)
	}
	return leaves
}

// TestDocumentWords holds words that have a fixed set against the places that explain them.
func TestDocumentWords(t *testing.T) {
	text := messageSections(t)
	words := func(name Type, field string) []string {
		for _, row := range rows(text[name]) {
			if slices.Contains(quoted(row[0]), field) {
				return quoted(row[1])
			}
		}
		t.Errorf("%s: no field %q", name, field)
		return nil
	}
	same(t, "running[].state", words(TypeHello, "running[].state"), texts(stages))
	same(t, "reason", words(TypeDecline, "reason"), texts(declineReasons))
	same(t, "outcome", words(TypeFinished, "outcome"), texts(outcomes))
	same(t, "phase", words(TypeState, "phase"), []string{PhaseSource, PhaseRunning, PhaseArtifacts})
	explained := words(TypeWelcome, "decisions[].action")
	for _, action := range actions {
		if !slices.Contains(explained, string(action)) {
			t.Errorf("decisions[].action: docs/protocol.md does not have %q", action)
		}
	}
	if !slices.Contains(words(TypeFinished, "reason"), ReasonAgentRestart) {
		t.Errorf("docs/protocol.md does not have %q", ReasonAgentRestart)
	}
}

func texts[T ~string](words []T) (all []string) {
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

func TestDocumentCodes(t *testing.T) {
	parts := sections(document(t), "##")
	var have []string
	for _, row := range rows(parts["Error codes"])[1:] {
		have = append(have, quoted(row[0])...)
	}
	same(t, "error codes", have, texts(errorCodes))

	var closes, want []string
	for _, row := range rows(parts["Close codes"])[1:] {
		rule, _, _ := strings.Cut(row[3], ",")
		closes = append(closes, row[0]+" "+row[1]+": "+rule)
	}
	for code := CloseCode(1000); code < 5000; code++ {
		if name := code.String(); name != "unknown" {
			want = append(want, fmt.Sprintf("%d %s: %v", int(code), name, code.Retry()))
		}
	}
	same(t, "close codes", closes, want)

	have = nil
	for _, row := range rows(sections(parts["Connecting"], "###")["Coming back"])[1:] {
		have = append(have, row[0])
	}
	same(t, "rules", have, []string{RetrySoon.String(), RetryBackoff.String(), RetrySlow.String(), RetryNever.String()})
}

// TestDocumentLimits holds the tables of limits and times against limits.go.
func TestDocumentLimits(t *testing.T) {
	values := map[string]any{
		"MaxMessage": MaxMessage, "MaxLogData": MaxLogData, "MaxList": MaxList, "MaxDepth": MaxDepth, "MaxText": MaxText, "MaxToken": MaxToken,
		"MaxPath": MaxPath, "MaxSlots": MaxSlots, "MaxEpoch": MaxEpoch, "MaxDuration": MaxDuration, "MinSessionMessage": MinSessionMessage,
		"MaxSecrets": MaxSecrets, "MaxSecretBytes": MaxSecretBytes, "MinSecret": MinSecret,
		"DefaultHeartbeat": DefaultHeartbeat, "HeartbeatJitter": HeartbeatJitter, "DefaultReadTimeout": DefaultReadTimeout,
		"DefaultIdleHeartbeat": DefaultIdleHeartbeat,
		"DefaultWriteTimeout":  DefaultWriteTimeout, "DefaultLease": DefaultLease, "DefaultKillTime": DefaultKillTime, "DefaultGrace": DefaultGrace,
		"DefaultHelloTimeout": DefaultHelloTimeout, "DefaultOfferTimeout": DefaultOfferTimeout, "DefaultCancelGrace": DefaultCancelGrace,
		"DefaultLogFlush": DefaultLogFlush, "DefaultReconnectMin": DefaultReconnectMin, "DefaultReconnectMax": DefaultReconnectMax,
		"DefaultLogWindow": DefaultLogWindow, "DefaultLogCap": DefaultLogCap, "DefaultSpool": DefaultSpool,
		"DefaultUploadChunk": DefaultUploadChunk, "DefaultAttempts": DefaultAttempts,
	}
	var have, want, declared []string
	for name, value := range values {
		text := fmt.Sprint(value)
		if d, ok := value.(time.Duration); ok {
			switch {
			case d%(24*time.Hour) == 0:
				text = fmt.Sprintf("%d d", d/(24*time.Hour))
			case d%time.Second == 0:
				text = fmt.Sprintf("%d s", d/time.Second)
			default:
				text = fmt.Sprintf("%d ms", d/time.Millisecond)
			}
		}
		want = append(want, name+" = "+text)
	}
	parts := sections(sections(document(t), "##")["Frames"], "###")
	for _, row := range rows(parts["Limits"] + parts["Times"]) {
		if row[0] != "name" {
			have = append(have, strings.Trim(row[0], "`")+" = "+row[1])
		}
	}
	same(t, "limits", have, want)

	file, err := parser.ParseFile(token.NewFileSet(), "limits.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, name := range spec.Names {
				if name.IsExported() && name.Name != "Subprotocol" {
					declared = append(declared, name.Name)
				}
			}
		}
		return true
	})
	same(t, "constants of limits.go", slices.Collect(maps.Keys(values)), declared)
	if !strings.Contains(document(t), "`"+Subprotocol+"`") {
		t.Errorf("docs/protocol.md does not have %q", Subprotocol)
	}
}
