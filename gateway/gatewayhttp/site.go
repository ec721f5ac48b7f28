package gatewayhttp

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// Site is an http.Handler that serves a folder as web servers do for PHP: it serves files itself,
// passes scripts to Script, and passes everything else to the script that Front names. Set its
// fields before the first use and do not change them afterwards.
//
// The path is cleaned first: slashes are merged and dot segments are resolved. REQUEST_URI stays as
// it was sent. Then the first of these rules applies:
//
//   - A path with a backslash or a control byte, or one that leaves Dir, is a 400. A path with an
//     element that begins with a dot is a 404, unless that is the first and is .well-known; see
//     Hidden. So is one with an element that ends with a dot or a space, which some systems ignore,
//     and on Windows one with a tilde before a digit, which may be the short name of another file.
//   - An element of the path that ends with an extension of Split, in any case of letters, and is a
//     file, is the script. What follows it is PATH_INFO. If there is no such file, the path is that
//     of Front. The file is never sent, and the backend is never asked for a script that does not
//     exist.
//   - A file is served by Static, for GET and HEAD. Another method is a 405.
//   - A folder without a slash at the end of the path is redirected (308) to the path with one.
//     With a slash the first file of Index is served. Folders are not listed.
//   - Everything else is passed to Front, or is a 404 if Front is empty or not there.
//
// Dir is opened with os.OpenRoot for each request. A link to the current release can therefore be
// switched while the site is served, and no link leads out of Dir unless FollowLinks is set: the
// path of one that does is that of Front. A link to a script by another name is a 404.
//
// In front of workers that take one request at a time, as PHP's do, set Mapping.Body of the Proxy
// in Script to SpoolBody: otherwise a slow upload holds a worker.
type Site struct {
	// Dir is the folder on this machine.
	Dir string

	// Root is the same folder as the application sees it. Empty means the absolute path of Dir.
	Root string

	// Prefix is the path at which the site is mounted, as Mapping.Prefix is. SCRIPT_NAME begins
	// with it. Any other path is served as if Prefix were empty, so register the site at the prefix
	// in an http.ServeMux.
	Prefix string

	// Index lists the names of the files that are served for a folder. Nil means index.php and
	// index.html.
	Index []string

	// Front is the script of paths that name neither a file nor a script, such as "/index.php".
	// Empty means that such a path is a 404.
	Front string

	// Split lists the extensions of scripts. Nil means ".php".
	Split []string

	// FollowLinks allows symbolic links that lead out of Dir. An absolute link counts as one.
	FollowLinks bool

	// Hidden, if not nil, reports whether a clean path without Prefix is a 404 besides those with
	// an element that begins with a dot, such as one below /data/. It looks at the path of the
	// request: a link of another name is followed, and a file system that ignores the case of
	// letters finds a file whose path Hidden does not know.
	Hidden func(path string) bool

	// Script, which must not be nil, serves the scripts: a Proxy, or a ReverseProxy over a
	// Transport. Its Mapping takes the script and DOCUMENT_ROOT from the context of the request.
	Script http.Handler

	// Static, if not nil, serves the files: the path of the request is that of the file, without
	// Prefix. http.FileServer does not serve an index.html, since it redirects that path to the
	// folder. Nil means that they are served from Dir.
	Static http.Handler

	// Logger receives a log record for a Dir or a file that cannot be opened. Nil means
	// slog.Default.
	Logger *slog.Logger
}

// ServeHTTP serves a file, or passes the request to Script.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, status := s.visit(r)
	if status != 0 {
		sendStatus(w, status)
		return
	}
	defer v.close()
	v.serve(w, r)
}

func (s *Site) log(r *http.Request, err error) {
	cmp.Or(s.Logger, slog.Default()).LogAttrs(r.Context(), slog.LevelError, "cannot open", slog.Any("error", err), slog.String("method", r.Method), slog.String("path", r.URL.Path))
}

