//! The pages of the daemon over real connections, and its messages to the service manager over a real socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Extension, Router};
use fleetform::listen::{Bounds, Patience, Server, StatusHandle, WebhookSecrets};
use fleetform::model::buckets::Rate;
use fleetform::model::status::Snapshot;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

/// The example of GitHub's documentation.
const SECRET: &str = "It's a Secret to Everybody";
const SIGNATURE: &str = "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const BODY: &str = "Hello, World!";
const PREVIOUS: &str = "the secret of last month";

/// A server on a thread and a runtime of its own.
struct Served {
    address: SocketAddr,
    handle: StatusHandle,
    rings: Arc<AtomicUsize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn of(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{head}"))[..3].parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_string() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Served {
    fn new(bounds: Bounds) -> Served {
        Served::with_secrets(bounds, Some(WebhookSecrets::new(SECRET, Some(PREVIOUS)).unwrap()))
    }

    fn with_secrets(bounds: Bounds, secrets: Option<WebhookSecrets>) -> Served {
        Served::with_pages(bounds, secrets, None)
    }

    fn with_pages(bounds: Bounds, secrets: Option<WebhookSecrets>, pages: Option<Router>) -> Served {
        let snapshot = Snapshot::new("0.1.0", "acme", "2026-11-20T10:00:00Z".parse().unwrap());
        let (handle, rings) = (StatusHandle::new(snapshot), Arc::new(AtomicUsize::new(0)));
        let counted = rings.clone();
        let bell = Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = Server { handle: handle.clone(), bell, secrets, bounds, pages, operators: None, tls: None };
        let serve = async move { server.serve(listener, async { drop(stopped.await) }).await };
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve)
        });
        Served { address, handle, rings, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes as they are and returns all that comes back.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has answered may have closed before it was sent all.
        drop(stream.write_all(request));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        Answer::of(&self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()))
    }

    #[track_caller]
    fn post(&self, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        Answer::of(&self.raw(
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes(),
        ))
    }

    /// Returns true when the bell rang since the last look, and fails when it rang more than once.
    #[track_caller]
    fn has_rung(&self) -> bool {
        let rings = self.rings.swap(0, Ordering::SeqCst);
        assert!(rings <= 1, "{rings}");
        rings == 1
    }

    fn stop(mut self) -> std::io::Result<()> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn signed(secret: &str, body: &[u8]) -> String {
    let mut hash = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    hash.update(body);
    let hex: String = hash.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Hub-Signature-256: sha256={hex}")
}

#[test]
fn a_signed_call_wakes_and_no_other_does() {
    let served = Served::new(Bounds::default());
    let check = |path: &str, headers: &[&str], body: &str, status: u16, rings: bool| {
        let answer = served.post(path, headers, body);
        assert_eq!(answer.status, status, "{path} {headers:?}: {answer:?}");
        assert_eq!(served.has_rung(), rings, "{path} {headers:?}");
    };
    check("/hooks/github", &[SIGNATURE], BODY, 202, true);
    check("/hooks/generic", &[SIGNATURE], BODY, 202, true);
    check("/hooks/github", &[SIGNATURE, "X-GitHub-Event: push"], BODY, 202, true);
    check("/hooks/github", &[SIGNATURE, "X-GitHub-Event: ping"], BODY, 200, false);
    check("/hooks/github", &[&signed(PREVIOUS, b"{}")], "{}", 202, true);
    check("/hooks/gitlab", &[&format!("X-Gitlab-Token: {SECRET}")], "{}", 202, true);
    check("/hooks/gitlab", &[&format!("X-Gitlab-Token: {PREVIOUS}")], "", 202, true);
    // Wrong, missing, of another body, of another way.
    check("/hooks/github", &[], BODY, 401, false);
    check("/hooks/github", &[SIGNATURE], "Hello, World?", 401, false);
    check("/hooks/github", &[&signed("a secret of nobody here", BODY.as_bytes())], BODY, 401, false);
    check("/hooks/github", &["X-GitHub-Event: ping"], BODY, 401, false);
    check("/hooks/github", &[&SIGNATURE.replace("-256: sha256=", ": sha1=")], BODY, 401, false);
    check("/hooks/github", &[SIGNATURE, SIGNATURE], BODY, 401, false);
    check("/hooks/generic", &[&format!("X-Gitlab-Token: {SECRET}")], BODY, 401, false);
    check("/hooks/gitlab", &[SIGNATURE], BODY, 401, false);
    check("/hooks/gitlab", &["X-Gitlab-Token: It's a secret to everybody"], "{}", 401, false);
    let webhooks = served.handle.snapshot().counters.webhooks;
    assert_eq!((webhooks.accepted, webhooks.pinged, webhooks.refused, webhooks.limited), (6, 1, 9, 0));
    let refused = served.post("/hooks/github", &[], BODY);
    assert_eq!(refused.body, "The signature or token is missing or wrong.\n");
    served.stop().unwrap();
}

