//! The pages: over real connections to the real binary, as HTML, JSON and CSV, and who may look at them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Ran, World, devices_csv, fleetform, spawn};

const SCRIPT: &str = "<script>alert(1)</script>";
/// A device per way to end, and a name that is markup and a formula.
const SPEC: &str = "{link: {simulated: {latency: 1ms, devices: {d-003: {answers: 500}, d-007: {answers: 418}}}}}";

/// The binary, serving.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn of(bytes: &[u8]) -> Answer {
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{head}"))[..3].parse().unwrap();
        let rest = &bytes[at + 4..];
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(rest) } else { rest.to_vec() };
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Returns the values of a header that may be there again and again.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk has a size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 4 + size..];
    }
}

impl Served {
    /// Serves the pages of a fleet.
    pub fn of(folder: &Path, arguments: &[&str]) -> Served {
        let mut command = fleetform();
        command.arg("-C").arg(folder).args(["--json", "-q", "serve"]).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::inherit()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not served: {line}"));
        let address = told["address"].as_str().unwrap().split_once("://").unwrap().1.trim_end_matches('/');
        Served { child, address: address.parse().unwrap() }
    }

    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::of(&answer)
    }

    pub fn ask(&self, path: &str, headers: &[&str]) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address))
    }

    pub fn html(&self, path: &str) -> Answer {
        self.ask(path, &["Accept: text/html,*/*"])
    }

    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let answer = self.ask(path, &["Accept: application/json"]).expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        answer.json()
    }

    #[track_caller]
    fn csv(&self, path: &str) -> Vec<Vec<String>> {
        let path = format!("{path}{}format=csv", if path.contains('?') { '&' } else { '?' });
        let answer = self.ask(&path, &[]).expect(200);
        assert!(answer.header("content-type").unwrap().starts_with("text/csv"), "{answer:?}");
        assert!(answer.body.ends_with("\r\n"), "{answer:?}");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(answer.body.as_bytes());
        reader.records().map(|row| row.unwrap().iter().map(str::to_string).collect()).collect()
    }

    pub fn post(&self, path: &str, headers: &[&str], form: &str) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            self.address,
            form.len()
        ))
    }
}

/// A fleet in which every text that others can write is hostile, with a run, a group, a schedule and an import.
fn hostile_world() -> World {
    let world = World::new(SPEC);
    let rejected: String = (0..150).map(|n| format!("\"{SCRIPT} {n}\",x,1,odd\n")).collect();
    let devices = devices_csv(250).replace("Device 3,", &format!("\"{SCRIPT}\",")).replace("Device 7,", "=1+1,");
    world.write("devices.csv", format!("{devices}{rejected}"));
    world.declare("hostile.yaml", "DeviceImport", "hostile", "{file: devices.csv}");
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd'\"}");
    world.commit("devices");
    world.apply().unwrap();
    let spec = format!("{{target: {{group: odd}}, action: {{tags: {{note: \"{SCRIPT}\"}}}}}}");
    world.job("mark", &spec);
    world.apply().unwrap();
    world.declare(
        "jobs/reboot.yaml",
        "Job",
        "reboot",
        "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}}",
    );
    world.commit(&format!("Reboot {SCRIPT} (#12)"));
    world.apply().unwrap();
    world.declare(
        "nightly.yaml",
        "Schedule",
        "nightly",
        "{start: '2030-01-01T02:30:00', timeZone: Europe/Amsterdam, recurrence: daily, \
          job: {target: {group: odd}, action: {command: {name: check}}}}",
    );
    world.commit("schedule");
    world
}

const PATHS: [(&str, &str); 14] = [
    ("/", "/"),
    ("/jobs", "/jobs"),
    ("/jobs?device=d-003&since=all", "/jobs"),
    ("/jobs/reboot", "/jobs/{name}"),
    ("/jobs/reboot/runs/1?status=failed&reason=rejected&device=d-*", "/jobs/{name}/runs/{run}"),
    ("/schedules", "/schedules"),
    ("/devices?query=tags.n%20!%3D%20%27x%27&search=d-0&count=1", "/devices"),
    ("/devices/d-003", "/devices/{id}"),
    ("/devices/d-007", "/devices/{id}"),
    ("/groups", "/groups"),
    ("/groups/odd?limit=3", "/groups/{name}"),
    ("/imports", "/imports"),
    ("/imports/hostile", "/imports/{name}"),
    ("/failing?since=7d", "/failing"),
];

