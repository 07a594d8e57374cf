//! Logins by OpenID Connect, at a real provider that the test starts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::access::Team;
use crate::servers::free_port;
use crate::web::{Answer, Served};
use crate::world::{World, folder};

/// The provider.
struct Provider {
    child: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the folder with the provider.
fn modules() -> Option<PathBuf> {
    std::env::var("FLEETFORM_TEST_OIDC_NODE").ok().filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Provider {
    fn start(modules: &PathBuf, redirect: &str, method: &str) -> Provider {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/provider.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(modules).args([redirect, method]).env("NODE_NO_WARNINGS", "1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut issuer = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !issuer.starts_with("http://") {
            issuer.clear();
            assert_ne!(lines.read_line(&mut issuer).unwrap(), 0, "the provider does not start");
        }
        std::thread::spawn(move || lines.lines().for_each(drop));
        Provider { child, issuer: issuer.trim().to_string() }
    }

    fn mode(&self, mode: &str) {
        let address = self.issuer.strip_prefix("http://").unwrap();
        ask(address, &format!("POST /mode/{mode} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"))
            .expect(200);
    }
}

fn ask(address: &str, request: &str) -> Answer {
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Answer::of(&answer)
}

/// A browser: it keeps cookies by their place and follows where it is sent.
#[derive(Default)]
struct Browser {
    cookies: Vec<(String, String, String)>,
}

impl Browser {
    fn get(&mut self, address: &str, path: &str) -> Answer {
        let own = self.cookies.iter().filter(|(place, _, _)| place == address);
        let cookies: Vec<String> = own.map(|(_, name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let answer =
            ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\n{cookies}\r\n"));
        for cookie in answer.headers("set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(place, other, _)| (place.as_str(), other.as_str()) != (address, name));
            if !value.is_empty() {
                self.cookies.push((address.to_string(), name.to_string(), value.to_string()));
            }
        }
        answer
    }

    /// Follows from a page of ours to the provider and back, and returns the path on which it comes back.
    fn follow(&mut self, ours: &str, path: &str) -> String {
        let mut at = (ours.to_string(), path.to_string());
        for _ in 0..12 {
            let answer = self.get(&at.0, &at.1);
            assert!((300..400).contains(&answer.status), "{at:?} {answer:?}");
            let place = answer.header("location").unwrap().to_string();
            at = match place.strip_prefix("http://") {
                Some(rest) => {
                    let (address, path) = rest.split_once('/').unwrap();
                    (address.to_string(), format!("/{path}"))
                }
                None => (at.0, place),
            };
            if at.0 == ours && at.1.starts_with("/oidc/callback") {
                return at.1;
            }
        }
        panic!("it does not come back: {at:?}");
    }
}

struct Site {
    provider: Provider,
    served: Served,
    address: String,
    _secret: tempfile::TempDir,
}

impl Site {
    fn start(modules: &PathBuf, world: &World, method: &str, more: &[&str]) -> Site {
        // The provider has to know our address, and we its: a port is chosen before.
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let redirect = format!("http://{address}/oidc/callback");
        let provider = Provider::start(modules, &redirect, method);
        let secret = folder();
        let file = secret.path().join("secret");
        std::fs::write(&file, "the secret of the client: & + %\n").unwrap();
        let arguments = [
            &["--listen", &address, "--oidc-issuer", &provider.issuer, "--oidc-client-id", "fleet"][..],
            &["--oidc-secret-file", file.to_str().unwrap(), "--oidc-redirect-url", &redirect],
            more,
        ]
        .concat();
        let served = Served::of(world.path(), &arguments);
        Site { provider, served, address, _secret: secret }
    }

    fn browser(&self, who: &str) -> Browser {
        let address = self.provider.issuer.strip_prefix("http://").unwrap().to_string();
        Browser { cookies: vec![(address, "who".to_string(), who.to_string())] }
    }

    /// Logs in, and returns what the callback answers.
    fn log_in(&self, browser: &mut Browser, next: &str) -> Answer {
        let back = browser.follow(&self.address, &format!("/oidc/login?next={next}"));
        browser.get(&self.address, &back)
    }
}

#[test]
fn people_log_in_by_the_provider_and_out_again() {
    let Some(modules) = modules() else {
        println!("skipped: FLEETFORM_TEST_OIDC_NODE names no folder with oidc-provider in its node_modules");
        return;
    };
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    for method in ["client_secret_basic", "client_secret_post"] {
        let site = Site::start(&modules, &world, method, &["--oidc-domain", "example.com"]);
        let mut browser = site.browser("ann");
        let led = browser.get(&site.address, "/jobs").expect(303);
        assert_eq!(led.header("location"), Some("/login?next=%2Fjobs"));
        let form = browser.get(&site.address, "/login?next=%2Fjobs").expect(200);
        assert!(form.body.contains("/oidc/login?next=%2Fjobs") && !form.body.contains("type=\"password\""), "{form:?}");
        let back = site.log_in(&mut browser, "/jobs").expect(303);
        assert_eq!(back.header("location"), Some("/jobs"));
        let cookies = back.headers("set-cookie");
        let session = cookies.iter().find(|cookie| cookie.starts_with("fleetform_session=")).unwrap();
        assert!(session.ends_with("Path=/; HttpOnly; SameSite=Lax"), "{session}");
        let page = browser.get(&site.address, "/jobs").expect(200);
        assert!(page.body.contains("ann@example.com") && page.body.contains("Log out"), "{page:?}");
        let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
        let cookie = browser.cookies.iter().find(|(_, name, _)| name == "fleetform_session").unwrap();
        let cookie = format!("Cookie: fleetform_session={}", cookie.2);
        site.served.post("/logout", &[&cookie], &format!("token={token}")).expect(303);
        browser.get(&site.address, "/jobs").expect(303);
        site.served.ask("/jobs", &[&cookie, "Accept: application/json"]).expect(401);
        // Without a session there is nothing, and a token of a file is none here.
        site.served.ask("/jobs", &["Authorization: Bearer x", "Accept: application/json"]).expect(401);
        let bob = site.log_in(&mut site.browser("bob"), "/").expect(401);
        assert!(bob.body.contains("of this domain may not log in"), "{bob:?}");
        let nobody = site.log_in(&mut site.browser(""), "/").expect(401);
        assert!(nobody.body.contains("access_denied"), "{nobody:?}");
    }
}

#[test]
fn a_login_that_is_not_of_the_provider_for_us_now_and_here_is_refused() {
    let Some(modules) = modules() else {
        println!("skipped: FLEETFORM_TEST_OIDC_NODE names no folder with oidc-provider in its node_modules");
        return;
    };
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    let site = Site::start(&modules, &world, "client_secret_basic", &[]);
    let check = |browser: &mut Browser, path: &str, expect: &str| {
        let answer = browser.get(&site.address, path).expect(401);
        assert!(answer.body.contains(expect), "{path}: {answer:?}");
        assert!(answer.headers("set-cookie").is_empty(), "{answer:?}");
        browser.get(&site.address, "/jobs").expect(303);
    };
    let unverified = site.browser("eve").follow(&site.address, "/oidc/login");
    assert!(unverified.contains("code="), "{unverified}");
    let mut eve = site.browser("eve");
    let back = eve.follow(&site.address, "/oidc/login");
    check(&mut eve, &back, "has not verified the address");
    for (mode, expect) in [
        ("nonce", "it is of another login"),
        ("expired", "it has expired"),
        ("audience", "it is for another client"),
        ("foreign", "its signature is not that of the provider"),
    ] {
        site.provider.mode(mode);
        let mut ann = site.browser("ann");
        let back = ann.follow(&site.address, "/oidc/login");
        check(&mut ann, &back, expect);
    }
    site.provider.mode("");
    // A state that is none, that of another browser, and one that was used.
    let mut ann = site.browser("ann");
    let back = ann.follow(&site.address, "/oidc/login");
    let (begin, rest) = back.split_once("state=").unwrap();
    let end = rest.split_once('&').map_or("", |(_, end)| end);
    check(&mut ann, &format!("{begin}state=guessed&{end}"), "another browser began it");
    check(&mut Browser::default(), &back, "another browser began it");
    let back = ann.follow(&site.address, "/oidc/login");
    let wrong = back.replacen("code=", "code=x", 1);
    check(&mut ann, &wrong, "invalid_grant");
    // The address had many failures by now: no more of it is looked at for a while, whoever it is.
    let back = ann.follow(&site.address, "/oidc/login");
    let answer = ann.get(&site.address, &back);
    assert!([303, 429].contains(&answer.status), "{answer:?}");
}

#[test]
fn the_address_of_a_login_is_the_name_of_a_grant() {
    let Some(modules) = modules() else {
        println!("skipped: FLEETFORM_TEST_OIDC_NODE names no folder with oidc-provider in its node_modules");
        return;
    };
    // Whoever is of example.com may look there.
    let team = Team::introduced();
    let site = Site::start(&modules, &team.world, "client_secret_basic", &[]);
    let mut ann = site.browser("ann");
    site.log_in(&mut ann, "/").expect(303);
    assert!(ann.get(&site.address, "/devices").expect(200).body.contains("d-001"));
    let mut bob = site.browser("bob");
    site.log_in(&mut bob, "/").expect(303);
    let page = bob.get(&site.address, "/devices").expect(403);
    assert!(page.body.contains("a grant to `bob@elsewhere.example`") && !page.body.contains("d-001"), "{page:?}");
}

#[test]
fn what_cannot_be_used_is_said_at_the_start_and_a_provider_that_is_gone_on_the_page() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    let start = |issuer: &str, redirect: &str| {
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--oidc-issuer",
            issuer,
            "--oidc-client-id",
            "fleet",
            "--oidc-redirect-url",
            redirect,
        ];
        world.run(&arguments).expect(64).stderr
    };
    let good = "https://fleet.example/oidc/callback";
    assert!(start("http://login.example", good).contains("use `https://`"));
    assert!(start("https://login.example", "https://fleet.example/").contains("/oidc/callback"));
    let alone = world.run(&["serve", "--oidc-issuer", "https://login.example"]).expect(64);
    assert!(alone.stderr.contains("--oidc-client-id"), "{alone:?}");
    let port = free_port();
    let (issuer, redirect) = (format!("http://127.0.0.1:{port}"), "http://127.0.0.1/oidc/callback");
    let arguments = ["--oidc-issuer", &issuer, "--oidc-client-id", "fleet", "--oidc-redirect-url", redirect];
    let served = Served::of(world.path(), &arguments);
    let page = served.html("/oidc/login").expect(401);
    assert!(page.body.contains("cannot be asked"), "{page:?}");
    let open = Served::of(world.path(), &[]);
    open.html("/oidc/login").expect(404);
}