#[test]
fn without_a_secret_webhooks_are_off() {
    let served = Served::with_secrets(Bounds::default(), None);
    let answer = served.post("/hooks/github", &[SIGNATURE], BODY);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "Webhooks are off here: the daemon has no secret for them.\n")
    );
    assert!(!served.has_rung());
    assert_eq!(served.get("/healthz").status, 200);
}

#[test]
fn large_bodies_are_refused_whether_they_say_so_or_not() {
    let served = Served::new(Bounds { body_bytes_max: 100_000, ..Bounds::default() });
    let (fits, large) = ("x".repeat(100_000), "x".repeat(100_001));
    assert_eq!(served.post("/hooks/github", &[&signed(SECRET, fits.as_bytes())], &fits).status, 202);
    assert!(served.has_rung());
    assert_eq!(served.post("/hooks/github", &[&signed(SECRET, large.as_bytes())], &large).status, 413);
    let chunked = |body: &str| {
        let head = format!(
            "POST /hooks/github HTTP/1.1\r\nHost: x\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n",
            signed(SECRET, body.as_bytes())
        );
        let chunks: String = body
            .as_bytes()
            .chunks(7_000)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
            .collect();
        Answer::of(&served.raw(format!("{head}{chunks}0\r\n\r\n").as_bytes())).status
    };
    assert_eq!(chunked(&fits), 202);
    assert!(served.has_rung());
    assert_eq!(chunked(&large), 413);
    // Announced, and nothing sent: the answer does not wait for it.
    let head = format!("POST /hooks/github HTTP/1.1\r\nHost: x\r\n{SIGNATURE}\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(Answer::of(&served.raw(head.as_bytes())).status, 413);
    assert!(!served.has_rung());
    assert_eq!(served.handle.snapshot().counters.webhooks.refused, 3);
}

#[test]
fn slow_clients_are_cut_and_do_not_keep_others_from_their_answer() {
    let short = Duration::from_secs(1);
    let served = Served::new(Bounds { head_time_max: short, body_time_max: short, ..Bounds::default() });
    let mut idle = served.connect();
    let mut head = served.connect();
    head.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    let mut body = served.connect();
    let request = format!("POST /hooks/github HTTP/1.1\r\nHost: x\r\n{SIGNATURE}\r\nContent-Length: 13\r\n\r\nHell");
    body.write_all(request.as_bytes()).unwrap();
    assert_eq!(served.get("/healthz").status, 200);
    // They end by themselves: with nothing, or with a word of why.
    let mut text = String::new();
    idle.read_to_string(&mut text).unwrap();
    head.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
    body.read_to_string(&mut text).unwrap();
    assert_eq!(Answer::of(&text).status, 408);
    assert!(!served.has_rung());
}

#[test]
fn an_answer_that_asks_for_it_has_the_time_of_a_download() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(700)).await;
        "whole"
    }
    let patient = async |Extension(patience): Extension<Patience>| {
        patience.ask();
        slow().await
    };
    let pages = Router::new().route("/page", get(slow)).route("/download", get(patient));
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(20));
    let bounds = Bounds { connection_time_max: short, download_time_max: long, ..Bounds::default() };
    let served = Served::with_pages(bounds, None, Some(pages));
    assert_eq!(served.get("/download").body, "whole");
    assert_eq!(served.raw(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"), "");
}

#[test]
fn a_body_that_ends_early_is_broken() {
    let served = Served::new(Bounds::default());
    let mut stream = served.connect();
    let request = format!("POST /hooks/github HTTP/1.1\r\nHost: x\r\n{SIGNATURE}\r\nContent-Length: 20\r\n\r\n{BODY}");
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || Answer::of(&text).status == 400, "{text}");
    assert_eq!(served.get("/healthz").status, 200);
    assert!(!served.has_rung());
    assert_eq!(served.handle.snapshot().counters.webhooks.refused, 1);
}

