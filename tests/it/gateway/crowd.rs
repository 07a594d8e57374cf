//! Many connections that never say who they are, and devices that read nothing: others are not slowed.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::*;

/// Devices that read nothing.
const SLOW: usize = 20;
/// Twin requests that are timed.
const TIMED: u32 = 200;

/// Returns how long half of the twin requests of a device take, and all but one in a hundred.
fn times_of(device: &mut Device) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..TIMED)
        .map(|n| {
            let began = Instant::now();
            device.publish(&format!("$iothub/twin/GET/?$rid=t{n}"), "");
            assert_eq!(device.message().0, format!("$iothub/twin/res/200/?$rid=t{n}"));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Returns how long the slowest of some connections of a device takes to be let in.
fn connect_time(site: &Site, options: &ClientOptions) -> Duration {
    let connect = |_| {
        let began = Instant::now();
        drop(Device::connect(options).unwrap());
        began.elapsed()
    };
    let slowest = (0..5).map(connect).max();
    site.wait_state(&options.client_id, "Disconnected");
    slowest.unwrap()
}

/// Opens connections from an address of its own that say nothing, or begin a handshake and go no further.
async fn half_open(port: u16, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut opened = Vec::with_capacity(count);
    for n in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        if n % 2 == 0 {
            // The head of a ClientHello.
            stream.try_write(&[0x16, 3, 1, 1, 0, 1, 0, 0]).unwrap();
        }
        opened.push(stream);
    }
    opened
}

/// Returns a packet of MQTT with a first byte.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut length, mut bytes) = (body.len(), vec![first]);
    while length >= 128 {
        bytes.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    bytes.push(length as u8);
    [&bytes, body].concat()
}

/// Connects as a device, asks for its twin, which is large, again and again, and reads nothing.
fn slow_reader(site: &Site, device: &str) -> Raw {
    let options = site.options(device);
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let password = String::from_utf8(options.password.unwrap()).unwrap();
    let fields =
        [options.client_id.as_str(), options.username.as_deref().unwrap(), password.as_str()].map(text).concat();
    let connect = packet(0x10, &[&[0, 4][..], b"MQTT", &[4, 0xc2, 0, 60], &fields].concat());
    let members: Vec<String> = (0..8).map(|n| format!("\"k{n}\": \"{}\"", "x".repeat(3_000))).collect();
    let report = text("$iothub/twin/PATCH/properties/reported/?$rid=s0");
    let report = packet(0x30, &[&report[..], format!("{{{}}}", members.join(",")).as_bytes()].concat());
    let asks = packet(0x30, &text("$iothub/twin/GET/?$rid=s1")).repeat(100);
    let mut raw = Raw::open(site);
    raw.0.write_all(&[connect, report].concat()).unwrap();
    raw.0.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Until nothing more is read of it.
    for _ in 0..10 {
        if raw.0.write_all(&asks).is_err() {
            break;
        }
    }
    raw
}

/// `FLEETFORM_TEST_HALF_OPEN` is how many connections there are: 10,000 are for a machine with nothing else to do.
#[test]
fn a_crowd_that_says_nothing_slows_nobody() {
    let count = times("FLEETFORM_TEST_HALF_OPEN", 400) as usize;
    let site = Site::new(SLOW + 2);
    let mut device = Device::new(&site, "d-001");
    let newcomer = site.options("d-002");
    times_of(&mut device);
    let (half, most) = times_of(&mut device);
    let connecting = connect_time(&site, &newcomer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let crowd = runtime.block_on(half_open(site.port, count));
    let slow: Vec<Raw> = (3..SLOW + 3).map(|n| slow_reader(&site, &format!("d-{n:03}"))).collect();
    let (half_beside, most_beside) = times_of(&mut device);
    let connecting_beside = connect_time(&site, &newcomer);
    let told = format!(
        "{count} half-open connections and {SLOW} slow readers: twin request p50 {half:?}, p99 {most:?}; beside them \
         p50 {half_beside:?}, p99 {most_beside:?}; connecting {connecting:?}, beside them {connecting_beside:?}\n"
    );
    drop(std::io::stderr().write_all(told.as_bytes()));
    // Twice, and what a machine with other things to do adds.
    let slack = Duration::from_millis(20);
    assert!(half_beside <= half * 2 + slack, "{told}");
    assert!(connecting_beside <= connecting * 2 + slack * 25, "{told}");
    assert!(crowd.len() == count && slow.len() == SLOW);
    // Who reads nothing loses its connection, and no other one.
    wait_until("slow ones are cut", || site.said().contains("does not read what it is sent"));
    device.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(device.message().0, "$iothub/twin/res/200/?$rid=r1");
}