#[test]
fn every_page_is_html_and_json_as_described_and_nothing_hostile_gets_through() {
    let world = hostile_world();
    let served = Served::of(world.path(), &[]);
    let document = served.ask("/openapi.json", &[]).expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, described) in PATHS {
        let page = served.html(path).expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(page.body.contains("<h1>") && page.body.contains("<main"), "{path}");
        assert!(!page.body.contains("<script>") && !page.body.contains('\u{202e}'), "{path}: {}", page.body);
        assert!(!page.body.contains(" style=") && !page.body.contains(" onclick="), "{path}");
        let value = served.json(path);
        let schema =
            document["paths"][described]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone();
        let name = schema["$ref"].as_str().unwrap_or_else(|| panic!("{described}: {schema}")).to_string();
        let schema = json!({"$ref": name, "components": document["components"]});
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}\n{value:#}");
        // Nothing that is answered is left undescribed.
        let described = document.pointer(&name[1..]).unwrap();
        for key in value.as_object().unwrap().keys() {
            assert!(described["properties"].get(key).is_some(), "{path}: `{key}` is not in {described:#}");
        }
    }
    let job = served.html("/jobs/reboot").expect(200).body;
    assert!(job.contains("request #12") && job.contains("Reboot &lt;script&gt;"), "{job}");
    let shown = served.json("/jobs/mark");
    assert!(shown["source"]["text"].as_str().unwrap().contains(SCRIPT), "{shown:#}");
    assert_eq!(shown["source"]["author"], "Test");
    assert_eq!(served.json("/schedules")["schedules"][0]["next"][0]["local"], "Tue 2030-01-01 02:30:00 +01:00");
    assert_eq!(served.json("/")["due"][0]["schedule"], "nightly");
    let fates = served.json("/devices/d-003")["jobs"].clone();
    let fate = fates.as_array().unwrap().iter().find(|fate| fate["job"] == "reboot").unwrap();
    assert_eq!(
        (fate["reason"].clone(), fate["code"].clone(), fates.as_array().unwrap().len()),
        (json!("rejected"), json!(500), 2)
    );
    assert_eq!(served.json("/groups/odd")["used_by"], json!(["job/mark", "schedule/nightly"]));
    let failing = served.json("/failing");
    assert_eq!((failing["total"].clone(), failing["devices"][0]["failed_runs"].clone()), (json!(2), json!(1)));
}

#[test]
fn a_table_is_downloaded_whole_and_runs_no_formula() {
    let world = hostile_world();
    let served = Served::of(world.path(), &[]);
    let rows = served.csv("/jobs/reboot/runs/1?limit=3");
    assert_eq!(rows.len(), 251);
    assert_eq!(rows[0][..4], ["device_id", "device_name", "status", "reason"]);
    let row = |id: &str| rows.iter().find(|row| row[0] == id).unwrap().clone();
    assert_eq!((row("d-007")[1].as_str(), row("d-007")[4].as_str()), ("'=1+1", "418"));
    assert!(!row("d-003")[1].contains('\u{202e}'), "{:?}", row("d-003"));
    assert_eq!(served.csv("/jobs/reboot/runs/1?status=failed").len(), 3);
    assert_eq!(served.csv("/jobs/reboot/runs/1?table=failures"), [["reason", "devices"], ["rejected", "2"]]);
    assert_eq!(served.csv("/jobs/reboot/runs/1?table=batches").len(), 2);
    // A page has all of them, in whatever form.
    served.json("/jobs/reboot/runs/1?table=failures");
    for form in ["text/html", "application/json"] {
        let wrong = served.ask("/jobs/reboot/runs/1?table=y", &[&format!("Accept: {form}")]).expect(400);
        assert!(wrong.body.contains("`y` is no table"), "{wrong:?}");
    }
    served.ask("/jobs/reboot/runs/1?table=y&format=csv", &[]).expect(400);
    assert_eq!(served.csv("/devices?query=tags.parity%20%3D%20'odd'&limit=1").len(), 126);
    assert_eq!(served.csv("/devices").len(), 251);
    let rejected = served.csv("/imports/hostile");
    assert_eq!((rejected.len(), &*rejected[0]), (151, &["line", "device_id", "message"].map(str::to_string)[..]));
    assert_eq!(served.csv("/groups")[1][..2], ["odd", "125"]);
    assert_eq!(served.csv("/jobs").len(), 3);
    assert_eq!(served.csv("/failing").len(), 3);
    assert_eq!(served.csv("/schedules").len(), 6);
    assert_eq!(served.csv("/imports").len(), 2);
    assert_eq!(served.csv("/devices/d-003").len(), 3);
    let fault = served.ask("/jobs/nope?format=csv", &[]).expect(404);
    assert!(fault.body.contains("here is no job"), "{fault:?}");
}

