//! Alerts of a daemon: to a real HTTP server, and to a real command.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::servers::{Process, wait_until};
use crate::world::{World, fleetform};

const KEY: &str = "a key of alerts";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers with one status after the other, then with the last one.
struct Hook {
    url: String,
    /// The signature and the body of each request.
    heard: Receiver<(Option<String>, String)>,
}

impl Hook {
    fn answering(statuses: &'static [u16]) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks/secret-of-the-chat", listener.local_addr().unwrap());
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let status = statuses[at.min(statuses.len() - 1)];
                if tell.send(answer(stream.unwrap(), status)).is_err() {
                    return;
                }
            }
        });
        Hook { url, heard }
    }

    fn next(&self) -> (Option<String>, Value) {
        let (signature, body) = self.heard.recv_timeout(PATIENCE).expect("a message");
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(signature) = &signature {
            assert_eq!(*signature, format!("sha256={expected}"));
        }
        (signature, serde_json::from_str(&body).unwrap())
    }
}

fn answer(stream: TcpStream, status: u16) -> (Option<String>, String) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut signature) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "x-fleetform-signature-256" => signature = Some(value.to_string()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (signature, String::from_utf8(body).unwrap())
}

/// A daemon with alerts, and its log.
struct Site {
    world: World,
    daemon: Process,
}

impl Site {
    fn start(alerts: &str, hook: &str, more: &[&str]) -> Site {
        let world = World::with_devices(&format!("{{alerts: {alerts}, link: {{simulated: {{failures: 100%}}}}}}"), 20);
        world.run(&["apply", "--yes"]).expect(0);
        let log = File::create(world.file(".git/watch.log")).unwrap();
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["watch", "--interval", "200ms"]).args(more);
        command.env("HOOK", hook).env("KEY", KEY).env("FLEETFORM_ALLOW_SECRETS", "env:HOOK,env:KEY");
        let daemon = Process::start(command.stdout(Stdio::null()).stderr(log));
        let site = Site { world, daemon };
        wait_until("the daemon has reconciled", || site.said().contains("reconciled"));
        site
    }

    fn said(&self) -> String {
        fs::read_to_string(self.world.file(".git/watch.log")).unwrap()
    }

    /// A job that all devices fail.
    fn fail(&self, name: &str) {
        self.world.job(
            name,
            "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {cancellationThreshold: {failures: 10%}}}",
        );
    }
}

#[test]
fn a_run_that_crosses_its_threshold_is_told_with_a_signature() {
    let hook = Hook::answering(&[503, 200]);
    let alerts = "{pager: {webhook: {url: {env: HOOK}, secret: {env: KEY}}, every: 1s}}";
    let mut site = Site::start(alerts, &hook.url, &[]);
    site.fail("reboot");
    let (first, body) = hook.next();
    assert!(first.is_some());
    // It was not taken, and comes once more.
    assert_eq!(hook.next(), (first, body.clone()));
    assert_eq!((&body["format_version"], &body["omitted"], &body["lost"]), (&1.into(), &0.into(), &0.into()));
    let alert = &body["alerts"][0];
    assert_eq!((&alert["kind"], &alert["address"]), (&"threshold_crossed".into(), &"job/reboot run 1".into()));
    let reason = alert["reason"].as_str().unwrap();
    assert!(reason.ends_with("of 20 devices failed, and at most 2 may (threshold: 10% per job)"), "{reason}");
    assert_eq!(alert["commit"], site.world.head());
    assert_eq!(body["summary"], "acme: 1 run was canceled");
    // A document that cannot be used, and a device that is called as nobody should be.
    site.world.write("bad.yaml", "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: bad}\nspec: {target: {}}\n");
    site.world.commit("a mistake");
    let (_, body) = hook.next();
    assert_eq!(body["counts"], serde_json::json!({"document_held": 1}));
    site.daemon.kill();
    let said = site.said();
    assert!(!said.contains("secret-of-the-chat") && !said.contains(KEY), "{said}");
}

#[test]
fn a_burst_is_one_message_for_people() {
    let hook = Hook::answering(&[200]);
    let site = Site::start("{chat: {webhook: {url: {env: HOOK}, body: text}, every: 1h}}", &hook.url, &[]);
    for name in ["one", "two", "three"] {
        let spec = "{target: {}}";
        site.world.write(
            &format!("{name}.yaml"),
            format!("apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n"),
        );
    }
    site.world.commit("three mistakes");
    let (signature, body) = hook.next();
    assert_eq!(signature, None);
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("acme: 3 documents are held\njob/one: "), "{text}");
    // What comes within the hour waits, and is sent at the end.
    site.fail("reboot");
    wait_until("the run is over", || site.world.results().contains_key("runs/reboot/1/run.json"));
    wait_until("it has ended", || site.world.record("reboot", "1")["finished_at"].is_string());
    assert!(hook.heard.recv_timeout(Duration::from_secs(3)).is_err(), "one message in an hour");
    site.daemon.signal(rustix::process::Signal::TERM);
    let (_, body) = hook.next();
    assert!(body["text"].as_str().unwrap().contains("job/reboot run 1: "), "{body}");
}

#[test]
fn a_command_of_the_operator_gets_the_message() {
    let world = World::new("{}");
    let script = world.file("alert.sh");
    let told = world.file("told");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$FLEETFORM_ALERT_SUMMARY\" > {0}.part; cat >> {0}.part; mv {0}.part {0}\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let allowed = format!("mail={}", script.display());
    let alerts = "{mail: {on: [thresholdCrossed], command: mail}, other: {command: other}}";
    let site = Site::start(alerts, "", &["--alert-command", &allowed]);
    wait_until("what cannot be told is logged", || site.said().contains("the command `other` is not allowed"));
    site.fail("reboot");
    wait_until("the command was run", || told.exists());
    let text = fs::read_to_string(&told).unwrap();
    let (summary, message) = text.split_once('\n').unwrap();
    assert_eq!(summary, "acme: 1 run was canceled");
    let message: Value = serde_json::from_str(message).unwrap();
    assert_eq!(message["alerts"][0]["kind"], "threshold_crossed");
    world.run(&["watch", "--alert-command", "mail"]).expect(64);
}
