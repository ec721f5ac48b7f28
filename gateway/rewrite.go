package gateway

import (
	"fmt"

	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// MountAt returns a function for Proxy.Rewrite that prepares requests for WSGI, PSGI, Rack and
// other applications that take SCRIPT_NAME for the place where they are mounted and PATH_INFO for
// the path below it. Web servers disagree about these params: nginx's fastcgi_params puts the whole
// path into SCRIPT_NAME, its uwsgi_params into PATH_INFO, and its scgi_params sends neither.
//
// SCRIPT_NAME becomes prefix, without slashes at its end, and PATH_INFO what follows it in r.Path.
// A path that is not below prefix, element by element, gets an empty SCRIPT_NAME and is PATH_INFO
// as a whole; so is every path if prefix is "" or "/". SCRIPT_FILENAME and PATH_TRANSLATED are
// removed. Other params, REQUEST_URI among them, are unchanged, and the path is not cleaned.
//
// The function returns ErrParam if the path contains a NUL, CR or LF, or if it does not begin with
// a slash and is not "*".
func MountAt(prefix string) func(r *Request) error {
	prefix = paths.Trim(prefix)
	return func(r *Request) error {
		path := r.Path()
		if err := paths.CheckBytes(path); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		if path != "*" && (path == "" || path[0] != '/') {
			return fmt.Errorf("gateway: path: %w", params.ErrParam)
		}
		name := prefix
		info, ok := paths.Below(path, prefix)
		if !ok {
			name, info = "", path
		}
		r.Params.Del("SCRIPT_FILENAME")
		r.Params.Del("PATH_TRANSLATED")
		r.Params.Set("SCRIPT_NAME", name)
		r.Params.Set("PATH_INFO", info)
		return nil
	}
}

// ScriptIn returns a function for Proxy.Rewrite that prepares requests for PHP and other backends
// that run the script named by SCRIPT_FILENAME. The script is found in r.Path by the rules of
// gatewayhttp.Mapping with Root: the path is cleaned, and the first of its elements that ends with
// one of the extensions is the script. Extensions match without regard to the case of ASCII
// letters; without any, ".php" is used. If a path ends with a slash and names no script, "index"
// and the first extension are appended. Files are not looked at: root is where the backend sees
// them.
//
// SCRIPT_FILENAME becomes root and the script's path, SCRIPT_NAME the script's path, PATH_INFO what
// follows it, DOCUMENT_ROOT root, and REDIRECT_STATUS 200. PATH_TRANSLATED is removed: php-fpm with
// cgi.fix_pathinfo=0 runs the file that it names. REQUEST_URI is unchanged.
//
// The function returns ErrParam if the path contains a backslash, NUL, CR or LF or leaves the root,
// and fs.ErrNotExist if it names no script. Proxy returns either as an *Error of PhaseRequest, so
// that their statuses are 400 and 404.
func ScriptIn(root string, extensions ...string) func(r *Request) error {
	if len(extensions) == 0 {
		extensions = []string{".php"}
	}
	finder := paths.Finder{Extensions: extensions, Index: paths.Index(extensions[0])}
	return func(r *Request) error {
		path, err := paths.Clean(r.Path())
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		name, info, err := finder.Find(path)
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		r.Params.Del("PATH_TRANSLATED")
		r.Params.Set("SCRIPT_FILENAME", paths.Trim(root)+name)
		r.Params.Set("SCRIPT_NAME", name)
		r.Params.Set("PATH_INFO", info)
		r.Params.Set("DOCUMENT_ROOT", root)
		r.Params.Set("REDIRECT_STATUS", "200")
		return nil
	}
}