#[test]
fn the_grid_of_a_run_is_paged_by_id() {
    let world = World::with_devices(SPEC, 250);
    world.job("reboot", "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}}");
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    let walk = |first: &str| {
        let (mut path, mut ids, mut pages) = (first.to_string(), Vec::new(), 0);
        loop {
            let page = served.json(&path);
            let rows = page["devices"].as_array().unwrap();
            ids.extend(rows.iter().map(|row| row["device_id"].as_str().unwrap().to_string()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => path = next.to_string(),
                None => return (ids, pages),
            }
        }
    };
    let (ids, pages) = walk("/jobs/reboot/runs/1?limit=60");
    let all: Vec<String> = (1..=250).map(|n| format!("d-{n:03}")).collect();
    assert_eq!((ids, pages), (all.clone(), 5));
    assert_eq!(walk("/jobs/reboot/runs/1?limit=10&device=d-2*").0, all[199..]);
    assert_eq!(walk("/jobs/reboot/runs/1?status=failed").0, ["d-003", "d-007"]);
    assert_eq!(walk("/jobs/reboot/runs/1?reason=rejected&after=d-003").0, ["d-007"]);
    assert_eq!(walk("/jobs/reboot/runs/1?reason=timeout").0, [""; 0]);
    assert_eq!(walk("/devices?limit=99").0, all);
    // Reading behind the end, or behind what is not there, is an empty or a shorter page.
    assert_eq!(walk("/jobs/reboot/runs/1?after=zzz").0, [""; 0]);
    assert_eq!(walk("/jobs/reboot/runs/1?after=d-2490").0, ["d-250"]);
}

#[test]
fn a_clone_without_a_registry_has_the_history() {
    let world = World::with_devices(SPEC, 20);
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd'\"}");
    world.job("reboot", "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}}");
    world.apply().unwrap();
    let clone = crate::world::folder();
    git2::Repository::clone(world.path().to_str().unwrap(), clone.path()).unwrap();
    let (there, here) = (Served::of(world.path(), &[]), Served::of(clone.path(), &[]));
    let pages = ["/jobs/reboot/runs/1", "/failing", "/jobs", "/imports/all"];
    for path in pages {
        let (mut one, mut other) = (there.json(path), here.json(path));
        // The registry knows what threshold was meant; the branch has the numbers.
        for page in [&mut one, &mut other] {
            page.as_object_mut().unwrap().retain(|key, _| !key.starts_with("why"));
        }
        assert_eq!(one, other, "{path}");
    }
    assert_eq!(here.json("/devices")["devices"], json!([]));
    assert_eq!(
        (&there.json("/groups")["groups"][0]["devices"], &here.json("/groups")["groups"][0]["devices"]),
        (&json!(10), &json!(null))
    );
    assert!(here.html("/groups").body.contains("There is no registry here"));
    assert!(here.html("/groups/odd").body.contains("unknown: there is no registry here"));
    let gone = here.ask("/devices/d-003", &[]).expect(404);
    assert!(gone.body.contains("this registry has none at all"), "{gone:?}");
    assert!(!clone.path().join(".fleetform").exists(), "looking makes nothing");
}

#[test]
fn what_cannot_be_asked_is_answered_with_a_page_that_helps() {
    let world = World::with_devices(SPEC, 10);
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    let check = |path: &str, status: u16, expect: &str| {
        let page = served.html(path).expect(status);
        assert!(page.body.contains(expect), "{path}: {}", page.body);
        assert!(page.body.contains("<nav") && page.body.contains("<h1>"), "{path}");
        let problem = served.ask(path, &["Accept: application/json"]).expect(status).json();
        assert!(problem["error"].is_string() || problem["problem"].is_string(), "{problem}");
    };
    check("/nothing", 404, "There is no such page");
    check("/jobs/nope", 404, "There is no job `nope`");
    check("/groups/nope", 404, "There is no group `nope`");
    check("/devices/d-01", 404, "Did you mean");
    check("/imports/al", 404, "Did you mean `all`?");
    check("/jobs?status=lost", 400, "`lost` is no status");
    check("/jobs?since=yesterday", 400, "is no beginning of a period");
    check("/jobs?limit=0", 400, "from 1 to 1000");
    check("/imports/all?after=-1", 400, "is no after");
    check("/jobs?format=xml", 400, "Ask for html, json or csv");
    check("/devices?organization=nope", 404, "There is no organization `nope`");
    // The mark is below the place.
    check("/devices?query=tags.n%20%3D%3D%201", 400, "1 | tags.n == 1\n  |        ^^");
    let download = served.ask("/devices?query=tags.n%20%3D%3D%201&format=csv", &[]).expect(400);
    assert!(download.body.contains("he condition cannot be understood"), "{download:?}");
    check("/devices?query=%3Cscript%3E", 400, "&lt;script&gt;");
    served.post("/jobs", &[], "").expect(405);
    assert_eq!(served.post("/jobs", &[], "").header("allow"), Some("GET, HEAD"));
    for path in ["/jobs/dim/runs/1/stop", "/devices/d-001/block"] {
        let wrong = served.html(path).expect(405);
        assert!(wrong.body.contains("It changes something: send a POST"), "{wrong:?}");
        assert_eq!(wrong.header("allow"), Some("POST"));
    }
    // A program follows no links of a page.
    let help = served.ask("/nothing", &["Accept: application/json"]).expect(404).json()["help"].to_string();
    assert!(help.contains("/openapi.json") && !help.contains("links"), "{help}");
    served.post("/jobs", &["Origin: https://evil.example"], "").expect(403);
    let rebound = served.raw("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").expect(421);
    assert!(rebound.body.contains("not served under this name") && !rebound.body.contains("acme"), "{rebound:?}");
    served.raw("GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n").expect(200);
    served.ask("/", &["X-Forwarded-For: 10.0.0.1"]).expect(403);
    check("/devices/%ff", 400, "The address is not UTF-8");
    check("/jobs/%ff/runs/%FE", 400, "The address is not UTF-8");
    check("/jobs?stauts=failed", 400, "`stauts` is no parameter here");
    check("/?x=1&y=", 400, "`x`, `y` are no parameters here");
    check("/devices/d-001?status=x", 400, "`status` is no parameter here");
    check("/devices?query=tags.n%20%3D%3D%201", 400, "condition:1:8");
    for (path, place) in [
        ("/jobs/?status=failed", "/jobs?status=failed"),
        ("/devices/d-001/", "/devices/d-001"),
        ("/devices/d-001//?format=json", "/devices/d-001?format=json"),
    ] {
        assert_eq!(served.html(path).expect(308).header("location"), Some(place), "{path}");
    }
    served.html("//evil.example/").expect(404);
    // Who asks for a table gets no page of HTML.
    for (path, status) in [("/jobs/nope?format=csv", 404), ("/jobs?status=x&format=csv", 400), ("/x?format=csv", 404)] {
        let told = served.html(path).expect(status);
        assert_eq!(told.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert!(!told.body.contains('<'), "{told:?}");
    }
    let page = served.html("/").expect(200);
    let style = page.body.split("href=\"").find_map(|rest| rest.split('"').next().filter(|at| at.contains("assets")));
    let style = served.ask(&style.unwrap().replace("&#x2f;", "/"), &[]).expect(200);
    assert_eq!(style.header("cache-control"), Some("public, max-age=31536000, immutable"));
    // Nothing but actions changes anything, and they are off.
    served.post("/devices/d-001/block", &[], "token=x&reason=y").expect(403);
    assert!(!world.device("d-001").blocked);
}

#[test]
fn keys_and_secrets_are_on_no_page() {
    let world = World::new("{}");
    world.write("keys.csv", "IOTC_DEVICEID,IOTC_DEVICENAME,IOTC_SASKEY_PRIMARY,IOTC_SASKEY_SECONDARY\nd-1,One,a2V5LW9uZS1rZXktb25lLWtleS1vbmU=,a2V5LXR3by1rZXktdHdvLWtleS10d28=\n");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: keys.csv}");
    world.commit("devices");
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    for path in ["/devices", "/devices/d-1", "/imports/all", "/devices?format=csv", "/devices/d-1?format=json"] {
        let answer = served.ask(path, &[]).expect(200);
        assert!(answer.body.contains("d-1") || path.contains("imports"), "{answer:?}");
        assert!(!answer.body.contains("a2V5LW"), "{path}");
    }
}

#[test]
fn other_addresses_than_loopback_ones_need_to_know_who_asks() {
    let world = World::with_devices(SPEC, 10);
    world.apply().unwrap();
    let refused = world.run(&["serve", "--listen", "0.0.0.0:0"]).expect(64);
    assert!(refused.stderr.contains("could look at the fleet") && refused.stderr.contains("--auth"), "{refused:?}");
    world.write(".git/tokens", "nobody\n");
    let tokens = world.folder_file("tokens");
    let refused = world.run(&["serve", "--listen", "0.0.0.0:0", "--auth", &tokens]).expect(64);
    assert!(refused.stderr.contains("line 1 of"), "{refused:?}");
    let made = world.run(&["--json", "serve", "token", "ann"]).expect(0).json().remove(0);
    let token = made["token"].as_str().unwrap();
    assert!(!made["line"].as_str().unwrap().contains(token));
    world.write(".git/tokens", format!("{}\n", made["line"].as_str().unwrap()));
    let served = Served::of(world.path(), &["--auth", &tokens]);
    // A browser is led to the form, a program is told.
    let led = served.html("/jobs?status=failed").expect(303);
    assert_eq!(led.header("location"), Some("/login?next=%2Fjobs%3Fstatus%3Dfailed"));
    let told = served.ask("/jobs", &["Accept: application/json"]).expect(401);
    assert_eq!(told.header("www-authenticate"), Some("Bearer"));
    served.ask("/jobs", &[&format!("Authorization: Bearer {token}")]).expect(200);
    served.ask("/events", &[]).expect(401);
    let form = served.html("/login?next=/groups").expect(200);
    assert!(form.body.contains("type=\"password\""), "{form:?}");
    served.post("/login", &["Sec-Fetch-Site: cross-site"], &format!("token={token}")).expect(403);
    let wrong = served.post("/login", &[], "token=wrong&next=/groups").expect(401);
    assert!(wrong.body.contains("No one has this token"), "{wrong:?}");
    let logged_in = served.post("/login", &[], &format!("token={token}&next=/groups")).expect(303);
    assert_eq!(logged_in.header("location"), Some("/groups"));
    let cookie = logged_in.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Max-Age"), "{cookie}");
    let session = format!("Cookie: {}", cookie.split(';').next().unwrap());
    let page = served.ask("/", &[&session, "Accept: text/html"]).expect(200);
    assert!(page.body.contains("ann") && page.body.contains("Log out"), "{page:?}");
    served.post("/logout", &[&session], "token=guessed").expect(403);
    let own = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    served.post("/logout", &[&session], &format!("token={own}")).expect(303);
    served.ask("/", &[&session]).expect(401);
    // A session ends with its token.
    let cookie = served.post("/login", &[], &format!("token={token}")).expect(303);
    let session = format!("Cookie: {}", cookie.header("set-cookie").unwrap().split(';').next().unwrap());
    served.ask("/", &[&session]).expect(200);
    world.write(".git/tokens", "# nobody\n");
    served.ask("/", &[&session]).expect(401);
    world.write(".git/tokens", format!("{}\n", made["line"].as_str().unwrap()));
    served.ask("/", &[&session]).expect(401);
    // Guessing ends soon, and a session goes on.
    let cookie = served.post("/login", &[], &format!("token={token}")).expect(303);
    let open = format!("Cookie: {}", cookie.header("set-cookie").unwrap().split(';').next().unwrap());
    let guesses: Vec<u16> = (0..12).map(|n| served.post("/login", &[], &format!("token={n}")).status).collect();
    let guessed = served.post("/login", &["Accept: text/html"], "token=12").expect(429);
    assert!(guesses.ends_with(&[429]) && guesses.starts_with(&[401]), "{guesses:?}");
    let bearer = format!("Authorization: Bearer {token}");
    let out = served.ask("/", &[&bearer, "Accept: application/json"]).expect(429);
    assert!(out.body.contains("too many logins"), "{out:?}");
    assert!(guessed.body.contains("Too many logins") && !guessed.body.contains("acme"), "{guessed:?}");
    served.ask("/", &[&open]).expect(200);
    // Everybody has the address of a proxy.
    let served = Served::of(world.path(), &["--auth", &tokens, "--trust-proxy", "127.0.0.1"]);
    (0..12).for_each(|n| drop(served.post("/login", &[], &format!("token={n}")).expect(401)));
    served.ask("/", &[&bearer]).expect(200);
    let alone = world.run(&["serve", "--trust-proxy", "127.0.0.1"]).expect(64);
    assert!(alone.stderr.contains("--auth"), "{alone:?}");
}

#[test]
fn a_proxy_that_is_named_says_who_asks() {
    let world = World::with_devices(SPEC, 3);
    world.apply().unwrap();
    let served = Served::of(world.path(), &["--trust-header", "X-User", "--trust-proxy", "127.0.0.1"]);
    served.ask("/", &["Accept: application/json"]).expect(401);
    let page = served.ask("/", &["X-User: ann <b>", "X-Forwarded-For: 10.0.0.1", "Accept: text/html"]).expect(200);
    assert!(page.body.contains("ann &lt;b&gt;"), "{page:?}");
    let other = Served::of(world.path(), &["--trust-header", "X-User", "--trust-proxy", "10.0.0.1"]);
    other.ask("/", &["X-User: ann", "Accept: application/json"]).expect(401);
    let alone = world.run(&["serve", "--listen", "0.0.0.0:0", "--trust-header", "X-User"]).expect(64);
    assert!(alone.stderr.contains("--trust-proxy"), "{alone:?}");
}

#[test]
fn connections_are_encrypted_with_a_certificate() {
    let world = World::with_devices(SPEC, 3);
    world.apply().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    world.write(".git/cert.pem", own.cert.pem());
    world.write(".git/key.pem", own.signing_key.serialize_pem());
    let (certificate, key) = (world.folder_file("cert.pem"), world.folder_file("key.pem"));
    let served = Served::of(world.path(), &["--tls-cert", &certificate, "--tls-key", &key]);
    let files = fleetform::tls::TlsFiles { ca: Some(Path::new(&certificate)), ..fleetform::tls::TlsFiles::default() };
    let config = fleetform::tls::tls_config(files).unwrap();
    let connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(served.address).unwrap());
    stream.write_all(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = Answer::of(&answer).expect(200);
    assert_eq!(answer.json()["runs"], json!([]));
    let wrong = world.run(&["serve", "--tls-cert", &key, "--tls-key", &key]).expect(64);
    assert!(wrong.stderr.contains("connections cannot be encrypted"), "{wrong:?}");
}

#[test]
fn a_job_is_stopped_and_a_device_blocked_with_a_reason() {
    let spec = "{link: {simulated: {devices: {d-002: {offline: true}}}}}";
    let world = World::with_devices(spec, 4);
    world.job("reboot", "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}, delivery: {offline: wait, expiresAfter: 30d}}");
    world.apply().unwrap();
    let served = Served::of(world.path(), &["--actions"]);
    // Where nothing can be done, nothing says that it can.
    assert_eq!(Served::of(world.path(), &[]).json("/jobs/reboot")["can_stop"], json!(false));
    assert_eq!(served.json("/jobs/reboot")["can_stop"], json!(true));
    let page = served.html("/jobs/reboot").expect(200).body;
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
    let token = token.split('"').next().unwrap();
    let stop = "/jobs/reboot/runs/1/stop";
    served.post(stop, &[], "token=guessed&reason=x").expect(403);
    served.post(stop, &["Origin: https://evil.example"], &format!("token={token}&reason=x")).expect(403);
    let without = served.post(stop, &[], &format!("token={token}&reason=+")).expect(400);
    assert!(without.body.contains("Say why"), "{without:?}");
    let before = world.head();
    let other = served.post("/jobs/reboot/runs/0/stop", &[], &format!("token={token}&reason=smoke")).expect(409);
    assert!(other.body.contains("has run 1 now") && world.head() == before, "{other:?}");
    let done =
        served.post(stop, &[], &format!("token={token}&reason=smoke+in+hall+3%0aFleetform-Run%3a+x")).expect(303);
    let place = done.header("location").unwrap().to_string();
    assert!(place.starts_with("/jobs/reboot/runs/1?note="), "{place}");
    assert_ne!(world.head(), before);
    let told = served.html(&place).expect(200).body;
    assert!(told.contains(&format!("The commit {} stops the job reboot", &world.head()[..12])), "{told}");
    assert!(told.contains("Stopped by") && !told.contains("Stop job reboot"), "{told}");
    assert!(!served.html("/jobs/reboot/runs/1?note=guessed").expect(200).body.contains("class=\"said\""));
    // JSON without a bearer token needs that of the form.
    let json = |body: &str| {
        served.raw(&format!("POST /devices/d-004/block HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", served.address, body.len()))
    };
    let told = json("{\"reason\": \"x\"}").expect(403).json();
    assert_eq!(told["error"], "no bearer token says which program asks");
    json("no JSON").expect(400);
    assert!(!world.device("d-004").blocked);
    let repository = world.repository();
    let message = repository.head().unwrap().peel_to_commit().unwrap().message().unwrap().to_string();
    assert_eq!(
        message.trim_end(),
        "job reboot: stop\n\nsmoke in hall 3\\nFleetform-Run: x\n\nFleetform-Asked-By: somebody at this machine"
    );
    assert!(std::fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap().contains("suspend: true"));
    world.apply().unwrap();
    assert_eq!(served.json("/jobs/reboot")["progress"]["status"], "stopped");
    served.post("/devices/d-003/block", &[], &format!("token={token}&reason=burnt")).expect(303);
    assert!(world.device("d-003").blocked);
    assert_eq!(served.json("/devices/d-003")["state"], "blocked");
    let direct = world.results().into_iter().find(|(path, _)| path.starts_with("direct/")).unwrap().1;
    let direct = String::from_utf8(direct).unwrap();
    assert!(direct.contains("somebody at this machine,block,d-003,burnt"), "{direct}");
    let page = served.html("/devices/d-003").expect(200).body;
    assert!(
        page.contains("by somebody at this machine at") && page.contains("fleetform device unblock d-003"),
        "{page}"
    );
    assert_eq!(served.json("/devices/d-003")["blocked_by"]["reason"], "burnt");
    served.post("/devices/nope/block", &[], &format!("token={token}&reason=burnt")).expect(404);
}

/// A daemon that listens. What it logs later is read and left.
pub fn daemon(fleet: &Path, listen: &str, arguments: &[&str]) -> Served {
    let mut command = fleetform();
    command.arg("-C").arg(fleet).args(["watch", "--log", "json", "--no-webhooks", "--listen", listen]);
    let child = spawn(command.args(arguments).stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut served = Served { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
    let mut log = BufReader::new(served.child.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon has ended");
        if line.contains("\"listening\"") {
            let value: Value = serde_json::from_str(&line).unwrap();
            let address = value["address"].as_str().or(value["fields"]["address"].as_str());
            break address.unwrap_or_else(|| panic!("{line}")).parse::<SocketAddr>().unwrap();
        }
    };
    served.address.set_port(address.port());
    std::thread::spawn(move || log.lines().for_each(drop));
    served
}

#[test]
fn the_daemon_serves_the_pages_beside_its_health_and_tells_what_happens() {
    let world = World::with_devices("{link: {simulated: {latency: 800ms}}, limits: {inFlight: 1}}", 8);
    world.apply().unwrap();
    let served = daemon(world.path(), "127.0.0.1:0", &[]);
    assert_eq!(served.ask("/healthz", &[]).expect(200).json()["status"], "alive");
    assert!(served.ask("/metrics", &[]).expect(200).body.contains("fleetform"));
    let page = served.html("/").expect(200).body;
    let events = page.split("data-events=\"").nth(1).unwrap().split('"').next().unwrap();
    let events = events.replace("&#x2f;", "/").replace("&amp;", "&");
    let listen = |path: &str, headers: &str| {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", served.address).unwrap();
        BufReader::new(stream)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let until = |stream: &mut BufReader<TcpStream>, what: &str| {
        let mut text = String::new();
        loop {
            assert_ne!(stream.read_line(&mut text).unwrap(), 0, "{text}");
            assert!(Instant::now() < deadline, "{text}");
            if text.contains(what) && text.contains("\nid:") {
                return text;
            }
        }
    };
    let mut stream = listen(&events, "");
    world.job("reboot", "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}, delivery: {batchSize: 3}}");
    let told = until(&mut stream, "\"job\":\"reboot\"");
    assert!(told.contains("event: change"), "{told}");
    let mut seen = Vec::new();
    while Instant::now() < deadline {
        let page = served.json("/jobs/reboot");
        let (progress, batches) = (&page["progress"], page["batches"].as_array().unwrap());
        let done = progress["completed"].as_u64().unwrap();
        let sum = |member: &str| batches.iter().map(|batch| batch[member].as_u64().unwrap()).sum::<u64>();
        assert_eq!((batches.len(), sum("total"), sum("completed")), (3, 8, done), "{page:#}");
        if seen.last() != Some(&done) {
            seen.push(done);
        }
        if progress["status"] == "completed" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(seen.len() > 2 && seen.last() == Some(&8), "{seen:?}");
    // It goes on where it was, and says when it cannot.
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_else(|| panic!("{told}"));
    assert!(until(&mut listen("/events", &format!("Last-Event-ID: {id}\r\n")), "id:").contains("event: change"));
    assert!(until(&mut listen("/events?after=other-1", ""), "id:").contains("event: reload"));
    assert_eq!(served.json("/")["daemon"]["is_alive"], true);
}

#[test]
fn a_stop_that_the_daemon_would_not_see_is_refused() {
    let spec = "{link: {simulated: {devices: {d-002: {offline: true}}}}}";
    let world = World::with_devices(spec, 3);
    world.job("reboot", "{target: {query: \"startswith(deviceId, 'd-')\"}, action: {command: {name: reboot}}, delivery: {offline: wait, expiresAfter: 30d}}");
    world.apply().unwrap();
    let served = daemon(world.path(), "127.0.0.1:0", &["--actions"]);
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").current_dir(world.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    let followed = git(&["branch", "--show-current"]);
    // It listens before it knows which branch it follows: the one that is checked out then.
    crate::servers::wait_until("it follows a branch", || served.ask("/readyz", &[]).status == 200);
    git(&["checkout", "-q", "-b", "topic"]);
    let before = world.head();
    let stop = || {
        let page = served.html("/jobs/reboot").expect(200).body;
        let token = page.split("name=\"token\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
        let token = token.split('"').next().unwrap();
        let json = ["Accept: application/json"];
        served.post("/jobs/reboot/runs/1/stop", &json, &format!("token={token}&reason=smoke"))
    };
    let refused = stop().expect(409).json()["error"].to_string();
    assert!(refused.contains(&format!("the daemon follows `{followed}`, and `topic` is checked out")), "{refused}");
    assert_eq!(world.head(), before);
    let notes = served.json("/")["notes"].to_string();
    assert!(notes.contains(&format!("follows {followed}, and topic is checked out")), "{notes}");
    git(&["checkout", "-q", &followed]);
    assert_eq!(served.json("/")["notes"], json!([]));
    stop().expect(200);
    assert_ne!(git(&["rev-parse", &followed]), before);
}

#[test]
fn a_daemon_on_another_address_serves_as_before_and_no_pages() {
    let world = World::with_devices(SPEC, 3);
    world.apply().unwrap();
    for (listen, arguments) in [("0.0.0.0:0", &[][..]), ("127.0.0.1:0", &["--no-pages"][..])] {
        let served = daemon(world.path(), listen, arguments);
        served.ask("/healthz", &[]).expect(200);
        let nothing = served.ask("/jobs", &[]).expect(404);
        assert_eq!(nothing.body, "There is nothing here. Try /status.\n");
    }
}

#[test]
fn actions_for_whoever_reaches_an_address_are_an_error_at_the_start() {
    let world = World::with_devices(SPEC, 3);
    world.apply().unwrap();
    let start = ["watch", "--no-webhooks", "--listen", "0.0.0.0:0", "--actions"];
    let refused = world.run(&start).expect(64);
    assert!(refused.stderr.contains("would let whoever reaches this address"), "{refused:?}");
    assert!(refused.stderr.contains("--auth FILE"), "{refused:?}");
    let start = ["watch", "--no-webhooks", "--listen", "127.0.0.1:0", "--actions", "--no-pages"];
    assert!(world.run(&start).expect(64).stderr.contains("--no-pages"));
}

#[test]
fn a_job_that_is_held_has_a_page() {
    let world = World::with_devices(SPEC, 3);
    world.apply().unwrap();
    world.job("dim", "{run: '7', target: {group: nope}, action: {command: {name: reboot}}}");
    let served = Served::of(world.path(), &["--actions"]);
    for path in ["/jobs/dim", "/jobs/dim/runs/7"] {
        let page = served.json(path);
        assert_eq!((&page["progress"], &page["can_stop"], &page["run"]), (&json!(null), &json!(false), &json!("7")));
        assert!(page["life"].as_str().unwrap().contains("It is held"), "{page:#}");
        assert!(page["why_text"].as_str().unwrap().contains("jobs/dim.yaml:"), "{page:#}");
    }
    served.html("/jobs/dim/runs/8").expect(404);
    // Since when, and by whose change.
    let (repository, commit) = (world.repository(), world.head());
    let made = repository.find_commit(commit.parse().unwrap()).unwrap();
    let (by, at) = (made.author().name().unwrap().to_string(), made.time().seconds());
    let check = |changed_in: &Value| {
        let now = served.json("/");
        let held = &now["held"][0];
        assert_eq!((&held["address"], &held["changed_in"]), (&json!("job/dim"), changed_in), "{held:#}");
        assert_eq!(held["changed_by"], json!(by));
    };
    check(&json!(commit));
    assert_eq!(served.json("/")["held"][0]["changed_at"], json!(jiff::Timestamp::from_second(at).unwrap().to_string()));
    world.declare("groups/other.yaml", "DeviceGroup", "other", "{query: '*'}");
    world.commit("another group");
    check(&json!(commit));
    assert!(served.html("/jobs/dim").expect(200).body.contains("It is held"));
}

/// Returns the time of the processor of the threads that read pages: `utime` and `stime` of proc(5).
#[cfg(target_os = "linux")]
fn time_of_pages(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let ticks = stats.filter(|stat| stat.contains("(page-")).flat_map(|stat| {
        let behind_name = stat.rsplit(')').next().unwrap().to_string();
        behind_name.split_whitespace().skip(11).take(2).map(|text| text.parse::<u64>().unwrap()).collect::<Vec<_>>()
    });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[cfg(target_os = "linux")]
#[test]
fn who_reads_page_after_page_beside_a_job_is_slowed_down_and_not_refused() {
    let world = World::with_devices("{link: {simulated: {latency: 30s}}, limits: {inFlight: 1}}", 500);
    world.apply().unwrap();
    let served = daemon(world.path(), "127.0.0.1:0", &[]);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 3}}");
    crate::servers::wait_until("it runs", || !served.json("/")["running"].as_array().unwrap().is_empty());
    let (before, began) = (time_of_pages(served.child.id()), Instant::now());
    let pages = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (pages, served) = (&pages, &served);
            scope.spawn(move || {
                while began.elapsed() < Duration::from_secs(8) {
                    served.json(&format!("/devices?after={reader}-{}", pages.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
    });
    // A tenth of what passed, and a second and a half at first; the rest is for pages that take longer here.
    let took = time_of_pages(served.child.id()) - before;
    assert!(took < began.elapsed() / 10 + Duration::from_millis(2_500), "{pages:?} pages: {took:?}");
}

#[test]
fn too_many_requests_are_told_to_come_again_and_the_pages_live_on() {
    let world = World::with_devices(SPEC, 10);
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || (0..40).map(|_| served.ask("/nothing", &[]).status).collect::<Vec<_>>();
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [404, 429].contains(status)), "{statuses:?}");
    let started = Instant::now();
    while served.ask("/", &[]).status != 200 {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(100));
    }
    // Some more requests are its due by then.
    std::thread::sleep(Duration::from_secs(1));
    // Half a request, and a reader that reads nothing, hold up nobody.
    let mut half = TcpStream::connect(served.address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut slow = TcpStream::connect(served.address).unwrap();
    write!(slow, "GET /devices?format=csv HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).unwrap();
    served.ask("/jobs", &[]).expect(200);
}

#[test]
fn what_is_no_fleet_is_said_at_the_start() {
    let folder = crate::world::folder();
    let ran = Ran::of(fleetform().arg("-C").arg(folder.path()).args(["serve", "--listen", "127.0.0.1:0"])).expect(64);
    assert!(ran.stderr.contains("is not inside a git repository"), "{ran:?}");
}

/// Works on the fleet of the quickstart, where a job runs for a while.
#[test]
fn a_browser_finds_its_way_on_every_page() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some((python, axe)) = variable("FLEETFORM_TEST_BROWSER").zip(variable("FLEETFORM_TEST_AXE")) else {
        println!("skipped: FLEETFORM_TEST_BROWSER names no python3 with selenium, or FLEETFORM_TEST_AXE no axe.min.js");
        return;
    };
    let folder = crate::world::folder();
    let fleet = folder.path().join("lamps");
    std::fs::write(folder.path().join(".gitconfig"), "[user]\nname = Ann\nemail = ann@example.com\n").unwrap();
    Ran::of(fleetform().env("HOME", folder.path()).arg("quickstart").arg(&fleet)).expect(0);
    let write = |path: &str, text: &str| std::fs::write(fleet.join(path), text).unwrap();
    let settings = std::fs::read_to_string(fleet.join("fleetform.yaml")).unwrap();
    write(
        "fleetform.yaml",
        &settings.replace("latency: 20ms", "latency: 300ms").replace("inFlight: 1000", "inFlight: 3"),
    );
    std::fs::create_dir_all(fleet.join("schedules")).unwrap();
    let document = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let nightly = "{start: '2030-01-01T02:30:00', timeZone: Europe/Amsterdam, recurrence: daily, \
                    job: {target: {group: hall-a}, action: {command: {name: reboot}}}}";
    write("schedules/nightly.yaml", &document("Schedule", "nightly", nightly));
    let slow = "{target: {query: \"tags.hall != 'x'\"}, action: {command: {name: reboot}}, delivery: {batchSize: 100}}";
    write("jobs/slow.yaml", &document("Job", "slow", slow));
    let repository = git2::Repository::open(&fleet).unwrap();
    let mut index = repository.index().unwrap();
    index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let ann = git2::Signature::now("Ann", "ann@example.com").unwrap();
    let parent = repository.head().unwrap().peel_to_commit().unwrap();
    repository.commit(Some("HEAD"), &ann, &ann, "Check all lamps (#12)", &tree, &[&parent]).unwrap();
    let served = daemon(&fleet, "127.0.0.1:0", &["--actions"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/browser.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(format!("http://{}", served.address)).arg(axe);
    if variable("UPDATE_SCREENSHOTS").is_some() {
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pages"));
    }
    let ran = Ran::of(&mut command);
    println!("{}", ran.stdout);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
}
