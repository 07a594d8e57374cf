//! Pages of twins by an indexed tag, over REST with one connection, beside the select of the same rows and the making of
//! the same JSON.
//!
//! The gateway is asked for the first page, and for one behind three quarters of the devices with the tag. The floor
//! reads the same rows by hand with one prepared statement and passes the sections of the twins on as they are stored;
//! what both make is compared. It is measured twice: in one thread, and as the answer of a bare listener, which does
//! nothing else over a TLS connection of the same kind.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::gateway::{BackEnd, HOST, make_fleet, read, server_config, start_gateway};
use crate::{Failure, commit, environment, output_of, registry_path};

/// The tag that is asked for, which one device in [`VALUES`] has.
const VALUE: &str = "43";
const VALUES: u32 = 50;
const PAGE_MAX: u32 = 100;
/// How often each page is asked for.
const TIMES: usize = 200;
/// The group that has the tag indexed.
const GROUP: &str = "apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {name: building}\n\
    spec: {query: \"tags.building = '43'\"}\n";
/// Twins of about 200 bytes.
const TWINS: &str = "UPDATE device SET
        desired = json_object('light', json_object('level', 40,
                                                   'threshold', 1 + (CAST(substr(device_id, 8) AS INTEGER) % 2)),
                              'telemetryConfig', json_object('sendFrequency', '5m')),
        reported = json_object('battery', 20 + CAST(substr(device_id, 8) AS INTEGER) % 80, 'firmware', '1.4.2');
    PRAGMA wal_checkpoint(TRUNCATE);";

/// The pages that are compared.
const PAGES: [&str; 2] = ["first", "deep"];

/// Measures and prints both pages.
pub fn measure(folder: &Path, devices: u32) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let size = (devices / VALUES / 4).clamp(1, PAGE_MAX);
    std::fs::write(folder.join("size"), size.to_string())?;
    make_fleet(folder, devices)?;
    commit(&environment(folder).folder, "group.yaml", GROUP, &[])?;
    crate::apply_at(&environment(folder))?;
    Connection::open(registry_path(folder))?.execute_batch(TWINS)?;
    let _gateway = start_gateway(folder, "30s")?;
    let mut back_end = BackEnd::connect(folder)?;

    let mut places = [None, None];
    for _ in 0..devices / VALUES / size * 3 / 4 {
        let page = Page::ask(&mut back_end, size, places[1].as_deref())?;
        places[1] = Some(page.next.ok_or("there are more devices with the tag")?);
        let last = serde_json::from_slice::<Vec<serde_json::Value>>(&page.body)?.pop().ok_or("a device")?;
        std::fs::write(folder.join("deep"), last["deviceId"].as_str().ok_or("an id")?)?;
    }
    let mut ours = Vec::new();
    for (name, place) in PAGES.iter().zip(&places) {
        let mut trips = Vec::new();
        for _ in 0..TIMES {
            let page = Page::ask(&mut back_end, size, place.as_deref())?;
            trips.push(page.took);
            std::fs::write(folder.join(format!("{name}.json")), page.body)?;
        }
        trips.sort();
        ours.push(trips);
    }
    let floors = output_of("raw-twins", folder)?;
    println!("\n{size} twins of {devices} devices by an indexed tag, {TIMES} pages\n");
    println!("{:<34} {:>10} {:>10} {:>7} {:>11}", "what", "floor", "gateway", "ratio", "must reach");
    for ((name, trips), floor) in PAGES.iter().zip(&ours).zip(floors.lines()) {
        let [least, middle, least_answered, answered] = floor.split(' ').collect::<Vec<_>>()[..] else {
            return Err("a phase prints four numbers".into());
        };
        let (quickest, of_the_middle) = (trips[0], trips[trips.len() / 2]);
        row(&format!("the {name} page, p50"), answered, of_the_middle)?;
        // Beside other work, what waits for a processor is in all but the quickest.
        row("  the quickest", least_answered, quickest)?;
        row("  p50, beside no answer at all", middle, of_the_middle)?;
        row("  the quickest, beside none", least, quickest)?;
    }
    Ok(())
}

fn row(name: &str, floor: &str, ours: Duration) -> Result<(), Failure> {
    let (floor, ours) = (floor.parse::<u64>()?, ours.as_micros());
    println!("{name:<34} {floor:>7} µs {ours:>7} µs {:>7.2} {:>11}", ours as f64 / floor as f64, "2.0");
    Ok(())
}

