//! Secrets by reference: who gets the value, what is kept of it, and what happens where it is not.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use fleetform::diag::{Code, code};
use fleetform::execute::{CrashPoints, Inbox, Ports, Side};
use fleetform::link::{Ask, DeviceLink, LinkError, LinkEvent, Request};
use fleetform::model::outcome::Reason;
use fleetform::ops::apply::{Applied, ApplyOptions};
use fleetform::ops::plan::ShownPlan;
use fleetform::ops::rehearse::{RehearsalOptions, ScratchFolder, rehearse};
use fleetform::ops::watch::{Note, WatchOptions, watch};
use fleetform::ops::{AllowedSecrets, OpsError};
use fleetform::plan::{SavedPlan, plan_to_json};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::servers::wait_until;
use crate::world::{Ran, World, fleetform, folder, without_children};

/// Values that are found nowhere by chance. The second has what JSON escapes.
const OLD: &str = "hunter2-OLD-7f3a9c";
const NEW: &str = "hunter2 \"NEW\" \\ 51d0e8";

const SET: &str = "{target: {query: '*'}, action: {property: {wifi: {psk: {$secret: {env: WIFI_PSK}}, ssid: hall}}}, \
                   delivery: {confirm: acknowledged, expiresAfter: 1h}}";
const JOIN: &str = "{target: {query: '*'}, action: {command: {name: join, \
                    payload: {psk: {$secret: {env: WIFI_PSK}}, list: [1, {$secret: {env: WIFI_PSK}}]}}}}";

fn world(devices: &str, count: usize) -> World {
    let spec = format!("{{link: {{simulated: {{journal: devices.jsonl, latency: 1s, devices: {{{devices}}}}}}}}}");
    let world = World::with_devices(&spec, count);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.commit("ignore");
    world
}

/// Lets the fleet use a variable with a value.
fn allow(world: &World, value: Option<&str>) {
    let mut secrets = AllowedSecrets::default();
    secrets.allow("env:WIFI_PSK", &|_| value.map(OsString::from)).unwrap();
    *world.secrets.borrow_mut() = secrets;
}

fn allow_files(world: &World, texts: &[&str]) {
    let mut secrets = AllowedSecrets::default();
    texts.iter().for_each(|text| secrets.allow(text, &|_| None).unwrap());
    *world.secrets.borrow_mut() = secrets;
}

/// What devices were asked, and what they say on top of what the simulated ones do.
#[derive(Clone, Default)]
struct Tap {
    asked: Rc<RefCell<Vec<Request>>>,
    /// Replaces the bodies of answers.
    body: Option<String>,
    /// Reported once, by the first device.
    report: Rc<RefCell<Option<Value>>>,
}

struct Tapped {
    tap: Tap,
    link: Box<dyn DeviceLink>,
}

impl DeviceLink for Tapped {
    fn send(&mut self, now: Timestamp, request: Request) {
        self.tap.asked.borrow_mut().push(request.clone());
        self.link.send(now, request);
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = self.link.poll(now)?;
        for event in &mut events {
            if let (LinkEvent::Answered { body, .. }, Some(own)) = (event, &self.tap.body) {
                *body = own.clone();
            }
        }
        if let Some(patch) = self.tap.report.borrow_mut().take() {
            events.push(LinkEvent::Reported { device_id: "d-001".to_string(), patch, rid: None, at: now });
        }
        Ok(events)
    }

    fn due(&self) -> Option<Timestamp> {
        self.link.due()
    }

    fn under_way(&self) -> usize {
        self.link.under_way()
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.link.expects_until()
    }
}

impl Tap {
    fn options(&self) -> ApplyOptions {
        let tap = self.clone();
        let wrap = move |link| Box::new(Tapped { tap: tap.clone(), link }) as Box<dyn DeviceLink>;
        ApplyOptions { ports: Ports { link: Some(Rc::new(wrap)), ..Ports::REAL }, ..ApplyOptions::default() }
    }

    fn apply(&self, world: &World) -> Result<Applied, OpsError> {
        world.apply_with(&self.options(), &Inbox::new(), &mut |_| {})
    }

    /// Returns what each device was sent, in order.
    fn sent(&self) -> Vec<(String, Value)> {
        let value = |request: &Request| match &request.ask {
            Ask::Command { payload, .. } => (request.device_id.clone(), Value::clone(payload)),
            Ask::Desired { patch, .. } => (request.device_id.clone(), Value::clone(patch)),
        };
        self.asked.borrow().iter().map(value).collect()
    }
}

fn reasons(world: &World, job: &str) -> Vec<Reason> {
    world.rows(job, "1").iter().map(|row| row.reason).collect()
}

/// Returns the mark that the registry has of a device's secret.
fn mark(world: &World, device: &str) -> String {
    let mark = world.device(device).desired["wifi"]["psk"].as_str().unwrap().to_string();
    assert!(mark.starts_with("(secret:") && mark.len() == 73, "{mark}");
    mark
}