// A visit is one request of a Site.
type visit struct {
	s      *Site
	files  fs.FS
	close  func() error
	prefix string // of the path
	path   string // clean, without prefix
	bare   bool   // the path is the prefix, without a slash at its end
	lacks  bool   // a file could not be looked at for a lack of descriptors or memory
}

// visit cleans the path and opens the folder. A status other than 0 is the response.
func (s *Site) visit(r *http.Request) (v visit, status int) {
	if strings.ContainsFunc(r.URL.Path, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return v, http.StatusBadRequest
	}
	clean, err := paths.Clean(rooted(cmp.Or(r.URL.Path, "/")))
	if err != nil {
		return v, http.StatusBadRequest
	}
	v = visit{s: s, close: func() error { return nil }}
	v.prefix, v.path = (&Mapping{Prefix: s.Prefix}).below(r, clean, paths.Clean)
	v.bare = v.prefix != "" && v.path == ""
	v.path = cmp.Or(rooted(v.path), "/")
	if dotted(v.path) || v.hidden(v.path) {
		return v, http.StatusNotFound
	}
	if s.FollowLinks {
		v.files = os.DirFS(s.Dir)
		return v, 0
	}
	root, err := os.OpenRoot(s.Dir) // rule F62
	if err != nil {
		s.log(r, err)
		if paths.Lacking(err) {
			return v, http.StatusServiceUnavailable
		}
		return v, http.StatusInternalServerError
	}
	v.files, v.close = root.FS(), root.Close
	return v, 0
}

// hidden reports whether Hidden hides a path.
func (v *visit) hidden(p string) bool { return v.s.Hidden != nil && v.s.Hidden(p) }

// dotted reports whether a path has an element that begins with a dot, other than /.well-known. One
// that ends with a dot or a space counts as well: some systems ignore these, and would open a
// script.
func dotted(p string) bool {
	for i, element := range strings.Split(strings.Trim(p, "/"), "/") {
		hidden := strings.HasPrefix(element, ".") && (i > 0 || element != ".well-known") // rule F60
		if hidden || strings.HasSuffix(element, ".") || strings.HasSuffix(element, " ") || runtime.GOOS == "windows" && isShort(element) {
			return true
		}
	}
	return false
}

// isShort reports whether a name may be one that Windows gives to a file with a longer name.
func isShort(element string) bool {
	_, rest, found := strings.Cut(element, "~")
	return found && rest != "" && '0' <= rest[0] && rest[0] <= '9'
}

// A kind says whether there is a file or a folder of a name.
type kind int

const (
	nothing kind = iota
	file
	folder
)

// kind looks at a clean path.
func (v *visit) kind(p string) kind {
	info, err := fs.Stat(v.files, cmp.Or(strings.Trim(p, "/"), "."))
	switch {
	case err != nil:
		v.lacks = v.lacks || paths.Lacking(err)
		return nothing
	case info.IsDir():
		return folder
	case info.Mode().IsRegular():
		return file
	}
	return nothing
}

// serve applies the rules.
func (v *visit) serve(w http.ResponseWriter, r *http.Request) {
	for end := range v.s.finder().Ends(v.path) {
		switch v.kind(v.path[:end]) {
		case file:
			if v.hidden(v.path[:end]) {
				sendStatus(w, http.StatusNotFound)
				return
			}
			v.script(w, r, v.path[:end], v.path[end:])
			return
		case nothing:
			v.front(w, r)
			return
		}
	}
	switch slash := strings.HasSuffix(v.path, "/"); v.kind(v.path) {
	case file:
		if !slash {
			v.static(w, r, v.path)
			return
		}
	case folder:
		if !slash || v.bare {
			// There is no "//", since the path is clean.
			u := url.URL{Path: v.prefix + strings.TrimSuffix(v.path, "/") + "/", RawQuery: r.URL.RawQuery}
			http.Redirect(w, r, u.String(), http.StatusPermanentRedirect)
			return
		}
		if v.index(w, r) {
			return
		}
	}
	v.front(w, r)
}

