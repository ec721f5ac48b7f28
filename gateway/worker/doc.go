// Package worker starts and supervises the processes of an application. It runs as many as are
// needed, gives each request to one that is free, and replaces those that are old, slow or broken.
// It does the work of php-fpm, for every protocol of this module and for HTTP.
//
//	php := &worker.Pool{
//		Command: []string{"php-cgi"},
//		Client:  func(addr string) worker.Client { return &fastcgi.Client{Addr: addr, MaxIdleConns: 1} },
//	}
//	defer php.Close()
//	site := &gatewayhttp.Site{Dir: "/srv/www", Script: &gatewayhttp.Proxy{Backend: php}}
//
// A Pool is a gateway.RoundTripper. To serve nginx or Apache, put a Server and a gateway.Proxy in
// front of it.
//
// # Sockets
//
// Each worker has a Unix socket of its own, in a folder that other users cannot enter, and only the
// Pool connects to it. Therefore the Pool knows which worker has which request. A worker that dies
// takes no other worker's request with it. A worker is ended when it has nothing to do, without its
// cooperation. Requests wait in the Pool, in order, under their contexts. A socket that several
// workers share offers none of that, and there is no option for one.
//
// Command says how a worker gets its socket:
//
//   - "{socket}" is replaced by the path of a socket that the worker creates.
//   - "{fd}" is replaced by the number of a descriptor, which is a listening socket. LISTEN_FDS is
//     set, LISTEN_PID is not.
//   - Without either, standard input is the listening socket, as in section 2.2 of the FastCGI
//     specification.
//
// Commands of some applications, with their Client:
//
//	php-cgi                                     fastcgi.Client, MaxIdleConns: 1
//	perl app.fcgi, or a program over libfcgi    fastcgi.Client, MaxIdleConns: 1
//	uwsgi --protocol uwsgi --socket fd://{fd} --module app   uwsgi.Client
//	uvicorn --fd {fd} app:app                   gatewayhttp.Client, and a Concurrency
//	gunicorn --bind fd://{fd} app:app           gatewayhttp.Client, and a Concurrency with --threads
//	daphne -u {socket} app:app                  gatewayhttp.Client, and a Concurrency
//	node app.js {socket}                        gatewayhttp.Client, and a Concurrency
//	a program of this module that serves "fd:0" the Client of its protocol
//
// A worker must show that it is free before its first request and, if it takes one request at a
// time, after a request that broke off. The Pool makes a connection and closes its sending side at
// once; the worker is free when it has closed the connection without a byte. PHP, libfcgi, Perl,
// uWSGI, uvicorn, daphne, gunicorn, node and this module's servers do that. For other programs, and
// to warm a worker up, set Pool.Ready.
//
// A worker is taken to be free when its response has ended. An application that goes on working
// after its response keeps the next request waiting in its socket. Give it a higher Concurrency, or
// let it hand such work to a queue.
//
// # Life of a worker
//
// A worker starts. It is idle or busy. It leaves: it finishes what it has and gets no new requests.
// It is told to end, by Signal and, after Grace, by SIGKILL to its process group. On Linux it is
// also told to end when this process dies.
//
// A worker that ends by itself is replaced if it is needed. If it ended before it completed its
// first response, the next start is delayed: by 100 ms, then twice as long each time, up to 30 s.
// As long as no worker runs for that reason, requests fail at once with ErrDown.
//
// # From php-fpm
//
//	pm = static, pm.max_children                      MinWorkers and MaxWorkers
//	pm = dynamic, pm.min_spare_servers, pm.max_spare_servers   MinIdle, MaxIdle
//	pm.start_servers                                  MinWorkers
//	pm = ondemand, pm.process_idle_timeout            the zero value, IdleTimeout
//	pm.max_requests                                   Recycle
//	request_terminate_timeout                         RequestTimeout
//	request_slowlog_timeout                           SlowTimeout
//	process_control_timeout                           Grace
//	listen.backlog                                    MaxWaiting
//	env, clear_env                                    Env and InheritEnv; the environment is always cleared
//	catch_workers_output                              Output
//	user, group, chroot, rlimit_files                 Prepare
//	pm.status_path                                    StatusHandler
//	SIGUSR2, SIGQUIT, SIGTERM                         Reload, Shutdown, Close
//
// # PHP
//
// Separate php-cgi processes do not share OPcache; the children of php-fpm do. For a large code
// base set opcache.file_cache, or run one worker with children (PHP_FCGI_CHILDREN=8 in Env,
// Concurrency 8, MaxWorkers 1, MaxIdleConns 8 in its Client; RequestTimeout then ends the exchange
// and not the process), or use php-fpm and fastcgi.Client.
//
// On systems other than Unix the methods return errors.ErrUnsupported.
package worker