fn codes(shown: &ShownPlan) -> Vec<Code> {
    shown.findings.diagnostics.iter().map(|one| one.code).collect()
}

/// Returns the errors of an apply that was refused.
fn refused(world: &World) -> String {
    match world.apply() {
        Err(OpsError::Invalid(findings)) => {
            assert!(findings.diagnostics.errors_are_all(code::SECRET_MISSING), "{findings:?}");
            let text =
                |one: &fleetform::diag::Diagnostic| format!("{} {}", one.detail, one.help.clone().unwrap_or_default());
            findings.diagnostics.sorted().into_iter().map(text).collect::<Vec<_>>().join("\n")
        }
        other => panic!("{other:?}"),
    }
}

/// Returns (path, from, to, devices) of each line of the diff of a planned job.
fn diff(world: &World, job: &str) -> Vec<(String, Value, Value, u64)> {
    let plan = world.plan().unwrap().plan;
    let change = plan.changes.iter().find(|change| change.subject.to_string() == format!("job/{job}")).unwrap();
    let value = |value: &Option<Value>| value.clone().unwrap_or_default();
    change.diff().iter().map(|line| (line.path.clone(), value(&line.from), value(&line.to), line.devices)).collect()
}

fn unchanged(world: &World, job: &str) -> u64 {
    let plan = world.plan().unwrap().plan;
    let change = plan.changes.iter().find(|change| change.subject.to_string() == format!("job/{job}")).unwrap();
    change.targets().unwrap().unchanged
}

#[test]
fn a_device_gets_the_value_and_the_registry_keeps_a_mark() {
    let (world, tap) = (world("", 2), Tap::default());
    allow(&world, Some(NEW));
    world.job("set", SET);
    tap.apply(&world).unwrap();
    let patch = json!({"wifi": {"psk": NEW, "ssid": "hall"}});
    assert_eq!(tap.sent(), [("d-001".to_string(), patch.clone()), ("d-002".to_string(), patch)]);
    assert_eq!(reasons(&world, "set"), [Reason::Acknowledged; 2]);
    // What a device reports of it is kept in the same way.
    let device = world.device("d-001");
    assert_eq!(device.reported["wifi"]["value"]["psk"], json!(mark(&world, "d-001")));
    assert_eq!(device.desired["wifi"]["ssid"], json!("hall"));
    assert_eq!(mark(&world, "d-001"), mark(&world, "d-002"), "the same value has the same mark in a registry");
}

#[test]
fn a_command_gets_the_value_wherever_it_stands_in_the_payload() {
    let (world, tap) = (world("", 1), Tap::default());
    allow(&world, Some(NEW));
    world.job("join", JOIN);
    assert_eq!(diff(&world, "join")[0].2, json!({"psk": "(secret)", "list": [1, "(secret)"]}));
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent(), [("d-001".to_string(), json!({"psk": NEW, "list": [1, NEW]}))]);
    assert_eq!(reasons(&world, "join"), [Reason::Responded]);
    let whole = "{target: {query: '*'}, action: {command: {name: join, payload: {$secret: {env: WIFI_PSK}}}}}";
    world.job("whole", whole);
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent().pop().unwrap().1, json!(NEW));
}

#[test]
fn the_same_value_is_unchanged_and_another_one_is_a_change() {
    let world = world("", 3);
    allow(&world, Some(OLD));
    world.job("set", SET);
    assert_eq!(diff(&world, "set")[0], ("wifi.psk".to_string(), Value::Null, json!("(secret)"), 3));
    world.apply().unwrap();
    let before = mark(&world, "d-001");
    world.job("again", SET);
    assert_eq!((unchanged(&world, "again"), diff(&world, "again")), (3, Vec::new()));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "again"), [Reason::Unchanged; 3]);
    allow(&world, Some(NEW));
    world.job("rotate", SET);
    assert_eq!(diff(&world, "rotate"), [("wifi.psk".to_string(), json!("(secret)"), json!("(secret)"), 3)]);
    world.apply().unwrap();
    assert_eq!(reasons(&world, "rotate"), [Reason::Acknowledged; 3]);
    assert_ne!(mark(&world, "d-001"), before);
    // A plain text takes its place, and is shown; what was there is not.
    world.job("open", "{target: {devices: [d-001]}, action: {property: {wifi: {psk: none}}}}");
    assert_eq!(diff(&world, "open"), [("wifi.psk".to_string(), json!("(secret)"), json!("none"), 1)]);
    world.apply().unwrap();
    assert_eq!(world.device("d-001").desired["wifi"]["psk"], json!("none"));
    // And an object that was there is replaced as a text replaces it.
    world.job("nest", "{target: {devices: [d-001]}, action: {property: {wifi: {psk: {a: 1}}}}}");
    world.apply().unwrap();
    world.job("close", SET);
    world.apply().unwrap();
    assert_eq!(mark(&world, "d-001"), mark(&world, "d-002"));
}

