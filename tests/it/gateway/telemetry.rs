//! Telemetry that is passed on, to a file and to a broker, also when that is slow.

use fleetform::link::mqtt::{ClientOptions, Connection, Version};

use super::*;
use crate::broker::Broker;

const EVENTS: &str = "devices/d-001/messages/events/";

fn site(telemetry: &str) -> Site {
    let site = Site::without_gateway(2);
    let spec = format!("{{link: {{iotHub: {{hostName: {HOST}, telemetry: {telemetry}}}}}}}");
    site.world.declare("fleetform.yaml", "Fleet", "acme", &spec);
    site.world.commit("telemetry");
    site.world.run(&["apply", "--yes"]).expect(0);
    site
}

/// Returns what the file of a daemon's state says of telemetry: how many messages, and how many were lost.
fn counts(site: &Site) -> (u64, u64) {
    let text = fs::read_to_string(site.world.file(".fleetform/status.json")).unwrap_or_default();
    let link = serde_json::from_str::<Value>(&text).unwrap_or_default().pointer("/link").cloned().unwrap_or_default();
    (link["telemetry"].as_u64().unwrap_or_default(), link["telemetry_lost"].as_u64().unwrap_or_default())
}

/// Waits for counts, while a device asks for what wakes the daemon.
fn wait_counts(site: &Site, device: &mut Device, is_so: impl Fn((u64, u64)) -> bool) {
    wait_until("the counts are as they should", || {
        device.publish("$iothub/twin/GET/?$rid=count", "");
        device.message();
        is_so(counts(site))
    });
}

#[test]
fn telemetry_is_in_the_file_before_it_is_acknowledged() {
    let mut site = site("{file: telemetry.jsonl}");
    site.start();
    let mut device = Device::new(&site, "d-001");
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(site.world.file("telemetry.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    device.publish_and_wait(&format!("{EVENTS}%24.ct=application%2Fjson&line=3"), "{\"t\": 20.5}").unwrap();
    let found = lines();
    assert_eq!((found.len(), &found[0]["device"], &found[0]["body"]), (1, &json!("d-001"), &json!({"t": 20.5})));
    assert_eq!(found[0]["properties"], json!({"$.ct": "application/json", "line": "3"}));
    // Many at once are acknowledged each, and in the file in their order.
    (0..2_000).for_each(|n| device.publish(EVENTS, &n.to_string()));
    let mut acknowledged = 0;
    while acknowledged < 2_000 {
        acknowledged += usize::from(matches!(device.next().unwrap(), Received::Acknowledged { .. }));
    }
    let found: Vec<Value> = lines().into_iter().skip(1).map(|line| line["body"].clone()).collect();
    assert_eq!(found, (0..2_000).map(|n| json!(n)).collect::<Vec<_>>());
    wait_counts(&site, &mut device, |counts| counts == (2_001, 0));
}

#[test]
fn a_file_that_takes_nothing_slows_no_command() {
    let mut site = site("{file: telemetry.pipe}");
    let pipe = site.world.file("telemetry.pipe");
    // Nobody reads it: who opens it waits.
    Ran::of(Command::new("mkfifo").arg(&pipe)).expect(0);
    site.start();
    let mut device = Device::new(&site, "d-001");
    // More than wait, with those that the thread has taken which opens the pipe.
    (0..10_300).for_each(|n| device.publish(EVENTS, &n.to_string()));
    // What overflows is acknowledged at once. A device that reads nothing would be called in vain.
    let mut acknowledged = 0;
    while acknowledged < 1_000 {
        acknowledged += u32::from(matches!(device.next().unwrap(), Received::Acknowledged { .. }));
    }
    let began = Instant::now();
    job(&site, "reboot", "1", "{devices: [d-001]}", REBOOT, "");
    device.answer(200, "{}");
    assert_eq!(site.wait_run("reboot", "1")["completed"], 1);
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    // One that floods the queue leaves others their share.
    let mut other = Device::new(&site, "d-002");
    (0..20).for_each(|n| other.publish("devices/d-002/messages/events/", &n.to_string()));
    wait_counts(&site, &mut other, |(all, lost)| all == 10_320 && lost >= 1_000);
    let (sender, read) = std::sync::mpsc::channel();
    // It reads on: a pipe that nobody reads takes nothing again.
    std::thread::spawn(move || {
        let lines = BufReader::new(File::open(pipe).unwrap()).lines();
        lines.for_each(|line| drop(sender.send(line.unwrap())));
    });
    let (mut of_device, mut of_other) = (0, 0);
    while of_other < 20 {
        let is_other = read.recv().unwrap().contains("\"device\":\"d-002\"");
        (of_device, of_other) = (of_device + usize::from(!is_other), of_other + usize::from(is_other));
    }
    assert!(of_device >= 4_000, "what waited goes on: {of_device}");
    other.publish_and_wait("devices/d-002/messages/events/", "1").unwrap();
}

#[test]
fn telemetry_goes_on_to_a_broker_also_after_it_was_away() {
    let mut broker = Broker::start();
    let port = broker.port;
    let mut site = site(&format!("{{mqtt: {{url: \"mqtt://127.0.0.1:{port}\", topicPrefix: devices}}}}"));
    site.start();
    let hears = || {
        let options = ClientOptions {
            port,
            tls: None,
            client_id: "ear".to_string(),
            username: None,
            password: None,
            is_new_session: true,
            ..site.options("d-001")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (connection, was_kept) = runtime.block_on(Connection::open(&options, Version::V311)).unwrap();
        let mut ear = Device { runtime, connection, heard: VecDeque::new(), id: "ear".to_string(), was_kept };
        assert!(ear.subscribe(&["devices/#"]));
        ear
    };
    let mut ear = hears();
    let mut device = Device::new(&site, "d-001");
    device.publish_and_wait(&format!("{EVENTS}line=3"), "{\"t\": 20.5}").unwrap();
    assert_eq!(ear.message(), (format!("{EVENTS}line=3"), json!({"t": 20.5})));
    broker.kill();
    drop(ear);
    device.publish(EVENTS, "1");
    device.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(device.message().0, "$iothub/twin/res/200/?$rid=r1", "nothing else waits for the broker");
    broker.restart();
    let mut ear = hears();
    device.publish_and_wait(EVENTS, "2").unwrap();
    assert!([json!(1), json!(2)].contains(&ear.message().1));
    wait_counts(&site, &mut device, |counts| counts == (3, 0));
}
