package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-go/gatehouse/internal/integration"
)

var withWordPress = flag.Bool("wordpress", false, "run the test of WordPress, which needs MariaDB")

// startMariaDB starts a database server with an empty database, wordpress, and returns its socket.
func startMariaDB(t *testing.T, dir string) (socket string) {
	t.Helper()
	install := integration.Need(t, "mariadb-install-db", "mariadb-server")
	server := integration.Need(t, "mariadbd", "mariadb-server")
	integration.Write(t, dir, "init.sql", "CREATE DATABASE wordpress;\nCREATE USER ada@localhost IDENTIFIED BY 'secret';\nGRANT ALL ON wordpress.* TO ada@localhost;\n")
	socket = dir + "/sql.sock"
	integration.Start(t, dir, socket, "/bin/sh", "-c", fmt.Sprintf(`%s --no-defaults --datadir=%[3]s/db --auth-root-authentication-method=normal --skip-test-db >&2 &&
		exec %[2]s --no-defaults --datadir=%[3]s/db --socket=%[3]s/sql.sock --pid-file=%[3]s/sql.pid --skip-networking --init-file=%[3]s/init.sql --innodb-log-file-size=8M`, install, server, dir))
	return socket
}

// wordPress copies WordPress into a folder, where its installer finds it. Its only plugin says that
// the server sends every path to index.php, which WordPress believes of Apache and nginx, and keeps
// it from asking other servers for updates.
func wordPress(t *testing.T, dir string) (www string) {
	t.Helper()
	integration.NeedFile(t, "/usr/share/wordpress/wp-load.php", "wordpress")
	integration.NeedFile(t, "/usr/share/wordpress/wp-content/themes/twentytwentytwo/style.css", "wordpress-theme-twentytwentytwo")
	www = dir + "/www"
	copyTree(t, "/usr/share/wordpress", www)
	if err := os.Remove(www + "/wp-config.php"); err != nil { // Debian's
		t.Fatal(err)
	}
	for _, sub := range []string{"mu-plugins", "uploads"} {
		if err := os.MkdirAll(www+"/wp-content/"+sub, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(www+"/wp-content/"+sub, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	integration.Write(t, www, "wp-content/mu-plugins/server.php", `<?php
add_filter('got_url_rewrite', '__return_true');
add_filter('pre_http_request', fn() => new WP_Error('offline', 'offline'));
`)
	integration.Write(t, www, ".env", "SECRET=1")
	return www
}

// TestWordPress runs the web installer of WordPress, logs in, publishes a post with a picture, and
// changes it.
func TestWordPress(t *testing.T) {
	if !*withWordPress {
		t.Skip("WordPress runs with -wordpress")
	}
	dir := integration.Dir(t)
	socket := startMariaDB(t, dir)
	url := serve(t, dir, wordPress(t, dir), overFPM)
	t.Run("in a browser [435]", func(t *testing.T) {
		ctx := open(t)
		do(t, ctx, "name the database", chromedp.Navigate(url+"/wp-admin/setup-config.php?step=1&language=en_US"), chromedp.SetValue("#dbname", "wordpress"),
			chromedp.SetValue("#uname", "ada"), chromedp.SetValue("#pwd", "secret"), chromedp.SetValue("#dbhost", "localhost:"+socket), chromedp.Submit("#dbname"), reach("a.button-large"))
		do(t, ctx, "install", chromedp.Click("a.button-large"), reach("#weblog_title"), chromedp.SetValue("#weblog_title", "The site"), chromedp.SetValue("#user_login", "ada"),
			reach("#pass1"), chromedp.SetValue("#pass1", "a long password, 7 words of it"), chromedp.SetValue("#admin_email", "ada@example.com"), chromedp.Click("#submit"), reach("p.step a.button-large"))
		do(t, ctx, "log in", chromedp.Navigate(url+"/wp-login.php"), reach("#user_login"), chromedp.SetValue("#user_login", "ada"), chromedp.SetValue("#user_pass", "a long password, 7 words of it"),
			chromedp.Click("#wp-submit"), reach("#wpbody"))
		do(t, ctx, "choose pretty permalinks", chromedp.Navigate(url+"/wp-admin/options-permalink.php"), chromedp.SetValue("#permalink_structure", "/%year%/%postname%/"), chromedp.Click("#submit"),
			reach(".notice-success, .updated"))
		do(t, ctx, "upload a picture", chromedp.Navigate(url+"/wp-admin/media-new.php?browser-uploader"), chromedp.SetUploadFiles("#async-upload", []string{picture(t, dir)}), chromedp.Click("#html-upload"),
			reach("#the-list, .attachments-browser"))
		picture := value(t, ctx, "find the picture", inEditor(url, `(await wp.apiFetch({path: '/wp/v2/media'}))[0].source_url`))
		link := value(t, ctx, "publish", inEditor(url, publish("The first post", "<p>Written by a browser.</p><img src=\""+picture+"\">")))
		do(t, ctx, "look at the post", chromedp.Navigate(link), reach(".entry-content img"))
		text := value(t, ctx, "read it", chromedp.Text(".entry-content"))
		width := value(t, ctx, "see the picture", chromedp.Poll[int]("document.querySelector('.entry-content img').naturalWidth"))
		if !strings.HasSuffix(link, "/the-first-post/") || !strings.Contains(text, "Written by a browser.") || width != 60 {
			t.Errorf("%s: %q with a picture %d pixels wide", link, text, width)
		}
		value(t, ctx, "change it", inEditor(url, `(await wp.apiFetch({path: '/wp/v2/posts/' + (await wp.apiFetch({path: '/wp/v2/posts'}))[0].id, method: 'PUT', data: {content: '<p>Changed.</p>'}})).link`))
		do(t, ctx, "look again", chromedp.Navigate(link))
		if text := value(t, ctx, "read it again", chromedp.Text(".entry-content")); !strings.Contains(text, "Changed.") {
			t.Errorf("%q", text)
		}
		t.Run("nothing else [424 425 426 430]", func(t *testing.T) { nothingElse(t, url) })
	})
}

// publish writes and publishes a post in the editor of blocks.
func publish(title, content string) string {
	return fmt.Sprintf(`(await (async () => {
		const editor = wp.data.dispatch('core/editor')
		await editor.editPost({title: %q, content: %q, status: 'publish'})
		await editor.savePost()
		return wp.data.select('core/editor').getPermalink()
	})())`, title, content)
}

// inEditor opens the editor of a new post and returns the value of an expression there.
func inEditor(url, expression string) chromedp.Action[string] {
	return func(ctx context.Context, target *chromedp.Target) (string, error) {
		if _, err := chromedp.Steps(chromedp.Navigate(url+"/wp-admin/post-new.php"), reach(".editor-post-title, .edit-post-layout"))(ctx, target); err != nil {
			return "", err
		}
		return chromedp.Evaluate[string]("(async () => "+expression+")()", chromedp.EvalAwaitPromise)(ctx, target)
	}
}

// nothingElse asks for what a site of WordPress does not send.
func nothingElse(t *testing.T, url string) {
	for path, want := range map[string]int{"/.env": 404, "/.htaccess": 404, "/wp-config.php": 200, "/wp-includes/": 404, "/wp-content/uploads/": 404, "/wp-config-sample.php": 500} {
		code, body := status(t, url+path)
		if code != want || strings.Contains(body, "<?php") || strings.Contains(body, "DB_PASSWORD', '") || strings.Contains(body, "Index of") {
			t.Errorf("%s: %d %.200q", path, code, body)
		}
	}
	if code, body := status(t, url+"/not/there/"); code != 404 || !strings.Contains(body, "</html>") {
		t.Errorf("WordPress's own 404: %d %.200q", code, body)
	}
}