/// A page of twins, as a back end gets it.
struct Page {
    took: Duration,
    body: Vec<u8>,
    next: Option<String>,
}

impl Page {
    fn ask(back_end: &mut BackEnd, size: u32, place: Option<&str>) -> Result<Page, Failure> {
        let query = format!(r#"{{"query":"SELECT * FROM devices WHERE tags.building = '{VALUE}'"}}"#);
        let place = place.map(|place| format!("x-ms-continuation: {place}\r\n")).unwrap_or_default();
        let more = format!("x-ms-max-item-count: {size}\r\n{place}");
        loop {
            let began = Instant::now();
            let answered = back_end.answer_to("POST", "/devices/query", &more, &query)?;
            let took = began.elapsed();
            match answered.status {
                200 => {
                    let next = answered.header("x-ms-continuation").map(str::to_string);
                    return Ok(Page { took, body: answered.body, next });
                }
                429 => std::thread::sleep(Duration::from_millis(20)),
                status => return Err(format!("a query was answered with {status}").into()),
            }
        }
    }
}

/// What the JSON of a twin cannot do without.
const ROWS: &str = "SELECT d.device_id, d.device_name, d.blocked, d.connection_state, d.last_activity, d.template,
        d.organization, d.iot_edge, d.tags, d.desired, d.desired_version, d.reported, d.reported_version,
        s.reason, s.updated_at, k.authentication, k.primary_key, k.secondary_key, k.primary_thumbprint,
        k.secondary_thumbprint,
        (SELECT count(*) FROM message AS m WHERE m.device_id = d.device_id AND m.expires_at > ?4)
    FROM device AS d LEFT JOIN device_key AS k ON k.device_id = d.device_id
        LEFT JOIN device_status AS s ON s.device_id = d.device_id
    WHERE json_extract(d.tags,'$.\"building\"') = ?1 AND d.device_id > ?2 ORDER BY d.device_id LIMIT ?3";

/// Prints how many microseconds the quickest and the middle one of the same pages take, and the same behind a bare
/// listener, a line for each page.
pub fn raw(folder: &Path) -> Result<(), Failure> {
    let connection = Connection::open(registry_path(folder))?;
    let size: usize = read(folder, "size")?.parse()?;
    let listener = TcpListener::bind((HOST, 0))?;
    let port = listener.local_addr()?.port();
    let (config, registry) = (server_config(folder)?, registry_path(folder));
    let bare =
        std::thread::spawn(move || answer(&listener, config, &registry, size).map_err(|error| error.to_string()));
    let mut back_end = BackEnd::connect_to(folder, port)?;
    for (name, after) in PAGES.iter().zip(["", &read(folder, "deep")?]) {
        let mut trips = Vec::new();
        let mut made = String::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            made = raw_page(&connection, size, after)?;
            trips.push(began.elapsed());
        }
        let ours: serde_json::Value = serde_json::from_str(&read(folder, &format!("{name}.json"))?)?;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&made)?, ours, "both make the same");
        let mut answered = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            let heard = back_end.answer_to("POST", "/devices/query", "", after)?;
            answered.push(began.elapsed());
            assert_eq!(heard.body, made.as_bytes(), "both make the same");
        }
        [&mut trips, &mut answered].into_iter().for_each(|trips| trips.sort());
        let [least, middle] = [0, TIMES / 2].map(|at| trips[at].as_micros());
        let [least_answered, middle_answered] = [0, TIMES / 2].map(|at| answered[at].as_micros());
        println!("{least} {middle} {least_answered} {middle_answered}");
    }
    drop(back_end);
    Ok(bare.join().map_err(|_| "the bare listener has failed")??)
}

/// Answers each request of one connection with the page behind the device that is its body.
fn answer(
    listener: &TcpListener,
    config: Arc<rustls::ServerConfig>,
    registry: &Path,
    size: usize,
) -> Result<(), Failure> {
    let connection = Connection::open(registry)?;
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream);
    let (mut heard, mut part) = (Vec::new(), [0; 16 * 1024]);
    loop {
        // Who asks ends with the connection.
        let Ok(read @ 1..) = stream.read(&mut part) else { return Ok(()) };
        heard.extend_from_slice(&part[..read]);
        let text = std::str::from_utf8(&heard)?;
        let Some((head, after)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.rsplit_once("Content-Length: ").ok_or("a length")?.1.parse::<usize>()?;
        if after.len() < length {
            continue;
        }
        let page = raw_page(&connection, size, after)?;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        stream.write_all(answer.as_bytes())?;
        heard.clear();
    }
}

