package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// forms returns all that is looked for, each once.
func forms(secrets []string) []string {
	var all []string
	for _, secret := range secrets {
		trimmed := strings.TrimSpace(secret)
		all = append(all, secret)
		for line := range strings.Lines(trimmed) {
			all = append(all, strings.TrimSpace(line))
		}
		for _, whole := range []string{secret, trimmed} {
			if len(whole) >= MinLength { // its encodings may be longer and are no better
				all = append(all, whole)
				all = append(all, inURL(whole)...)
				all = append(all, inJSON(whole)...)
				all = append(all, inBase64(whole)...)
			}
		}
	}
	all = slices.DeleteFunc(all, func(form string) bool { return len(form) < MinLength })
	slices.Sort(all)
	return slices.Compact(all)
}

var escaped = regexp.MustCompile("%[0-9A-F]{2}")

func inURL(s string) []string {
	query, path := url.QueryEscape(s), url.PathEscape(s)
	return []string{query, escaped.ReplaceAllStringFunc(query, strings.ToLower), path, escaped.ReplaceAllStringFunc(path, strings.ToLower)}
}

func inJSON(s string) []string {
	var found []string
	for _, html := range []bool{true, false} {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(html)
		if encoder.Encode(s) == nil {
			found = append(found, strings.Trim(out.String(), "\"\n"))
		}
	}
	return found
}

// inBase64 returns what is the same in every text that is encoded and has s in it after 3n, 3n+1 or 3n+2 bytes, and what is if it ends
// with s.
func inBase64(s string) []string {
	var found []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := encoding.EncodeToString(append(make([]byte, before), s...))
			text = text[(before*8+5)/6:]
			whole := (before+len(s))*8/6 - (before*8+5)/6
			found = append(found, text, text[:whole])
		}
	}
	return found
}
