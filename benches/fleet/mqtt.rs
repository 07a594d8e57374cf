//! Commands through a real Mosquitto, beside bare round trips of the same messages through the same broker.
//!
//! The devices are one process with one connection, which answers for all of them: what is measured is fleetform and the
//! broker.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::link::protocol::{Told, Topics};
use fleetform::link::{Token, protocol::RequestId};
use fleetform::model::digest::Digest;

use crate::{Failure, Measured, commit, environment, phase, row};

/// Commands that are under way at once.
const WINDOW: usize = 1_000;

/// A process that ends with this value.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures commands to devices that answer at once, and to 10,000 that take 50 to 150 ms.
pub fn measure(folder: &Path, devices: u32) -> Result<(), Failure> {
    println!("commands over MQTT, a window of {WINDOW}\n");
    println!(
        "{:<26} {:>9} {:>9} {:>7} {:>11} {:>11}",
        "what", "floor s", "ours s", "ratio", "must reach", "memory MiB"
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    std::fs::write(folder.join("port"), port.to_string())?;
    let _broker = start_broker(folder, port)?;
    make_fleet(folder, devices, port)?;
    phase("apply", folder)?;
    {
        let _devices = answer(folder, "mqtt-devices")?;
        declare(folder, "at-once", devices)?;
        let floor = phase("raw-mqtt", folder)?;
        let ours = phase("apply", folder)?;
        row("commands, at once", &floor, &ours, "2.0");
    }
    let _devices = answer(folder, "mqtt-devices-slow")?;
    let some = devices.min(10_000);
    declare(folder, "slow", some)?;
    let ours = phase("apply", folder)?;
    let least = Measured { took: Duration::from_millis(u64::from(some) / 10), peak_kib: 0 };
    row(&format!("{some} commands, 50-150 ms"), &least, &ours, "1.3");
    Ok(())
}

/// Starts Mosquitto on plain TCP, and returns when it listens.
pub fn start_broker(folder: &Path, port: u16) -> Result<Running, Failure> {
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\n\
         max_queued_messages 0\n"
    );
    std::fs::write(folder.join("mosquitto.conf"), config)?;
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut broker = Command::new("mosquitto");
    broker.env("PATH", path).arg("-c").arg(folder.join("mosquitto.conf"));
    let broker = Running(broker.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(broker)
}

fn answer(folder: &Path, phase: &str) -> Result<Running, Failure> {
    let mut devices = Command::new(std::env::current_exe()?);
    devices.args(["--phase", phase, "--folder"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut devices = Running(devices.spawn()?);
    // It says so when it has subscribed.
    devices.0.stdout.as_mut().ok_or("a pipe")?.read_exact(&mut [0])?;
    Ok(devices)
}

fn make_fleet(folder: &Path, devices: u32, port: u16) -> Result<(), Failure> {
    crate::make_fleet(folder, devices)?;
    let fleet = environment(folder).folder;
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {{name: fleet}}\nspec:\n  \
         link: {{mqtt: {{url: \"mqtt://127.0.0.1:{port}\"}}}}\n  limits: {{inFlight: {WINDOW}}}\n"
    );
    commit(&fleet, "fleetform.yaml", &text, &[])
}

fn declare(folder: &Path, name: &str, devices: u32) -> Result<(), Failure> {
    let fleet = environment(folder).folder;
    let last = format!("device-{:07}", devices - 1);
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  \
         target: {{query: \"deviceId <= '{last}'\"}}\n  action: {{command: {{name: reboot, payload: {{delay: 5}}}}}}\n"
    );
    commit(&fleet, &format!("{name}.yaml"), &text, &[])
}

fn options(folder: &Path, client_id: &str) -> Result<ClientOptions, Failure> {
    Ok(ClientOptions {
        host: "127.0.0.1".to_string(),
        port: std::fs::read_to_string(folder.join("port"))?.parse()?,
        tls: None,
        client_id: client_id.to_string(),
        username: None,
        password: None,
        session_seconds: 0,
        is_new_session: false,
        will: None,
        packet_bytes_max: 1 << 20,
        receive_max: 4_096,
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Answers the methods of all devices until its stdin is closed, at once or after 50 to 150 ms.
pub fn devices(folder: &Path, is_slow: bool) -> Result<(), Failure> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let options = options(folder, "devices")?;
    runtime()?.block_on(async {
        let topics = Topics::new("fleetform");
        let (mut connection, _) = Connection::open(&options, Version::V5).await?;
        connection.subscribe(&["fleetform/+/methods/POST/#".to_string()])?;
        let body: Arc<[u8]> = b"{\"done\":true}".as_slice().into();
        let mut later: BTreeMap<(Instant, u64), Publication> = BTreeMap::new();
        let mut count = 0u64;
        loop {
            let now = Instant::now();
            while let Some(entry) = later.first_entry()
                && entry.key().0 <= now
                && connection.room() > 0
            {
                connection.publish(&entry.remove())?;
            }
            let wait = later.first_key_value().map_or(Duration::from_secs(1), |((at, _), _)| *at - now.min(*at));
            tokio::select! {
                turned = connection.turn(true) => turned?,
                () = tokio::time::sleep(wait) => {}
            }
            let received: Vec<Received> = connection.received().collect();
            for received in received {
                match received {
                    Received::Subscribed { .. } => {
                        println!("!");
                    }
                    Received::Message { topic, packet_id, .. } => {
                        let (device, told) = topics.told(&topic)?;
                        let Told::Method { rid, .. } = told else { continue };
                        let topic = topics.answer(&device, 200, &rid);
                        let (payload, is_retained) = (Arc::clone(&body), false);
                        let publication = Publication { topic, payload, is_retained, expires_after: None };
                        count += 1;
                        let delay = if is_slow { 50 + count * 7_919 % 101 } else { 0 };
                        later.insert((Instant::now() + Duration::from_millis(delay), count), publication);
                        packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
                    }
                    Received::Acknowledged { .. } => {}
                }
            }
        }
    })
}

/// Sends the same messages to the same devices and takes the answers, and nothing else.
pub fn raw_round_trips(folder: &Path) -> Result<(), Failure> {
    let options = options(folder, "raw")?;
    let devices = std::fs::read_to_string(environment(folder).folder.join("devices.csv"))?.lines().count() - 1;
    runtime()?.block_on(async {
        let topics = Topics::new("fleetform");
        let (mut connection, _) = Connection::open(&options, Version::V5).await?;
        connection.subscribe(&["fleetform/+/methods/res/#".to_string()])?;
        let payload: Arc<[u8]> = b"{\"delay\":5}".as_slice().into();
        let (mut sent, mut answered, mut is_ready) = (0, 0, false);
        while answered < devices {
            while is_ready && sent < devices && sent - answered < WINDOW && connection.room() > 0 {
                let device = format!("device-{sent:07}");
                let xid = Digest::of_bytes(device.as_bytes());
                let token = Token { run_id: 1, ordinal: u32::try_from(sent)?, attempt: 1 };
                let topic = topics.method(&device, "reboot", &RequestId::new(token, &xid).to_string(), xid);
                let payload = Arc::clone(&payload);
                connection.publish(&Publication { topic, payload, is_retained: false, expires_after: Some(30) })?;
                sent += 1;
            }
            connection.turn(true).await?;
            let received: Vec<Received> = connection.received().collect();
            for received in received {
                match received {
                    Received::Subscribed { .. } => is_ready = true,
                    Received::Message { packet_id, .. } => {
                        answered += 1;
                        packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
                    }
                    Received::Acknowledged { .. } => {}
                }
            }
        }
        connection.close(true).await;
        Ok(())
    })
}
