package cgi

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/paths"
	"github.com/gatehouse-go/gatehouse/internal/proc"
)

// A script is the program for a request.
type script struct {
	file  string // its path on this machine
	name  string // its path below Root, "" if Path names it
	found bool   // in PATH_INFO: name and info replace what the request says
	info  string // the path after the script
}

var errNoScript = errors.New("no Path and no Root")

// stillThere checks again, after the wait for a place among MaxProcs, that the script is the one
// that was found.
func (c *Client) stillThere(j *job) error {
	if c.Path != "" {
		return nil
	}
	now, err := c.script(j.r)
	if err == nil && now != j.script {
		err = fmt.Errorf("cgi: another script in the path: %w", fs.ErrNotExist)
	}
	return err
}

// script finds the program for r.
func (c *Client) script(r *gateway.Request) (script, error) {
	switch {
	case c.Path != "":
		return script{file: c.path}, nil
	case c.root == "":
		return script{}, fmt.Errorf("cgi: %w", errNoScript)
	}
	root, err := openDir(c.root, c.FollowLinks)
	if err != nil {
		return script{}, rootError(err)
	}
	defer root.Close()
	if name := r.ScriptFilename(); name != "" {
		return c.named(root, name)
	}
	return c.search(root, r.PathInfo())
}

// rootError returns the error for a Root that cannot be opened. It is not fs.ErrNotExist, which
// would be the request's error.
func rootError(err error) error {
	if paths.Lacking(err) {
		return fmt.Errorf("cgi: Root: %w", err)
	}
	return fmt.Errorf("cgi: Root: %v", err)
}

// notThere returns the error for a script that cannot be opened or looked at: that of a request for
// what is not there, unless this process lacks descriptors or memory.
func notThere(err error) error {
	if !paths.Lacking(err) {
		err = fs.ErrNotExist
	}
	return fmt.Errorf("cgi: script: %w", err)
}

// A dir is a folder whose files can be examined.
type dir interface {
	Stat(name string) (fs.FileInfo, error)
	Close() error
}

// openDir opens a folder. No link leads out of it, unless links are followed.
func openDir(root string, follow bool) (dir, error) {
	if follow {
		return anywhere(root), nil
	}
	return os.OpenRoot(root) // rule F40
}

// anywhere is a folder that links may lead out of.
type anywhere string

func (a anywhere) Stat(name string) (fs.FileInfo, error) {
	return os.Stat(filepath.Join(string(a), filepath.FromSlash(name)))
}

func (a anywhere) Close() error { return nil }

// named returns the script that SCRIPT_FILENAME names. It must be below Root.
func (c *Client) named(root dir, name string) (script, error) {
	rel, err := filepath.Rel(c.root, filepath.FromSlash(name))
	if err != nil || !filepath.IsLocal(rel) {
		return script{}, fmt.Errorf("cgi: SCRIPT_FILENAME is not below Root: %w", fs.ErrNotExist)
	}
	rel = filepath.ToSlash(rel)
	if err := runnable(root, rel); err != nil {
		return script{}, err
	}
	return script{file: filepath.Join(c.root, rel), name: "/" + rel}, nil
}

// search returns the first file that a path names, element by element. The rest of the path is
// PATH_INFO.
func (c *Client) search(root dir, info string) (script, error) {
	for end := 1; end < len(info) && info[0] == '/'; {
		next := strings.IndexByte(info[end:], '/')
		if next < 0 {
			next = len(info) - end
		}
		end += next
		name := info[:end]
		if path.Clean(name) != name || strings.ContainsAny(name, "\\\x00") {
			break // "..", "//"
		}
		fi, err := root.Stat(name[1:])
		if paths.Lacking(err) {
			return script{}, notThere(err)
		}
		if err != nil {
			break
		}
		if !fi.IsDir() {
			if err := runnable(root, name[1:]); err != nil {
				return script{}, err
			}
			return script{file: filepath.Join(c.root, filepath.FromSlash(name)), name: name, found: true, info: info[end:]}, nil
		}
		end++
	}
	return script{}, fmt.Errorf("cgi: no script in the path: %w", fs.ErrNotExist)
}

// runnable checks that a file below root may be run.
func runnable(root dir, name string) error {
	fi, err := root.Stat(name)
	switch {
	case err != nil || !fi.Mode().IsRegular():
		return notThere(err)
	case proc.Groups && fi.Mode()&0o111 == 0: // on other systems the mode says nothing
		return fmt.Errorf("cgi: script: %w", fs.ErrPermission)
	}
	return nil
}

// arguments returns the words of the query that become arguments, section 4.4: of GET and HEAD,
// from a query without "=". There are none if one of them could be taken for an option (F23) or
// cannot be decoded.
func (c *Client) arguments(r *gateway.Request) []string {
	method, query := r.Method(), r.Query()
	if !c.QueryArgs || method != "GET" && method != "HEAD" || query == "" || strings.Contains(query, "=") {
		return nil
	}
	var args []string
	for word := range strings.SplitSeq(query, "+") {
		arg, err := url.PathUnescape(word)
		if err != nil || arg == "" || arg[0] == '-' || arg[0] == ' ' || strings.ContainsFunc(arg, notPrintable) { // rule F23
			return nil
		}
		args = append(args, arg)
	}
	return args
}

// notPrintable reports whether c is not printable ASCII, which no program takes for anything else.
// php-cgi on Windows once took a byte over 0x7f for "-".
func notPrintable(c rune) bool { return c < ' ' || c > '~' }
