package browser

import (
	"context"
	"crypto/tls"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-go/gatehouse/internal/docs"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

const readme = "../../README.md"

// limit is for all that one browser does.
const limit = 2 * time.Minute

// copyTree copies a folder with what its links lead to, for an application that may write to it.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	for _, argv := range [][]string{{"cp", "-rL", from, to}, {"chmod", "-R", "a+rwX", to}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}

// The sites of the README.
const (
	overFPM  = 3
	overPool = 7
)

// serve runs a site of the README, with some of its words changed, and returns its URL.
func serve(t *testing.T, dir, www string, site int, replace ...string) (url string) {
	t.Helper()
	replace = append(replace, "/srv/www", www)
	if site == overFPM {
		startFPM(t, dir)
		replace = append(replace, "/run/php/php8.2-fpm.sock", dir+"/fpm.sock")
	} else {
		// PHP's temporary files are in a folder of the test as well.
		integration.Need(t, "php-cgi", "php8.2-cgi")
		replace = append(replace, `"php-cgi"`, fmt.Sprintf(`"php-cgi", "-d", "upload_tmp_dir=%s", "-d", "session.save_path=%[1]s"`, dir))
	}
	integration.Certificate(t, dir)
	addr := fmt.Sprintf("127.0.0.1:%d", integration.Port(t))
	replace = append(replace, "127.0.0.1:8443", addr, "/etc/site", dir)
	integration.Start(t, dir, addr, docs.Build(t, readme, dir, docs.Swap(t, docs.Snippet(t, readme, "go", site), replace...)))
	return "https://" + addr
}

// startFPM starts php-fpm on fpm.sock in dir.
func startFPM(t *testing.T, dir string) {
	t.Helper()
	integration.StartFPM(t, dir, "fpm", dir+"/fpm.sock", `pm = static
pm.max_children = 4
php_admin_value[upload_tmp_dir] = `+dir+`
php_admin_value[session.save_path] = `+dir+`
php_admin_value[error_log] = `+dir+`/php.log
php_admin_flag[log_errors] = on
`)
	t.Cleanup(func() {
		if b, err := os.ReadFile(dir + "/php.log"); err == nil && t.Failed() {
			t.Logf("PHP:\n%.4000s", b)
		}
	})
}

// open starts a browser without a window.
func open(t *testing.T) context.Context {
	t.Helper()
	path := integration.Need(t, "chromium", "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(t.TempDir(), "profile")),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors, chromedp.WindowSize(1280, 1024), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if _, err := chromedp.Run(ctx, chromedp.Title()); err != nil { // starts it
		t.Fatal(err)
	}
	return ctx
}

// do makes the browser do something, and shows what it sees if that fails.
func do(t *testing.T, ctx context.Context, what string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	value(t, ctx, what, chromedp.Steps(actions...))
}

// reach waits until a page has been loaded that has an element of that selector. It may come in the
// place of another page.
func reach(selector string) chromedp.Action[chromedp.Void] {
	there := chromedp.Evaluate[bool](fmt.Sprintf("document.readyState == 'complete' && !!document.querySelector(%q)", selector))
	return func(ctx context.Context, target *chromedp.Target) (none chromedp.Void, err error) {
		for {
			// An error means that the page is just being replaced.
			if ok, err := there(ctx, target); ok && err == nil {
				return none, nil
			}
			select {
			case <-ctx.Done():
				return none, context.Cause(ctx)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// value is do for an action with a value.
func value[T any](t *testing.T, ctx context.Context, what string, action chromedp.Action[T]) T {
	t.Helper()
	step, cancel := context.WithTimeout(ctx, limit/4)
	defer cancel()
	v, err := chromedp.Run(step, action)
	if err != nil {
		at, _ := chromedp.Run(ctx, chromedp.Location())
		text, _ := chromedp.Run(ctx, chromedp.Text("body"))
		t.Fatalf("%s: %v\nat %s:\n%.3000s", what, err, at, text)
	}
	t.Log(what)
	return v
}

// picture writes a picture of 60 by 40 pixels and returns its path.
func picture(t *testing.T, dir string) string {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 60, 40))
	for x := range 60 {
		img.Set(x, x/2, color.RGBA{R: 200, A: 255})
	}
	f, err := os.Create(filepath.Join(dir, "picture.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, img); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// status returns the status of a GET over HTTP/2 whose path is sent as it is, and the body.
func status(t *testing.T, url string) (int, string) {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(request(t, url))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%s: %s, %v", url, res.Proto, err)
	}
	return res.StatusCode, string(b)
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