func (s *Site) finder() paths.Finder {
	if s.Split == nil {
		return paths.Finder{Extensions: []string{".php"}}
	}
	return paths.Finder{Extensions: s.Split}
}

// index serves the first file of Index in a folder. It returns false if there is none.
func (v *visit) index(w http.ResponseWriter, r *http.Request) bool {
	names := v.s.Index
	if names == nil {
		names = []string{"index.php", "index.html"}
	}
	for _, name := range names {
		p := v.path + name
		if v.kind(p) != file || v.hidden(p) {
			if v.lacks {
				return false // this name might be there, and comes before the next
			}
			continue
		}
		if v.isScript(p) {
			v.script(w, r, p, "")
		} else {
			v.static(w, r, p)
		}
		return true
	}
	return false
}

// isScript reports whether the last element of p has the extension of a script.
func (v *visit) isScript(p string) bool {
	for end := range v.s.finder().Ends(p) {
		if end == len(p) {
			return true
		}
	}
	return false
}

// front passes r to the script that Front names.
func (v *visit) front(w http.ResponseWriter, r *http.Request) {
	front := path.Join("/", v.s.Front)
	isFile := v.s.Front != "" && v.kind(front) == file
	switch {
	case v.lacks:
		sendStatus(w, http.StatusServiceUnavailable)
	case isFile:
		v.script(w, r, front, "")
	default:
		sendStatus(w, http.StatusNotFound)
	}
}

func sendStatus(w http.ResponseWriter, status int) { http.Error(w, http.StatusText(status), status) }

// script passes r to a script.
func (v *visit) script(w http.ResponseWriter, r *http.Request, name, info string) {
	root := v.s.Root
	if root == "" {
		abs, err := filepath.Abs(v.s.Dir)
		if err != nil {
			sendStatus(w, http.StatusInternalServerError)
			return
		}
		root = filepath.ToSlash(abs)
	}
	root = paths.Trim(root)
	ctx := WithScript(r.Context(), Script{Filename: root + name, Name: v.prefix + name, PathInfo: info})
	ctx = WithParam(ctx, "DOCUMENT_ROOT", root)
	ctx = WithParam(ctx, "REDIRECT_STATUS", "200") // php-cgi demands it
	v.s.Script.ServeHTTP(w, r.WithContext(ctx))
}

// linksToScript reports whether a file is one of another name that is a script's.
func (v *visit) linksToScript(name string) bool {
	real, err := filepath.EvalSymlinks(filepath.Join(v.s.Dir, filepath.FromSlash(name)))
	return err != nil || v.isScript("/"+filepath.Base(real)) // rule F61
}

// static sends a file.
func (v *visit) static(w http.ResponseWriter, r *http.Request, name string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		sendStatus(w, http.StatusMethodNotAllowed)
		return
	}
	if v.linksToScript(name) {
		sendStatus(w, http.StatusNotFound)
		return
	}
	if v.s.Static != nil {
		next := new(http.Request)
		*next = *r
		next.URL = &url.URL{Path: name, RawQuery: r.URL.RawQuery}
		v.s.Static.ServeHTTP(w, next)
		return
	}
	f, err := v.files.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		status := http.StatusInternalServerError
		switch {
		case paths.Lacking(err):
			status = http.StatusServiceUnavailable
		case errors.Is(err, fs.ErrPermission):
			status = http.StatusForbidden
		case errors.Is(err, fs.ErrNotExist):
			status = http.StatusNotFound
		}
		if status >= 500 {
			v.s.log(r, err)
		}
		sendStatus(w, status)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	content, ok := f.(io.ReadSeeker)
	if err != nil || !ok || !info.Mode().IsRegular() {
		sendStatus(w, http.StatusNotFound)
		return
	}
	http.ServeContent(w, r, info.Name(), info.ModTime(), content)
}