#[test]
fn a_plan_without_the_secret_says_what_it_does_not_know() {
    let world = world("", 3);
    allow(&world, Some(OLD));
    world.job("first", &SET.replace("query: '*'", "devices: [d-001]"));
    world.apply().unwrap();
    world.job("set", SET);
    *world.secrets.borrow_mut() = AllowedSecrets::default();
    let perhaps = json!("(secret, perhaps this one)");
    let lines = diff(&world, "set");
    assert_eq!(lines[0], ("wifi.psk".to_string(), Value::Null, json!("(secret)"), 2));
    assert_eq!(lines[1], ("wifi.psk".to_string(), perhaps, json!("(secret)"), 1));
    assert!(codes(&world.plan().unwrap()).is_empty(), "a machine without secrets is not warned of it");
    // A snapshot is no better, whatever is known.
    let snapshot = world.folder_file("fleet.snapshot");
    world.run(&["snapshot", "--out", &snapshot]).expect(0);
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["plan", "--snapshot", &snapshot, "--allow-secret", "env:WIFI_PSK"]);
    let ran = Ran::of(command.env("WIFI_PSK", OLD)).expect(0);
    assert!(ran.stdout.contains(r#""(secret, perhaps this one)" -> "(secret)"  1 device"#), "{ran:?}");
    // One that is allowed and is not there is told.
    allow(&world, None);
    assert_eq!(codes(&world.plan().unwrap()), [code::SECRET_UNKNOWN]);
    let ran = world.run(&["plan", "--markdown"]).expect(0);
    assert!(ran.stdout.contains("`\"(secret, perhaps this one)\"`") && !ran.stdout.contains("(secret:"), "{ran:?}");
}

#[test]
fn nothing_is_claimed_without_the_secret() {
    let world = world("", 2);
    world.apply().unwrap();
    world.job("set", SET);
    world.job("other", "{target: {query: '*'}, action: {tags: {a: b}}}");
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("jobs/set.yaml:4:"), "{ran:?}");
    assert!(ran.stderr.contains("sends the secret `env:WIFI_PSK`, and it is not allowed here"), "{ran:?}");
    assert!(ran.stderr.contains("add `--allow-secret env:WIFI_PSK`"), "{ran:?}");
    assert!(!world.results().keys().any(|path| path.starts_with("claims/")));
    assert!(world.registry().secret_key().unwrap().is_none(), "no key is made for nothing");
    for (value, expect) in [
        (None, "it is not set"),
        (Some(""), "it is empty"),
        (Some("abc"), "it has fewer than 4 bytes"),
        (Some(&*"x".repeat(4097)), "it has more than 4096 bytes"),
    ] {
        allow(&world, value);
        assert!(refused(&world).contains(expect), "{expect}");
    }
    allow(&world, Some(OLD));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "set"), [Reason::Acknowledged; 2]);
}

