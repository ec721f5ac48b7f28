package browser

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gatehouse-go/gatehouse/internal/docs"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// dokuWiki copies the wiki of Debian's package into a folder, as its own installer would have it,
// with one user, ada, whose password is "password". Its addresses are /doku.php/page.
func dokuWiki(t *testing.T, dir string) (www string) {
	t.Helper()
	integration.NeedFile(t, "/usr/share/dokuwiki/doku.php", "dokuwiki")
	www = dir + "/www"
	copyTree(t, "/usr/share/dokuwiki", www)
	copyTree(t, "/etc/dokuwiki", www+"/conf")
	copyTree(t, "/var/lib/dokuwiki/data", www+"/data")
	for name, text := range map[string]string{
		"../inc/preload.php": "<?php\n", // Debian's names the system's folders
		"local.php":          "<?php\n$conf['title'] = 'The wiki';\n$conf['useacl'] = 1;\n$conf['superuser'] = '@admin';\n$conf['savedir'] = './data';\n$conf['userewrite'] = 2;\n$conf['useslash'] = 1;\n",
		"users.auth.php":     "# <?php exit()?>\nada:5f4dcc3b5aa765d61d8327deb882cf99:Ada:ada@example.com:admin,user\n",
		"acl.auth.php":       "# <?php exit()?>\n*\t@ALL\t1\n*\t@user\t8\n",
	} {
		integration.Write(t, www, "conf/"+name, text)
	}
	return www
}

// TestDokuWiki logs in, edits a page, uploads a picture and looks at both.
func TestDokuWiki(t *testing.T) {
	for name, site := range map[string]int{"php-fpm": overFPM, "a Pool of php-cgi": overPool} {
		t.Run("over "+name, func(t *testing.T) { driveDokuWiki(t, site) })
	}
}

func driveDokuWiki(t *testing.T, program int) {
	dir := integration.Dir(t)
	www := dokuWiki(t, dir)
	site := docs.Snippet(t, readme, "text", 0)
	if !strings.HasPrefix(site, "&gatewayhttp.Site{") {
		t.Fatalf("the README's Site of DokuWiki is %q", site)
	}
	hidden := site[strings.Index(site, ", Hidden:"):]
	url := serve(t, dir, www, program, "/index.php", "/doku.php", "Script: php}", "Script: php"+strings.TrimSpace(hidden), `"net/http"`, "\"net/http\"\n\t\"regexp\"")
	t.Run("in a browser [435]", func(t *testing.T) {
		ctx := open(t)
		do(t, ctx, "log in", chromedp.Navigate(url+"/doku.php/start?do=login"), chromedp.SendKeys("input[name=u]", "ada"), chromedp.SendKeys("input[name=p]", "password"),
			chromedp.Submit("input[name=p]"), reach("a.logout, li.logout a"))
		do(t, ctx, "edit a page", chromedp.Navigate(url+"/doku.php/notes/first?do=edit"), reach("#wiki__text"),
			chromedp.SetValue("#wiki__text", "====== The first note ======\nWritten by a browser. {{:picture.png}}"), chromedp.Click("#edbtn__save"), reach("#the_first_note"))
		do(t, ctx, "upload a picture", chromedp.Navigate(url+"/doku.php/start?do=media&tab_files=upload"), reach("#mediamanager__uploader input[type=file]"),
			chromedp.SetUploadFiles("#mediamanager__uploader input[type=file]", []string{picture(t, dir)}), reach("#mediamanager__upload_button"),
			chromedp.Click("#mediamanager__upload_button"), reach(".qq-upload-success"))
		do(t, ctx, "look at the page by its address", chromedp.Navigate(url+"/doku.php/notes/first"), reach(".level1 img"))
		text := value(t, ctx, "read it", chromedp.Text(".level1"))
		width := value(t, ctx, "see the picture", chromedp.Poll[int]("document.querySelector('.level1 img').naturalWidth"))
		if !strings.Contains(text, "Written by a browser.") || width != 60 {
			t.Errorf("%q with a picture %d pixels wide", text, width)
		}
		do(t, ctx, "log out", chromedp.Click("a.logout, li.logout a"), reach("a.login, li.login a"))
	})
	t.Run("nothing else [424 425 426 435]", func(t *testing.T) {
		if _, err := os.Stat(www + "/data/pages/notes/first.txt"); err != nil {
			t.Fatal(err) // the file below is there
		}
		for _, path := range []string{
			"/data/pages/notes/first.txt", "/data/media/picture.png", "/conf/users.auth.php", "/conf/local.php", "/conf/entities.conf", "/inc/init.php", "/inc/lang/en/lang.php",
			"/.htaccess", "/data/.htaccess", "/bin/wantedpages.php", "/vendor/autoload.php", "/data", "/data/", "//data/pages/notes/first.txt", "/lib/../data/pages/notes/first.txt",
		} {
			if code, body := status(t, url+path); code != 404 {
				t.Errorf("%s: %d %.100q", path, code, body)
			}
		}
		for _, path := range []string{"/doku.php", "/lib/exe/css.php", "/feed.php", "/lib/images/", "/lib/"} {
			if code, body := status(t, url+path); strings.Contains(body, "<?php") || strings.Contains(body, "Index of") || code >= 500 {
				t.Errorf("%s: %d %.100q", path, code, body)
			}
		}
	})
}
