//! Devices behind a broker and devices at the gateway, in one fleet.

use super::*;
use crate::broker::Broker;

fn site_of(broker: &Broker, devices: usize) -> Site {
    let mqtt = format!("{{url: \"mqtt://127.0.0.1:{}\"}}", broker.port);
    let spec = format!("{{link: {{mqtt: {mqtt}, iotHub: {{hostName: {HOST}}}}}}}");
    let mut site = Site::of_fleet(&spec, devices);
    site.world.run(&["apply", "--yes"]).expect(0);
    site.start();
    site
}

/// Starts a device behind the broker.
fn behind(broker: &Broker, site: &Site, id: &str) -> Process {
    let mut command = fleetform();
    command.args(["device", "run", "--id", id, "--broker", &format!("mqtt://127.0.0.1:{}", broker.port), "--journal"]);
    command.arg(site.world.file(&format!(".git/{id}.journal"))).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(&mut command)
}

#[test]
fn a_device_is_reached_where_it_was_seen_last() {
    let mut broker = Broker::start();
    let mut site = site_of(&broker, 3);
    let mut behind_broker = behind(&broker, &site, "d-001");
    let mut device = Device::new(&site, "d-002");
    ["d-001", "d-002"].iter().for_each(|id| site.wait_state(id, "Connected"));
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    device.answer(200, "{}");
    let record = site.wait_run("reboot", "1");
    assert_eq!((&record["completed"], &record["failed"]), (&json!(2), &json!(1)));
    let acknowledged = ", delivery: {confirm: acknowledged}";
    job(&site, "dim", "1", "{devices: [d-001]}", "property: {level: 4}", acknowledged);
    assert_eq!(site.wait_run("dim", "1")["completed"], 1);
    // The one behind the broker moves to the gateway, and back.
    behind_broker.kill();
    let mut moved = Device::new(&site, "d-001");
    job(&site, "moved", "1", "{devices: [d-001]}", REBOOT, "");
    moved.answer(200, "{}");
    assert_eq!(site.wait_run("moved", "1")["completed"], 1);
    drop(moved);
    let _behind_broker = behind(&broker, &site, "d-001");
    site.wait_state("d-001", "Connected");
    let waits = ", delivery: {offline: wait, expiresAfter: 10m}";
    job(&site, "back", "1", "{devices: [d-001]}", REBOOT, waits);
    assert_eq!(site.wait_run("back", "1")["completed"], 1);
    // Nothing is lost while this process or the broker is away.
    site.kill();
    site.start();
    let mut device = Device::new(&site, "d-002");
    job(&site, "again", "1", "{devices: [d-001, d-002]}", REBOOT, waits);
    device.answer(200, "{}");
    assert_eq!(site.wait_run("again", "1")["completed"], 2);
    broker.restart();
    job(&site, "later", "1", "{devices: [d-001, d-002]}", REBOOT, waits);
    device.answer(200, "{}");
    assert_eq!(site.wait_run("later", "1")["completed"], 2);
    let executed = fs::read_to_string(site.world.file(".git/d-001.journal")).unwrap();
    assert_eq!(executed.lines().count(), 4, "{executed}");
}