/// A job that is not to run now needs no secret.
#[test]
fn a_job_that_waits_does_not_keep_the_others() {
    let world = world("d-001: {answers: 500}", 1);
    let reboot = "{target: {query: '*'}, action: {command: {name: reboot}}, \
                  delivery: {cancellationThreshold: {failures: 0}}}";
    world.job("reboot", reboot);
    world.job("set", &SET.replace("target:", "after: [reboot], target:"));
    // It would run after the other one, so it is asked for before that.
    assert!(refused(&world).contains("env:WIFI_PSK"));
    allow(&world, Some(OLD));
    world.apply().unwrap();
    *world.secrets.borrow_mut() = AllowedSecrets::default();
    world.job("dim", "{target: {query: '*'}, action: {property: {light: 3}}}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "dim"), [Reason::Written]);
    world.declare("jobs/off.yaml", "Job", "off", &SET.replace("target:", "suspend: true, target:"));
    world.commit("off");
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn the_binary_takes_what_it_may_read_from_options_and_the_environment() {
    let world = world("", 1);
    world.job("set", SET);
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(arguments).envs(variables.iter().copied());
        Ran::of(&mut command)
    };
    run(&["apply", "--yes"], &[("WIFI_PSK", OLD)]).expect(75);
    let wrong = run(&["apply", "--yes", "--allow-secret", "WIFI_PSK"], &[]).expect(64);
    assert!(wrong.stderr.contains("`env:NAME`"), "{wrong:?}");
    for bad in ["env:", "env:A-B", "file:psk.txt", "file:/", "file:/run/../etc/", "vault:x"] {
        run(&["plan", "--allow-secret", bad], &[]).expect(64);
    }
    run(&["apply", "--yes"], &[("WIFI_PSK", OLD), ("FLEETFORM_ALLOW_SECRETS", "env:OTHER, env:WIFI_PSK")]).expect(0);
    assert_eq!(reasons(&world, "set"), [Reason::Acknowledged]);
    world.job("again", SET);
    // Empty is how a unit file leaves it out.
    run(&["apply", "--yes"], &[("WIFI_PSK", OLD), ("FLEETFORM_ALLOW_SECRETS", "")]).expect(75);
    run(&["apply", "--yes", "--allow-secret", "env:WIFI_PSK"], &[("WIFI_PSK", OLD)]).expect(0);
    assert_eq!(reasons(&world, "again"), [Reason::Unchanged]);
}

/// Returns what becomes of a job whose secret is a file, when some files are allowed.
fn of_file(world: &World, reference: &str, allowed: &[&str]) -> Result<Value, String> {
    let tap = Tap::default();
    let name = format!("read-{}", world.results().keys().filter(|path| path.starts_with("claims/")).count());
    world.job(&name, &JOIN.replace("{env: WIFI_PSK}", &format!("{{file: {reference}}}")));
    allow_files(world, allowed);
    match tap.apply(world) {
        Ok(_) => Ok(tap.sent()[0].1["psk"].clone()),
        Err(_) => {
            let why = refused(world);
            fs::remove_file(world.file(&format!("jobs/{name}.yaml"))).unwrap();
            world.commit("without it");
            Err(why)
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_is_read_only_where_the_operator_allows_it() {
    use std::os::unix::fs::symlink;
    let (world, outside) = (world("", 1), folder());
    let (secrets, other) = (outside.path().join("secrets"), outside.path().join("other"));
    fs::create_dir_all(secrets.join("..data")).unwrap();
    fs::create_dir_all(&other).unwrap();
    let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).unwrap();
    write(&secrets.join("psk.txt"), b"hunter2-file\n");
    write(&secrets.join("lines.txt"), b"hunter2\r\n\n\n");
    write(&secrets.join("crlf.txt"), b"hunter2-crlf\r\n");
    write(&other.join("psk.txt"), b"another");
    write(&other.join("only.txt"), b"only here");
    write(&secrets.join("nul.txt"), b"hunter\0two");
    write(&secrets.join("latin.txt"), b"hunter\xe9two");
    write(&secrets.join("empty.txt"), b"\n");
    write(&secrets.join("long.txt"), &[b'x'; 5000]);
    write(&secrets.join("most.txt"), &[&[b'x'; 4096][..], b"\r\n"].concat());
    // Kubernetes mounts a secret like this.
    write(&secrets.join("..data/mounted"), b"hunter2-mounted");
    symlink("..data/mounted", secrets.join("mounted")).unwrap();
    symlink(other.join("only.txt"), secrets.join("out.txt")).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let (all, others) = (format!("file:{}/", text(&secrets)), format!("file:{}/", text(&other)));
    let read = |reference: &str, allowed: &[&str]| of_file(&world, reference, allowed);
    assert_eq!(read("psk.txt", &[&all]), Ok(json!("hunter2-file")));
    assert_eq!(read("lines.txt", &[&all]), Ok(json!("hunter2\r\n\n")), "one line end is taken off");
    assert_eq!(read("crlf.txt", &[&all]), Ok(json!("hunter2-crlf")));
    assert_eq!(read("mounted", &[&all]), Ok(json!("hunter2-mounted")));
    assert_eq!(read("most.txt", &[&all]), Ok(json!("x".repeat(4096))));
    assert_eq!(read("psk.txt", &[&others, &all]), Ok(json!("another")), "the first folder counts");
    assert_eq!(read("only.txt", &[&all, &others]), Ok(json!("only here")));
    let whole = text(&secrets.join("psk.txt"));
    assert_eq!(read(&whole, &[&format!("file:{whole}")]), Ok(json!("hunter2-file")));
    assert_eq!(read(&whole, &[&all]), Ok(json!("hunter2-file")));
    // A reference need not tell where a machine has its secrets.
    assert_eq!(read("psk.txt", &[&format!("file:{whole}")]), Ok(json!("hunter2-file")));
    assert_eq!(read("secrets/psk.txt", &[&format!("file:{whole}")]), Ok(json!("hunter2-file")));
    for (reference, allowed, expect) in [
        ("psk.txt", &[][..], "`--allow-secret file:/absolute/psk.txt`"),
        ("sk.txt", &[&*format!("file:{whole}")], "is not allowed here"),
        (&*whole, &[], &*format!("add `--allow-secret file:{whole}`")),
        (&*whole, &[&*others], "is not allowed here"),
        ("/etc/passwd", &[&*all], "is not allowed here"),
        ("none.txt", &[&*all], "does not exist"),
        ("out.txt", &[&*all], "leads out of the folder"),
        ("..data", &[&*all], "is no regular file"),
        ("nul.txt", &[&*all], "has a NUL"),
        ("latin.txt", &[&*all], "is not UTF-8"),
        ("empty.txt", &[&*all], "is empty"),
        ("long.txt", &[&*all], "more than 4096 bytes"),
    ] {
        let why = read(reference, allowed).unwrap_err();
        assert!(why.contains(expect) && !why.contains("hunter"), "{reference}: {why}");
    }
}

#[test]
fn a_saved_plan_that_did_not_know_the_secret_is_applied_with_it() {
    let world = world("", 3);
    allow(&world, Some(OLD));
    world.job("first", &SET.replace("query: '*'", "devices: [d-001]"));
    world.apply().unwrap();
    world.job("set", SET);
    *world.secrets.borrow_mut() = AllowedSecrets::default();
    let saved = SavedPlan::from_json(&plan_to_json(&world.plan().unwrap().plan)).unwrap();
    allow(&world, Some(OLD));
    let options = ApplyOptions { saved: Some(saved.clone()), ..ApplyOptions::default() };
    // Another change of the same job is still one.
    world.job("set", &SET.replace("ssid: hall", "ssid: yard"));
    assert!(matches!(world.apply_with(&options, &Inbox::new(), &mut |_| {}), Err(OpsError::Held { .. })));
    world.job("set", SET);
    world.apply_with(&options, &Inbox::new(), &mut |_| {}).unwrap();
    assert_eq!(reasons(&world, "set"), [Reason::Unchanged, Reason::Acknowledged, Reason::Acknowledged]);
}

#[test]
fn a_run_that_goes_on_reads_the_secret_again() {
    let world = world("", 4);
    allow(&world, Some(OLD));
    world.job("set", &SET.replace("confirm:", "batchSize: 2, confirm:"));
    // Between the batches.
    assert!(dies(&world, CrashPoints::at_step(Side::Before, "write", 2)));
    *world.secrets.borrow_mut() = AllowedSecrets::default();
    assert!(refused(&world).contains("--allow-secret env:WIFI_PSK"), "nothing goes on without it");
    let (old, tap) = (mark(&world, "d-001"), Tap::default());
    allow(&world, Some(NEW));
    tap.apply(&world).unwrap();
    assert!(tap.sent().iter().all(|(_, patch)| patch["wifi"]["psk"] == json!(NEW)));
    let marks: Vec<String> = (1..=4).map(|n| mark(&world, &format!("d-00{n}"))).collect();
    assert_eq!((&marks[0], &marks[1]), (&old, &old), "what was sent keeps its mark");
    assert!(marks[2] == marks[3] && marks[2] != old);
    assert_eq!(reasons(&world, "set"), [Reason::Acknowledged; 4]);
}

#[test]
fn a_version_is_sent_again_with_its_own_value_only() {
    let (world, tap) = (world("d-001: {silent: true}", 1), Tap::default());
    allow(&world, Some(OLD));
    world.job("set", SET);
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent().len(), 1);
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent().len(), 2, "a process that takes up a run sends it again");
    allow(&world, Some(NEW));
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent().len(), 2, "another value is not sent as that version");
    assert!(tap.sent().iter().all(|(_, patch)| patch["wifi"]["psk"] == json!(OLD)));
    world.pass(Duration::from_secs(7200));
    tap.apply(&world).unwrap();
    assert_eq!(reasons(&world, "set"), [Reason::Expired]);
    world.job("again", SET);
    assert_eq!(diff(&world, "again").len(), 1, "the next run finds the former value");
}

