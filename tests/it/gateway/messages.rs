//! Messages to devices: they wait, come in order, and are gone when the device has acknowledged them.

use super::*;

const OTHER_SDK_HOST: &str = "127.0.83.22";

fn send(site: &Site, device: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    site.ask("service", &format!("POST /devices/{device}/messages/devicebound"), headers, body).0
}

fn waiting(site: &Site, device: &str) -> u64 {
    let (_, twin) = site.ask("registryRead", &format!("GET /twins/{device}"), &[], "");
    twin["cloudToDeviceMessageCount"].as_u64().unwrap()
}

/// Returns the topic and the text of the next message, and acknowledges it when it is to.
fn take(device: &mut Device, acknowledges: bool) -> (String, String) {
    loop {
        match device.next().unwrap() {
            Received::Message { topic, payload, packet_id, .. } => {
                let packet_id = packet_id.expect("it is to be acknowledged");
                if acknowledges {
                    device.connection.acknowledge(packet_id);
                }
                return (topic, String::from_utf8(payload).unwrap());
            }
            // The publication of `flush`.
            Received::Acknowledged { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Writes what is to be written: the gateway answers the ping of a twin request behind it.
fn flush(device: &mut Device) {
    device.publish("$iothub/twin/GET/?$rid=flush", "");
    while !matches!(device.next().unwrap(), Received::Message { topic, .. } if topic.starts_with("$iothub/twin/res")) {}
}

const MESSAGES: [&str; 2] = ["devices/d-001/messages/devicebound/#", "devices/d-002/messages/devicebound/#"];

/// Connects with bytes and without `CleanSession`.
fn open(site: &Site, device: &str) -> Raw {
    let options = site.options(device);
    let text = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
    let mut body = [text(b"MQTT"), vec![4, 0xc0, 0, 60], text(device.as_bytes())].concat();
    body.extend(text(options.username.unwrap().as_bytes()));
    body.extend(text(&options.password.unwrap()));
    let length = body.len();
    let mut packet = vec![0x10, u8::try_from(length % 128).unwrap() | 0x80, u8::try_from(length / 128).unwrap()];
    packet.extend(body);
    let mut raw = Raw::open(site);
    raw.0.write_all(&packet).unwrap();
    let mut heard = [0; 4];
    raw.0.read_exact(&mut heard).unwrap();
    assert_eq!((heard[0], heard[3]), (0x20, 0), "it is let in");
    raw
}

/// Connects again, and returns the first byte of the first message, which says whether it comes again.
fn first_byte(site: &Site, device: &str) -> u8 {
    let mut heard = [0];
    open(site, device).0.read_exact(&mut heard).unwrap();
    heard[0]
}

/// Connects, and listens to a filter no more.
fn unsubscribe(site: &Site, device: &str, filter: &str) {
    let length = u8::try_from(filter.len()).unwrap();
    let packet = [&[0xa2, length + 4, 0, 7, 0, length], filter.as_bytes()].concat();
    let mut raw = open(site, device);
    raw.0.write_all(&packet).unwrap();
    let mut heard = [0; 4];
    raw.0.read_exact(&mut heard).unwrap();
    assert_eq!(heard, [0xb0, 2, 0, 7]);
}

#[test]
fn messages_wait_and_come_in_order() {
    let mut site = Site::with_back_ends(2);
    let headers = [("iothub-messageid", "m1"), ("iothub-app-Level", "3 a"), ("Content-Type", "text/plain")];
    assert_eq!(send(&site, "d-001", &headers, "one"), 204);
    assert_eq!(send(&site, "d-001", &[], "two"), 204);
    assert_eq!(waiting(&site, "d-001"), 2);
    assert_eq!(site.ask("registryRead", "GET /devices/d-001", &[], "").1["cloudToDeviceMessageCount"], 2);
    let (status, fault) = site.ask("service", "POST /devices/d-009/messages/devicebound", &[], "x");
    assert!(status == 404 && fault["Message"].as_str().unwrap().contains("DeviceNotFound"), "{fault}");
    assert_eq!(site.ask("registryReadWrite", "POST /devices/d-001/messages/devicebound", &[], "x").0, 401);
    assert_eq!(send(&site, "d-001", &[], &"x".repeat(65_537)), 413);
    for wrong in [("iothub-expiry", "2020-01-01T00:00:00Z"), ("iothub-expiry", "soon"), ("iothub-app-$.mid", "x")] {
        assert_eq!(send(&site, "d-001", &[wrong], "x"), 400, "{wrong:?}");
    }
    let mut device = Device::connect(&site.options("d-001")).unwrap();
    assert!(device.subscribe(&MESSAGES[..1]));
    let (topic, text) = take(&mut device, false);
    let bag = topic.strip_prefix("devices/d-001/messages/devicebound/").unwrap();
    for part in ["%24.mid=m1", "level=3%20a", "%24.ct=text%2Fplain"] {
        assert!(bag.split('&').any(|one| one == part), "{bag}");
    }
    assert_eq!((text.as_str(), take(&mut device, false).1.as_str()), ("one", "two"));
    // What it has not acknowledged comes again, and says so.
    assert_eq!(first_byte(&site, "d-001"), 0x3a);
    let mut device = Device::connect(&site.options("d-001")).unwrap();
    assert!(device.was_kept);
    assert_eq!(take(&mut device, true).1, "one");
    assert_eq!(take(&mut device, true).1, "two");
    flush(&mut device);
    wait_until("they are gone", || waiting(&site, "d-001") == 0);
    // It is connected, and many come one after the other.
    for n in 0..20 {
        assert_eq!(send(&site, "d-001", &[], &n.to_string()), 204);
    }
    for n in 0..20 {
        assert_eq!(take(&mut device, true).1, n.to_string());
    }
    flush(&mut device);
    wait_until("they are gone", || waiting(&site, "d-001") == 0);
    let sent = site.world.run(&["device", "send", "d-001", "open", "--property", "level=4", "--expires", "5m"]);
    assert!(sent.expect(0).stderr.contains("Queued for d-001"));
    let (topic, text) = take(&mut device, true);
    assert!(topic.ends_with("&level=4") && text == "open", "{topic}");
    flush(&mut device);
    // They outlive the gateway, and so does who listens to them.
    assert!(Device::connect(&site.options("d-002")).unwrap().subscribe(&MESSAGES[1..]));
    assert_eq!(send(&site, "d-002", &[], "late"), 204);
    site.kill();
    site.start();
    assert_eq!(first_byte(&site, "d-002"), 0x32);
    let mut device = Device::new(&site, "d-002");
    assert_eq!(take(&mut device, true).1, "late");
}

#[test]
fn a_queue_of_messages_has_its_bounds() {
    let site = Site::with_back_ends(2);
    for n in 0..50 {
        assert_eq!(send(&site, "d-001", &[], &n.to_string()), 204);
    }
    let (status, fault) = site.ask("service", "POST /devices/d-001/messages/devicebound", &[], "x");
    assert_eq!(status, 403);
    assert!(fault["Message"].as_str().unwrap().contains("DeviceMaximumQueueDepthExceeded"), "{fault}");
    let refused = site.world.run(&["device", "send", "d-001", "x"]);
    assert!(refused.expect(64).stderr.contains("50 messages wait for the device `d-001` already"));
    site.world.run(&["device", "send", "d-009", "x"]).expect(1);
    let purged = site.ask("service", "DELETE /devices/d-001/commands", &[], "");
    assert_eq!(purged, (200, json!({"deviceId": "d-001", "moduleId": null, "totalMessagesPurged": 50})));
    assert_eq!(waiting(&site, "d-001"), 0);
    // One that nobody acknowledges is handed over ten times.
    assert!(Device::connect(&site.options("d-002")).unwrap().subscribe(&MESSAGES[1..]));
    assert_eq!(send(&site, "d-002", &[], "again"), 204);
    for n in 0..10 {
        assert_eq!(first_byte(&site, "d-002"), if n == 0 { 0x32 } else { 0x3a }, "{n}");
    }
    let mut device = Device::new(&site, "d-002");
    wait_until("it is gone", || waiting(&site, "d-002") == 0);
    assert_eq!(send(&site, "d-002", &[("iothub-expiry", "2100-01-01T00:00:00Z")], "x"), 400);
    assert_eq!(send(&site, "d-002", &[], "last"), 204);
    assert_eq!(take(&mut device, true).1, "last");
}

#[test]
fn what_a_device_listens_to_outlives_the_gateway() {
    let mut site = Site::with_back_ends(2);
    let mut device = Device::connect(&site.options("d-001")).unwrap();
    assert!(!device.was_kept);
    assert!(device.subscribe(&[METHODS, MESSAGES[0]]));
    site.kill();
    site.start();
    // It does not say it again.
    let mut device = Device::connect(&site.options("d-001")).unwrap();
    assert!(device.was_kept);
    assert_eq!(send(&site, "d-001", &[], "one"), 204);
    assert_eq!(take(&mut device, true).1, "one");
    job(&site, "reboot", "1", "{devices: [d-001]}", REBOOT, "");
    assert_eq!(device.answer(200, "{}").0, "reboot");
    // What it takes back is taken back for good, and the rest stays.
    unsubscribe(&site, "d-001", METHODS);
    site.kill();
    site.start();
    let mut device = Device::connect(&site.options("d-001")).unwrap();
    assert!(device.was_kept);
    site.wait_state("d-001", "Connected");
    job(&site, "again", "1", "{devices: [d-001]}", REBOOT, "");
    assert_eq!(site.wait_run("again", "1")["failed"], 1, "nobody listens");
    assert_eq!(send(&site, "d-001", &[], "two"), 204);
    assert_eq!(take(&mut device, true).1, "two");
    // A clean session is none, and leaves none.
    drop(Device::connect(&ClientOptions { is_new_session: true, ..site.options("d-001") }).unwrap());
    site.wait_state("d-001", "Disconnected");
    let shown = site.world.run(&["device", "show", "d-001", "--json"]).expect(0).json();
    let changes = shown[0]["connections"].as_array().unwrap();
    let states: Vec<&Value> = changes.iter().map(|change| &change["is_online"]).collect();
    assert!(states.len() >= 4 && states[0] == false && states.windows(2).all(|two| two[0] != two[1]), "{states:?}");
    site.kill();
    site.start();
    assert!(!Device::connect(&site.options("d-001")).unwrap().was_kept);
}

/// It says once what it listens to, and never again.
#[test]
fn the_client_of_microsoft_gets_messages_before_and_after_a_kill() {
    let mut site = Site::without_gateway(2);
    site.world.run(&["gateway", "init"]).expect(0);
    (site.host, site.port, site.https) = (OTHER_SDK_HOST, 8883, Some(free_port()));
    site.make_certificate();
    let link = format!("{{link: {{iotHub: {{hostName: {OTHER_SDK_HOST}}}}}}}");
    site.world.declare("fleetform.yaml", "Fleet", "acme", &link);
    site.world.commit("the host of the clients");
    site.world.run(&["apply", "--yes"]).expect(0);
    site.start();
    let Some(sdk) = Sdk::start(&site) else { return };
    wait_until("both are connected", || sdk.told("connected").len() == 2);
    assert_eq!(send(&site, "d-001", &[("iothub-messageid", "m 1"), ("iothub-app-level", "a=b&c")], "one"), 204);
    wait_until("it has come", || sdk.told("message").len() == 1);
    let first = &sdk.told("message")[0];
    assert_eq!((&first["device"], &first["text"], &first["id"]), (&json!("d-001"), &json!("one"), &json!("m 1")));
    assert_eq!(first["properties"], json!({"level": "a=b&c"}));
    wait_until("it is gone", || waiting(&site, "d-001") == 0);
    site.kill();
    site.start();
    assert_eq!(send(&site, "d-001", &[], "two"), 204);
    site.world.run(&["device", "send", "d-002", "three"]).expect(0);
    wait_until("they have come", || sdk.told("message").len() == 3);
    wait_until("they are gone", || waiting(&site, "d-001") + waiting(&site, "d-002") == 0);
    assert_eq!(sdk.told("message").len(), 3);
}