/// Returns the JSON of a page behind a device.
fn raw_page(connection: &Connection, size: usize, after: &str) -> Result<String, Failure> {
    let mut statement = connection.prepare_cached(ROWS)?;
    let now = jiff::Timestamp::now().as_microsecond();
    // One more says whether there is a next page.
    let mut rows = statement.query((VALUE, after, size + 1, now))?;
    let mut made = String::from("[");
    let mut count = 0;
    while let Some(row) = rows.next()?
        && count < size
    {
        made.push_str(if count > 0 { "," } else { "" });
        push_twin(&mut made, row)?;
        count += 1;
    }
    made.push(']');
    Ok(made)
}

fn push_twin(made: &mut String, row: &rusqlite::Row<'_>) -> Result<(), Failure> {
    use std::fmt::Write as _;
    let text = |column: usize| -> Result<Option<&str>, Failure> { Ok(row.get_ref(column)?.as_str_or_null()?) };
    let quoted = |column: usize| -> Result<String, Failure> { Ok(serde_json::to_string(&text(column)?)?) };
    let never = "0001-01-01T00:00:00Z";
    let at = text(4)?.unwrap_or(never);
    let updated = match row.get::<_, Option<i64>>(14)? {
        Some(micros) => jiff::Timestamp::from_microsecond(micros)?.to_string(),
        None => never.to_string(),
    };
    let (is_blocked, is_edge): (bool, bool) = (row.get(2)?, row.get(7)?);
    let (tags, desired, reported) = (text(8)?.unwrap_or("{}"), text(9)?.unwrap_or("{}"), text(11)?.unwrap_or("{}"));
    let (desired_version, reported_version): (u64, u64) = (row.get(10)?, row.get(12)?);
    let authentication = text(15)?.unwrap_or("sas");
    let key = |column: usize| -> Result<String, Failure> {
        let key: Option<Vec<u8>> = row.get(column)?;
        Ok(key.map_or("null".to_string(), |key| format!("\"{}\"", STANDARD.encode(key))))
    };
    let (primary, secondary) = (quoted(18)?, quoted(19)?);
    let identity =
        format!("[{is_blocked},{is_edge},\"{authentication}\",{},{},{primary},{secondary}]", key(16)?, key(17)?);
    let comma = |section: &str| if section == "{}" { "" } else { "," };
    write!(
        made,
        "{{\"deviceId\":{},\"deviceName\":{},\"status\":\"{}\",\"connectionState\":{},\"lastActivityTime\":\"{at}\",\
         \"template\":{},\"organization\":{},\"capabilities\":{{\"iotEdge\":{is_edge}}},\"etag\":\"{}\",\
         \"version\":{desired_version},\"cloudToDeviceMessageCount\":{},\"deviceEtag\":\"{}\",\"statusReason\":{},\
         \"statusUpdateTime\":\"{updated}\",\"authenticationType\":\"{authentication}\",\
         \"x509Thumbprint\":{{\"primaryThumbprint\":{primary},\"secondaryThumbprint\":{secondary}}},\"tags\":{tags},\
         \"properties\":{{\"desired\":{}{}\"$version\":{desired_version},\"$metadata\":{{\"$lastUpdated\":\"{at}\",\
         \"$lastUpdatedVersion\":{desired_version}}}}},\"reported\":{}{}\"$version\":{reported_version},\
         \"$metadata\":{{\"$lastUpdated\":\"{at}\"}}}}}}}}",
        quoted(0)?,
        quoted(1)?,
        if is_blocked { "disabled" } else { "enabled" },
        quoted(3)?,
        quoted(5)?,
        quoted(6)?,
        etag(&format!("[{tags},{desired}]")),
        row.get::<_, u64>(20)?,
        etag(&identity),
        quoted(13)?,
        desired.strip_suffix('}').unwrap_or_default(),
        comma(desired),
        reported.strip_suffix('}').unwrap_or_default(),
        comma(reported),
    )?;
    Ok(())
}

/// The first 16 hex digits of a digest.
fn etag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    format!("{:016x}", u64::from_be_bytes(digest[..8].try_into().unwrap_or_default()))
}