#[test]
fn what_devices_say_of_a_secret_is_masked() {
    let (world, mut tap) = (world("", 1), Tap::default());
    allow(&world, Some(NEW));
    world.job("join", JOIN);
    let quoted = json!({"psk": NEW}).to_string();
    tap.body = Some(format!("cannot join with {NEW} ({quoted})"));
    *tap.report.borrow_mut() = Some(json!({"echo": [NEW, format!("<{NEW}>"), {NEW: 1}], "plain": "x"}));
    tap.apply(&world).unwrap();
    assert_eq!(world.rows("join", "1")[0].message, r#"cannot join with (secret) ({"psk":"(secret)"})"#);
    let reported = world.device("d-001").reported;
    assert!(reported["echo"][0].as_str().unwrap().starts_with("(secret:"));
    assert_eq!((&reported["echo"][1], &reported["echo"][2]), (&json!("<(secret)>"), &json!({"(secret)": 1})));
    assert_eq!(reported["plain"], json!("x"));
}

/// A device reports what it took over at any time, also to a process that never had the value.
#[test]
fn a_secret_of_a_twin_is_recognised_by_its_mark() {
    let (world, tap) = (world("", 2), Tap::default());
    allow(&world, Some(OLD));
    world.job("set", SET);
    world.apply().unwrap();
    *world.secrets.borrow_mut() = AllowedSecrets::default();
    *tap.report.borrow_mut() = Some(json!({"current": {"psk": OLD, "other": "x"}}));
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    tap.apply(&world).unwrap();
    let reported = world.device("d-001").reported;
    assert_eq!(reported["current"], json!({"psk": mark(&world, "d-001"), "other": "x"}));
}

#[test]
fn a_query_sees_a_text_that_is_not_the_value() {
    let world = world("", 2);
    allow(&world, Some(OLD));
    world.job("set", &SET.replace("query: '*'", "devices: [d-001]"));
    world.apply().unwrap();
    let count = |query: &str| world.run(&["device", "list", "--query", query]).expect(0).stdout.matches("d-00").count();
    assert_eq!(count("is_string(properties.desired.wifi.psk)"), 1);
    assert_eq!(count(&format!("properties.desired.wifi.psk = '{OLD}'")), 0);
    assert_eq!(count("properties.desired.wifi.psk = '(secret)'"), 0);
}

#[test]
fn an_export_that_comes_back_changes_no_secret() {
    let world = world("", 2);
    allow(&world, Some(OLD));
    world.job("set", SET);
    world.apply().unwrap();
    let before = mark(&world, "d-001");
    let exported = world.run(&["device", "export", "--format", "iothub", "-o", "-"]).expect(0).stdout;
    assert!(exported.contains(r#""psk":"(secret)""#) && !exported.contains("(secret:"), "{exported}");
    world.write("again.jsonl", exported.replace("hall", "yard"));
    world.declare("again.yaml", "DeviceImport", "again", "{file: again.jsonl}");
    fs::remove_file(world.file("imports.yaml")).unwrap();
    world.commit("again");
    world.apply().unwrap();
    assert_eq!((mark(&world, "d-001"), &world.device("d-001").desired["wifi"]["ssid"]), (before, &json!("yard")));
}

#[test]
fn a_job_for_one_device_may_have_a_secret() {
    let (world, tap) = (world("", 2), Tap::default());
    world.apply().unwrap();
    allow(&world, Some(OLD));
    world.run(&["device", "set", "d-001", r#"wifi.psk={"$secret": {"env": "WIFI_PSK"}}"#]).expect(0);
    world.run(&["device", "call", "d-002", "join", r#"[{"$secret": {"env": "WIFI_PSK"}}]"#]).expect(0);
    tap.apply(&world).unwrap();
    assert_eq!(tap.sent(), [("d-002".to_string(), json!([OLD]))]);
    assert_eq!(mark(&world, "d-001").len(), 73);
    let copied = world.run(&["device", "set", "d-002", "wifi.psk=(secret)"]).expect(65);
    assert!(copied.stderr.contains("FF322"), "{copied:?}");
    let tag = world.run(&["device", "set", "d-002", "--tags", r#"psk={"$secret": {"env": "WIFI_PSK"}}"#]);
    assert!(tag.code == 65 && tag.stderr.contains("not sent to devices"), "{tag:?}");
}

#[test]
fn a_rehearsal_needs_no_secret() {
    let world = world("", 3);
    world.apply().unwrap();
    world.job("set", SET);
    world.job("join", JOIN);
    let scratch = ScratchFolder::make().unwrap();
    let options = RehearsalOptions::default();
    let rehearsed = without_children(|| {
        rehearse(&world.environment(), &options, &scratch, world.clock_now(), &mut |_| {}).unwrap()
    });
    let completed: Vec<u64> = rehearsed.runs.iter().map(|run| run.record.counts.completed).collect();
    assert_eq!(completed, [3, 3]);
}

#[test]
fn what_is_too_large_with_its_secrets_is_not_begun() {
    let world = world("", 1);
    allow(&world, Some(&"x".repeat(4096)));
    let payload: Vec<&str> = vec!["{$secret: {env: WIFI_PSK}}"; 33];
    let payload = payload.join(", ");
    world
        .job("join", &format!("{{target: {{query: '*'}}, action: {{command: {{name: join, payload: [{payload}]}}}}}}"));
    let why = refused(&world);
    assert!(why.contains("sends 135268 bytes as JSON, and at most 131072 are allowed"), "{why}");
    world.job("join", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    let members: String = (0..9).map(|n| format!("k{n}: {{$secret: {{env: WIFI_PSK}}}}, ")).collect();
    world.job("set", &format!("{{target: {{query: '*'}}, action: {{property: {{{members}}}}}}}"));
    assert!(refused(&world).contains("bytes as JSON, and at most 32768 are allowed"));
}

/// Applies with a process that dies at a crash point. Returns false when it ended before that.
fn dies(world: &World, crash: CrashPoints) -> bool {
    let options = ApplyOptions { ports: fleetform::sim::dying(crash), ..ApplyOptions::default() };
    let apply = || world.apply_with(&options, &Inbox::new(), &mut |_| {}).unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply)).is_err()
}

/// At each start another value, and none of them is written anywhere.
#[test]
fn a_run_that_is_killed_anywhere_goes_on_with_the_value_of_now() {
    let world = world("", 4);
    world.apply().unwrap();
    world.job("set", &SET.replace("confirm:", "batchSize: 1, confirm:"));
    world.job("join", &JOIN.replace("name: join,", "name: join, idempotent: true,"));
    let mut starts = 0;
    while {
        starts += 1;
        allow(&world, Some(if starts % 2 == 0 { OLD } else { NEW }));
        dies(&world, CrashPoints::at(20 + starts * 3))
    } {
        assert!(starts < 100);
    }
    assert!(starts > 3, "{starts}");
    // A device that was written with a former value is not sent another one as that version, and expires.
    for _ in 0..4 {
        world.pass(Duration::from_secs(7200));
        world.apply().unwrap();
    }
    for (job, good) in [("set", Reason::Acknowledged), ("join", Reason::Responded)] {
        let found = reasons(&world, job);
        assert_eq!(found.len(), 4, "{job} {found:?}");
        assert!(found.iter().all(|reason| *reason == good || *reason == Reason::Expired), "{job} {found:?}");
    }
    assert_eq!(places_with(&world, &[OLD, NEW]), Vec::<String>::new());
}

#[test]
fn a_daemon_holds_the_job_and_goes_on_with_the_others() {
    let world = world("", 2);
    world.job("set", SET);
    world.job("dim", "{target: {query: '*'}, action: {property: {light: 3}}}");
    let held = daemon(&world, &[], "dim", None);
    assert!(held.contains("FF614") && held.contains("env:WIFI_PSK"), "{held}");
    assert!(!world.results().keys().any(|path| path.starts_with("claims/set")));
    // With the option that it named, it runs.
    daemon(&world, &["--allow-secret", "env:WIFI_PSK"], "set", Some(OLD));
    assert_eq!(reasons(&world, "set"), [Reason::Acknowledged; 2]);
}

/// Returns what a daemon says of missed occurrences within some virtual time, and the codes of what it holds.
fn missed(world: &World, time: Duration) -> Vec<String> {
    let options = WatchOptions {
        gateway: None,
        trust: fleetform::ops::Trust::default(),
        remote: None,
        branch: None,
        interval: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        lease_time: Duration::from_secs(180),
        pulse: None,
        accepts_rewind: false,
        has_events: false,
        ports: Ports::REAL,
    };
    let interrupt = Inbox::new();
    world.clock.interrupt_at(world.clock_now().checked_add(time).unwrap(), &interrupt);
    let mut said = Vec::new();
    let mut tell = |note: &Note<'_>| match note {
        Note::Missed { job, reason, .. } => said.push(format!("{job}: {reason}")),
        Note::TakenUp { held, .. } => {
            said.extend(held.documents.values().filter_map(|hold| hold.code).map(str::to_string))
        }
        _ => {}
    };
    without_children(|| watch(&world.environment(), &options, &world.clock, &interrupt, &mut tell).unwrap());
    world.clock.interrupt_never();
    said
}

#[test]
fn an_occurrence_without_its_secret_is_held_and_told_as_missed() {
    let world = world("", 2);
    // It is 10:00.
    let daily =
        "{start: 2026-11-20T10:30:00, timeZone: UTC, recurrence: daily, missed: {policy: skip, within: 5m}, job: JOB}";
    world.declare("nightly.yaml", "Schedule", "nightly", &daily.replace("JOB", SET));
    world.commit("nightly");
    let said = missed(&world, Duration::from_secs(3600));
    assert!(said.iter().any(|line| line == "FF614"), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("nightly: ") && line.contains("env:WIFI_PSK")), "{said:?}");
    allow(&world, Some(OLD));
    missed(&world, Duration::from_secs(24 * 3600));
    assert_eq!(world.record("nightly", "20261121T103000Z")["completed"], json!(2));
}

/// Runs a daemon until a job has ended, looks for the value while it still runs, and returns what it said.
fn daemon(world: &World, arguments: &[&str], job: &str, value: Option<&str>) -> String {
    let log = world.file(&format!(".git/{job}.log"));
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["watch", "--log-filter", "trace"]).args(arguments);
    command.envs(value.map(|value| ("WIFI_PSK", value)));
    command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut child = crate::world::spawn(&mut command);
    let path = format!("runs/{job}/1/run.json");
    let has_ended = || {
        let record = world.results().remove(&path).map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        record.is_some_and(|record| record["status"] == "completed")
    };
    wait_until(&format!("{job} is completed"), has_ended);
    if let Some(value) = value {
        // The file beside the registry has what is not in the registry yet.
        assert_eq!(places_with(world, &[value]), Vec::<String>::new());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    fs::read_to_string(&log).unwrap()
}

/// Returns the files and git objects of a fleet that hold one of some values, as it is or as JSON writes it.
fn places_with(world: &World, values: &[&str]) -> Vec<String> {
    let quoted = |value: &&str| Value::from(*value).to_string().trim_matches('"').to_string();
    let forms: Vec<String> = values.iter().map(ToString::to_string).chain(values.iter().map(quoted)).collect();
    let has_one = |bytes: &[u8]| forms.iter().any(|form| bytes.windows(form.len()).any(|at| at == form.as_bytes()));
    let mut found = Vec::new();
    let mut files = Vec::new();
    let mut folders = vec![world.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    let rows = world.rows_of_database();
    assert!(!rows.is_empty() || files.iter().any(|file| file.ends_with("fleet.db")));
    found.extend(rows.into_iter().filter(|row| has_one(row.as_bytes())));
    for file in files {
        // Of a daemon at work a file may be gone by now.
        if has_one(&fs::read(&file).unwrap_or_default()) {
            found.push(file.display().to_string());
        }
    }
    let repository = world.repository();
    let objects = repository.odb().unwrap();
    objects
        .foreach(|id| {
            if has_one(objects.read(*id).unwrap().data()) {
                found.push(id.to_string());
            }
            true
        })
        .unwrap();
    found
}

/// Everything that a session prints and writes, with the value where the devices get it and nowhere else.
#[test]
fn a_whole_session_shows_the_value_to_the_devices_alone() {
    let world = world("d-003: {answers: 500}", 3);
    world.job("set", SET);
    world.job("join", JOIN);
    let again = "{start: 2026-01-01T00:00:00, timeZone: UTC, recurrence: daily, job: JOB}";
    world.declare("nightly.yaml", "Schedule", "nightly", &again.replace("JOB", SET));
    world.commit("nightly");
    let said = RefCell::new(String::new());
    let run = |arguments: &[&str], codes: &[i32]| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(arguments);
        command.env("WIFI_PSK", NEW).env("FLEETFORM_ALLOW_SECRETS", "env:WIFI_PSK").env("FLEETFORM_LOG", "trace");
        let ran = Ran::of(&mut command);
        assert!(codes.contains(&ran.code), "{arguments:?} {ran:#?}");
        *said.borrow_mut() += &format!("{arguments:?}\n{}{}", ran.stdout, ran.stderr);
    };
    let (saved, snapshot) = (world.folder_file("plan.json"), world.folder_file("fleet.snapshot"));
    let plans: &[&[&str]] =
        &[&["plan", "-v"], &["plan", "--json"], &["plan", "--markdown"], &["plan", "--format", "sarif"]];
    let looks: &[&[&str]] = &[
        &["status", "-v"],
        &["status", "--json"],
        &["job", "list", "--json"],
        &["job", "show", "set", "-v"],
        &["job", "show", "join", "--devices"],
        &["job", "show", "join", "--why"],
        &["job", "results", "set", "-o", "-"],
        &["schedule", "next", "nightly"],
        &["device", "show", "d-001"],
        &["device", "show", "d-001", "--json"],
        &["device", "list", "--json"],
        &["device", "export", "-o", "-"],
        &["device", "export", "--format", "iothub", "-o", "-"],
        &["explain", "FF614"],
        &["snapshot", "--out", &snapshot],
        &["plan", "--snapshot", &snapshot, "--json"],
    ];
    for format in ["human", "json", "github", "sarif", "junit"] {
        run(&["validate", "--format", format], &[0]);
    }
    plans.iter().for_each(|plan| run(plan, &[0]));
    run(&["simulate"], &[0]);
    run(&["simulate", "--json"], &[0]);
    run(&["plan", "--out", &saved], &[0]);
    run(&["apply", "-v", "--yes", &saved], &[0]);
    looks.iter().for_each(|look| run(look, &[0]));
    // The next jobs find values there.
    world.job("again", SET);
    plans.iter().for_each(|plan| run(plan, &[0]));
    *said.borrow_mut() += &daemon(&world, &["--allow-secret", "env:WIFI_PSK"], "again", Some(NEW));
    world.job("last", &SET.replace("{env: WIFI_PSK}", "{env: OTHER}"));
    plans.iter().for_each(|plan| run(plan, &[0]));
    run(&["apply", "--json", "--yes"], &[75]);
    looks.iter().for_each(|look| run(look, &[0]));
    let marks: Vec<String> = ["d-001", "d-002"].map(|id| mark(&world, id)).into();
    assert_eq!(marks[0], marks[1]);
    let said = said.into_inner();
    assert!(said.contains("(secret)") && said.contains("env:WIFI_PSK"));
    let quoted = Value::from(NEW).to_string();
    for value in [NEW, quoted.trim_matches('"'), &*marks[0]] {
        assert!(!said.contains(value), "{value} in {said}");
    }
    assert_eq!(places_with(&world, &[NEW]), Vec::<String>::new());
    // A snapshot has neither marks nor the key that they are made with.
    let registry = rusqlite::Connection::open(world.registry_path()).unwrap();
    let text = "SELECT value FROM meta WHERE key = 'secret_key'";
    let key: String = registry.query_row(text, [], |row| row.get(0)).unwrap();
    let bytes = fs::read(&snapshot).unwrap();
    let (_, packed) = fleetform::registry::snapshot::open(&bytes[..]).unwrap();
    let mut unpacked = Vec::new();
    packed.unpack(&mut unpacked).unwrap();
    let has = |text: &str| unpacked.windows(text.len()).any(|at| at == text.as_bytes());
    assert!(has("(secret)") && !has(&key) && !has("(secret:"));
}
