//! Many devices, each with a connection, that report while a job runs on them.
//!
//! `FLEETFORM_MANY_DEVICES` is how many, 500 when absent; `FLEETFORM_MANY_REPORTS` how many patches they report, 4,000
//! when absent; `FLEETFORM_MANY_SECONDS` in which time, 8 when absent. With 10000, 100000 and 60 it is what a large fleet
//! does.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::link::protocol::{Told, Topics};
use fleetform::model::device::ConnectionState;
use fleetform::model::outcome::Reason;
use serde_json::{Value, json};

use super::{Daemon, device, reasons, status, world};
use crate::broker::Broker;
use crate::servers::{Process, wait_until};
use crate::world::fleetform;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Reports patches in the name of all devices, spread over some seconds, and returns how many were confirmed. The last
/// number that each device reports is that of its last patch.
async fn report(port: u16, ids: &[String], (reports, seconds): (usize, usize)) -> usize {
    let options = ClientOptions {
        host: "127.0.0.1".to_string(),
        port,
        tls: None,
        client_id: "reporter".to_string(),
        username: None,
        password: None,
        session_seconds: 0,
        is_new_session: false,
        will: None,
        packet_bytes_max: 1 << 20,
        receive_max: 4_096,
    };
    let topics = Topics::new("fleetform");
    let (mut connection, _) = Connection::open(&options, Version::V5).await.unwrap();
    connection.subscribe(&["fleetform/+/twin/res/#".to_string()]).unwrap();
    let (start, mut sent, mut confirmed) = (Instant::now(), 0, 0);
    while confirmed < reports && start.elapsed() < Duration::from_secs(150) {
        let due = (reports as f64 * start.elapsed().as_secs_f64() / seconds as f64) as usize;
        while sent < due.min(reports) && connection.room() > 0 {
            let topic = topics.reported(&ids[sent % ids.len()], &format!("many-{sent}"));
            let payload = json!({"count": sent / ids.len()}).to_string().into_bytes().into();
            connection.publish(&Publication { topic, payload, is_retained: false, expires_after: None }).unwrap();
            sent += 1;
        }
        tokio::select! {
            turned = connection.turn(true) => turned.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let received: Vec<Received> = connection.received().collect();
        for received in received {
            let Received::Message { topic, packet_id, .. } = received else { continue };
            packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
            // The devices ask for their own twins.
            if let Ok((_, Told::Response { status, rid, .. })) = topics.told(&topic)
                && rid.starts_with("many-")
            {
                assert_eq!(status, 204);
                confirmed += 1;
            }
        }
    }
    connection.close(true).await;
    confirmed
}

#[test]
fn many_devices_report_while_a_job_runs() {
    let (devices, reports) = (number("FLEETFORM_MANY_DEVICES", 500), number("FLEETFORM_MANY_REPORTS", 4_000));
    let broker = Broker::start_with("allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0");
    let world = world(&broker, devices);
    let ids: Vec<String> = (1..=devices).map(|n| format!("d-{n:03}")).collect();
    world.write("ids.txt", ids.join("\n"));
    let mut fleet = fleetform();
    fleet.args(["device", "fleet", "--broker", &format!("mqtt://127.0.0.1:{}", broker.port), "--latency", "1s..9s"]);
    fleet.arg("--ids-from").arg(world.file("ids.txt")).stdout(Stdio::null()).stderr(Stdio::null());
    let _fleet = Process::start(&mut fleet);
    let _daemon = Daemon::start(&world);
    let last = ids.last().unwrap();
    let connected = || {
        let registry = world.registry_if_any()?;
        device(&world, last)?;
        let mut count = 0;
        let all = fleetform::registry::DeviceFilter::default();
        let visited: Result<(), fleetform::registry::RegistryError> = registry.each_device(&all, |device| {
            count += usize::from(device.connection_state == ConnectionState::Connected);
            Ok(())
        });
        visited.ok().map(|()| count)
    };
    wait_until("all devices are connected", || connected() == Some(devices));
    world.job(
        "reboot",
        "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 60s}}, delivery: {batchSize: 25%}}",
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let confirmed = runtime.block_on(report(broker.port, &ids, (reports, number("FLEETFORM_MANY_SECONDS", 8))));
    assert_eq!(confirmed, reports, "every report is confirmed");
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    let mut found: BTreeMap<Reason, usize> = BTreeMap::new();
    reasons(&world, "reboot").into_values().for_each(|reason| *found.entry(reason).or_default() += 1);
    assert_eq!(found, BTreeMap::from([(Reason::Responded, devices)]));
    for (at, id) in ids.iter().enumerate().step_by(97) {
        let count = (reports - 1 - at) / devices;
        assert_eq!(world.device(id).reported.get("count"), Some(&Value::from(count)), "{id}");
    }
}
