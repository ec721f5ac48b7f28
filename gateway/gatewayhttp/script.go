package gatewayhttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// Script is a script that the program has chosen. It replaces the one that Mapping would find in
// the path.
type Script struct {
	// Filename is SCRIPT_FILENAME, the path of the script as the application sees it. Empty means
	// that it is not sent.
	Filename string

	// Name is SCRIPT_NAME, the path of the script in the URL.
	Name string

	// PathInfo is PATH_INFO, what follows the script in the path of the URL. It may be empty.
	PathInfo string
}

type scriptKey struct{}

// WithScript returns a context that makes s the script of the requests that use it. Mapping then
// does not look for one.
func WithScript(ctx context.Context, s Script) context.Context {
	return context.WithValue(ctx, scriptKey{}, s)
}

// NoFiles is a value of Mapping.Files: no file is checked before the backend is called.
var NoFiles fs.FS = noFiles{}

type noFiles struct{}

func (noFiles) Open(string) (fs.File, error) { return nil, fs.ErrNotExist }

// script finds the script in the path, and what follows it.
func (m *Mapping) script(r *http.Request) (Script, error) {
	urlPath := cmp.Or(r.URL.Path, "/") // http.Get("http://host")
	if err := paths.CheckBytes(urlPath); err != nil {
		return Script{}, err
	}
	if s, ok := r.Context().Value(scriptKey{}).(Script); ok {
		return s, nil
	}
	if m.Root == "" {
		prefix, rest := m.below(r, urlPath, unchanged)
		return Script{Name: prefix, PathInfo: rooted(rest)}, nil
	}
	urlPath, err := paths.Clean(rooted(urlPath))
	if err != nil {
		return Script{}, err
	}
	prefix, rest := m.below(r, urlPath, paths.Clean)
	name, info, err := m.finder().Find(cmp.Or(rest, "/"))
	if err != nil {
		return Script{}, err
	}
	if err := m.look(name); err != nil {
		return Script{}, err
	}
	return Script{Filename: paths.Trim(m.Root) + name, Name: prefix + name, PathInfo: info}, nil
}

func (m *Mapping) finder() paths.Finder {
	f := paths.Finder{Extensions: m.Split, Index: cmp.Or(m.Index, paths.Index(""))}
	if m.Split == nil {
		f.Extensions = []string{".php"}
	}
	return f
}

// look returns fs.ErrNotExist if the script is not a file below Root.
func (m *Mapping) look(name string) error {
	files := m.files()
	if files == NoFiles {
		return nil
	}
	info, err := fs.Stat(files, strings.TrimPrefix(name, "/"))
	switch {
	case err == nil && !info.IsDir(): // rule F50
		return nil
	case paths.Lacking(err), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("script: %w", err)
	}
	return fmt.Errorf("script: %w", fs.ErrNotExist)
}

// files returns Files, or the folder Root, if that is on this machine. Once it has been seen, a
// folder that is missing for a moment does not switch the check off.
func (m *Mapping) files() fs.FS {
	if m.Files != nil {
		return m.Files
	}
	m.once.Do(func() { m.folder = paths.Folder(m.Root) })
	if !m.local.Load() {
		if _, err := os.Stat(m.Root); errors.Is(err, fs.ErrNotExist) {
			return NoFiles
		}
		m.local.Store(true)
	}
	return m.folder
}

// unchanged is paths.Clean for applications that receive the path as it is.
func unchanged(p string) (string, error) { return p, nil }

// below removes Prefix from the path, unless that was done before. A path that is not below Prefix
// has no prefix: together, name and info are always the path (F24). clean was applied to the path.
func (m *Mapping) below(r *http.Request, urlPath string, clean func(string) (string, error)) (prefix, rest string) {
	prefix = paths.Trim(m.Prefix)
	if stripped(r, prefix, urlPath, clean) {
		return prefix, urlPath
	}
	rest, ok := paths.Below(urlPath, prefix)
	if !ok {
		return "", urlPath
	}
	return prefix, rest
}

// rooted adds the slash at the beginning, which http.StripPrefix may have removed.
func rooted(p string) string {
	if p == "" || p[0] == '/' || p == "*" {
		return p
	}
	return "/" + p
}

// stripped reports whether prefix was removed from the path before, as by http.StripPrefix,
// possibly with the slash.
func stripped(r *http.Request, prefix, urlPath string, clean func(string) (string, error)) bool {
	if prefix == "" || r.RequestURI == "" {
		return false
	}
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return false
	}
	whole, err := clean(asked.Path)
	return err == nil && whole != urlPath && whole == prefix+rooted(urlPath)
}