#[test]
fn no_more_connections_than_allowed_and_the_others_wait_their_turn() {
    let bounds = Bounds { connections_max: 4, patience: Duration::from_millis(100), ..Bounds::default() };
    let served = Served::new(bounds.clone());
    let started = Instant::now();
    // Three times as many slow ones as there are places.
    let idle: Vec<TcpStream> = (0..12).map(|_| served.connect()).collect();
    // It is answered once some of them are cut.
    assert_eq!(served.get("/healthz").status, 200);
    assert!(started.elapsed() >= bounds.patience, "{:?}", started.elapsed());
    assert!(started.elapsed() < bounds.head_time_max, "{:?}", started.elapsed());
    drop(idle);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..32).map(|_| scope.spawn(|| served.get("/status").status)).collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
}

#[test]
fn an_address_that_connects_too_often_is_closed_unread_and_a_proxy_is_not() {
    let few = Bounds { accepts_of_address_max: Rate { per_second: 0.001, at_once: 3.0 }, ..Bounds::default() };
    let served = Served::new(few.clone());
    (0..3).for_each(|_| assert_eq!(served.get("/healthz").status, 200));
    let mut answer = Vec::new();
    let mut stream = served.connect();
    drop(stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
    let read = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() && read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));

    let proxies = vec![[127, 0, 0, 1].into()];
    let served = Served::new(Bounds { proxies, ..few });
    (0..10).for_each(|_| assert_eq!(served.get("/healthz").status, 200));
}

#[test]
fn too_many_calls_are_told_to_wait_and_floods_do_not_shut_out_the_valid() {
    let bounds = Bounds { accepted_per_minute_max: 3, refused_per_minute_max: 2, ..Bounds::default() };
    let served = Served::new(bounds);
    let refused: Vec<u16> = (0..4).map(|_| served.post("/hooks/github", &[], BODY).status).collect();
    assert_eq!(refused, [401, 401, 429, 429]);
    let accepted: Vec<u16> = (0..3).map(|_| served.post("/hooks/github", &[SIGNATURE], BODY).status).collect();
    assert_eq!(accepted, [202, 202, 202]);
    assert_eq!(served.rings.swap(0, Ordering::SeqCst), 3);
    let limited = served.post("/hooks/github", &[SIGNATURE], BODY);
    assert_eq!(limited.status, 429);
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(!served.has_rung());
    // The others have counts of their own.
    assert_eq!(served.post("/hooks/generic", &[SIGNATURE], BODY).status, 202);
    let webhooks = served.handle.snapshot().counters.webhooks;
    assert_eq!((webhooks.accepted, webhooks.refused, webhooks.limited), (4, 4, 1));
}

#[test]
fn only_what_is_there_is_answered_and_only_as_it_is_asked_for() {
    let served = Served::new(Bounds::default());
    let status = |request: &str| Answer::of(&served.raw(request.as_bytes())).status;
    assert_eq!(status("GET /hooks/github HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(status("PUT /hooks/gitlab HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 405);
    assert_eq!(status("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 405);
    assert_eq!(status("DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_eq!(status("GET /hooks/github/../../status HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_eq!(status("POST /hooks/bitbucket HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 404);
    assert_eq!(served.get("/hooks/github").header("allow"), Some("post"));
    let head = Answer::of(&served.raw(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn garbage_gets_no_further_than_its_connection() {
    let served = Served::new(Bounds { head_time_max: Duration::from_secs(1), ..Bounds::default() });
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let requests: [Vec<u8>; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /healthz HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n").into_bytes(),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(100_000)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(100_000)).into_bytes(),
        b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let mut stream = served.connect();
        drop(stream.write_all(&request));
        let mut answer = Vec::new();
        // Cut in the middle of what it sends, a client may see a reset.
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
    }
    assert_eq!(served.get("/healthz").status, 200);
    assert!(!served.has_rung());
}

#[test]
fn every_answer_closes_and_is_for_programs_alone() {
    let served = Served::new(Bounds::default());
    for path in ["/healthz", "/readyz", "/metrics", "/status", "/nothing", "/hooks/github"] {
        let answer = served.get(path);
        let check = |name: &str, expect: Option<&str>| assert_eq!(answer.header(name), expect, "{path}: {answer:?}");
        check("x-content-type-options", Some("nosniff"));
        check("cache-control", Some("no-store"));
        check("content-security-policy", Some("default-src 'none'; frame-ancestors 'none'"));
        check("referrer-policy", Some("no-referrer"));
        check("connection", Some("close"));
        check("server", None);
        check("access-control-allow-origin", None);
    }
}

#[test]
fn it_is_alive_while_the_loop_gives_signs_of_life() {
    let alive = Served::new(Bounds::default());
    let answer = alive.get("/healthz");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let body = answer.json();
    assert_eq!((body["status"].as_str(), body["fleet"].as_str()), (Some("alive"), Some("acme")));
    assert_eq!((body["version"].as_str(), &body["commit"]), (Some("0.1.0"), &Value::Null));
    // A daemon whose last sign of life is always too long ago.
    let stalled = Served::new(Bounds { heartbeat_age_max: Duration::ZERO, ..Bounds::default() });
    let answer = stalled.get("/healthz");
    assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("stalled")));
}

#[test]
fn it_is_ready_while_it_does_its_work() {
    let served = Served::new(Bounds::default());
    let check = |status: u16, codes: &[&str]| {
        let answer = served.get("/readyz");
        let body = answer.json();
        let reasons: Vec<&str> =
            body["reasons"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
        assert_eq!((answer.status, &reasons[..]), (status, codes), "{body}");
        assert_eq!(body["ready"], status == 200);
        let gauge = if status == 200 { "fleetform_ready 1.0\n" } else { "fleetform_ready 0.0\n" };
        assert!(served.get("/metrics").body.contains(gauge));
    };
    let at = "2026-11-20T10:00:05Z".parse().unwrap();
    check(503, &["not_fetched", "not_reconciled"]);
    served.handle.update(|snapshot| snapshot.fetched(at, None));
    check(503, &["not_reconciled"]);
    served.handle.update(|snapshot| snapshot.reconciled(at, None));
    check(200, &[]);
    served.handle.update(|snapshot| snapshot.pushed(at, Some("bad \u{1b}[2J\u{9b} hook".to_string()), true, 3));
    check(503, &["push_denied"]);
    // Text of the remote cannot control the terminal that shows it.
    let answer = served.get("/readyz");
    assert!(answer.body.chars().all(|c| c == '\n' || !c.is_control()), "{answer:?}");
    assert!(answer.json()["reasons"][0]["message"].as_str().unwrap().contains("\u{9b}"));
    served.handle.update(|snapshot| snapshot.pushed(at, None, false, 0));
    check(200, &[]);
}

#[test]
fn the_status_is_the_snapshot() {
    let served = Served::new(Bounds::default());
    served.handle.update(|snapshot| snapshot.source.commit = Some("1f3a".to_string()));
    let answer = served.get("/status");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let snapshot: Snapshot = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(snapshot, served.handle.snapshot());
}

/// As `promtool check metrics` does: every series has a HELP and a TYPE before it, names and values are legal, counters
/// end with `_total`, and no series is there twice.
fn check_exposition(page: &str) {
    let mut types = std::collections::BTreeMap::new();
    let mut helps = std::collections::BTreeSet::new();
    let mut series = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helps.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none() && helps.contains(name), "{line}");
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(series.insert(key), "twice: {line}");
            let name = key.split('{').next().unwrap();
            let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(is_legal), "{line}");
            assert!(name.starts_with("fleetform_") || name.starts_with("process_"), "{line}");
            match types[name] {
                "counter" => assert!(name.ends_with("_total"), "{line}"),
                "gauge" => assert!(!name.ends_with("_total"), "{line}"),
                other => panic!("{other}: {line}"),
            }
        }
    }
    assert!(series.len() > 30, "{page}");
}

#[test]
fn metrics_are_an_exposition_of_prometheus() {
    let served = Served::new(Bounds::default());
    assert_eq!(served.post("/hooks/github", &[], BODY).status, 401);
    let answer = served.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    check_exposition(&answer.body);
    assert!(answer.body.contains("fleetform_webhooks_total{result=\"refused\"} 1\n"), "{}", answer.body);
    let request =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
    let answer = Answer::of(&served.raw(request.as_bytes()));
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
}

#[test]
fn the_page_of_docs_names_every_metric() {
    let served = Served::new(Bounds::default());
    let at = "2026-11-20T10:00:05Z".parse().unwrap();
    served.handle.update(|snapshot| {
        snapshot.fetched(at, None);
        snapshot.reconciled(at, None);
        snapshot.pushed(at, None, false, 0);
        snapshot.set_next_due(vec![fleetform::model::status::Due { at, schedule: "nightly".to_string() }]);
        snapshot.lease = Some(fleetform::model::status::Lease { owner: "host".to_string(), epoch: 1, until: at });
        snapshot.link = Some(fleetform::model::status::LinkStatus::default());
        snapshot.running = vec![fleetform::model::status::RunningRun {
            job: "dim".to_string(),
            run: "1".to_string(),
            total: 1,
            completed: 0,
            failed: 0,
            pending: 1,
        }];
    });
    let docs = include_str!("../../docs/watch.md");
    let page = served.get("/metrics").body;
    let names: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 15);
    for name in &names {
        assert!(docs.contains(&format!("| `{name}")), "docs/watch.md does not have {name}");
    }
    // And none that is gone.
    for line in docs.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = line.split(['`', '{']).next().unwrap();
        let is_metric = name.starts_with("fleetform_") || name.starts_with("process_");
        assert!(!is_metric || names.contains(&name), "docs/watch.md has {name}");
    }
    // The board shows all of them, and none that is gone.
    let board: serde_json::Value = serde_json::from_str(include_str!("../../docs/grafana.json")).unwrap();
    let mut shown = std::collections::BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            shown.extend(words.filter(|word| word.starts_with("fleetform_") || word.starts_with("process_")));
        }
    }
    let names: std::collections::BTreeSet<&str> = names.into_iter().collect();
    assert_eq!(shown, names);
}

#[test]
fn who_is_being_answered_when_it_stops_is_answered() {
    let mut served = Served::new(Bounds::default());
    let mut client = served.connect();
    let request = format!("POST /hooks/github HTTP/1.1\r\nHost: x\r\n{SIGNATURE}\r\nContent-Length: 13\r\n\r\nHello,");
    client.write_all(request.as_bytes()).unwrap();
    // The next one is answered: the first is being read by now.
    assert_eq!(served.get("/healthz").status, 200);
    drop(served.stop.take());
    client.write_all(b" World!").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(Answer::of(&text).status, 202);
    served.thread.take().unwrap().join().unwrap().unwrap();
    assert!(TcpStream::connect(served.address).is_err());
    assert!(served.has_rung());
}
