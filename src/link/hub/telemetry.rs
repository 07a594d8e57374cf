//! Telemetry of devices, on its way to where the fleet wants it: a queue with a bound, and a thread of its own that
//! empties it into a file, or to a broker (`telemetry_broker`).
//!
//! Nothing waits for the thread but the telemetry itself: what finds the queue full is dropped and counted, so that a
//! slow disk or broker slows no command and no report. A message with QoS 1 is acknowledged when it was passed on, or
//! dropped.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::exchange::{Exchange, Receipt};
use crate::model::encoding::percent_decoded;
use crate::model::text::sanitize_line;

/// Messages that wait to be passed on, and their bytes, beyond which they are dropped.
const QUEUE_MAX: usize = 8_192;
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Messages that are written at once.
const BATCH_MAX: usize = 1_024;
/// How often the file is looked for under its name: one that was moved away is made anew.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// How often what fails is told of.
const WARN_TIME: Duration = Duration::from_secs(60);

/// A message of telemetry.
pub struct Telemetry {
    pub device_id: String,
    /// `name=value`, percent-encoded, with `&` between them, as the device wrote it.
    pub properties: String,
    pub payload: Vec<u8>,
    pub at: Timestamp,
    /// `None` for a message that is not acknowledged.
    pub receipt: Option<Receipt>,
}

impl Telemetry {
    fn bytes(&self) -> usize {
        self.device_id.len() + self.properties.len() + self.payload.len()
    }

    /// Returns it as a line: `body` is what the device sent when that is JSON, else `text` or `base64` is.
    fn line(&self) -> String {
        let pairs = self.properties.split('&').filter(|pair| !pair.is_empty());
        let decoded = |text: &str| percent_decoded(text).unwrap_or_else(|| text.to_string());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let properties: Map<String, Value> =
            pairs.map(|(name, value)| (decoded(name), decoded(value).into())).collect();
        let (name, body) = match serde_json::from_slice::<Value>(&self.payload) {
            Ok(body) => ("body", body),
            Err(_) => match std::str::from_utf8(&self.payload) {
                Ok(text) => ("text", text.into()),
                Err(_) => ("base64", STANDARD.encode(&self.payload).into()),
            },
        };
        let (at, device) = (self.at.to_string(), &self.device_id);
        let mut line = json!({"at": at, "device": device, "properties": properties});
        line[name] = body;
        format!("{line}\n")
    }
}

/// The way to where telemetry goes.
pub struct Sink {
    queue: mpsc::Sender<Telemetry>,
    bytes: Arc<AtomicUsize>,
}

impl Sink {
    /// Returns the two ends of a queue. The outlet ends when there is no way to it any more.
    pub fn new(exchange: Arc<Exchange>) -> (Sink, Outlet) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet { waiting, bytes: Arc::clone(&bytes), exchange, warned_at: None };
        (Sink { queue, bytes }, outlet)
    }

    /// Has a message passed on; false when too much waits already.
    pub fn pass(&self, one: Telemetry) -> bool {
        let bytes = one.bytes();
        if self.bytes.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_passed = self.queue.try_send(one).is_ok();
        if !is_passed {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_passed
    }
}

/// Where telemetry comes out.
pub struct Outlet {
    waiting: mpsc::Receiver<Telemetry>,
    bytes: Arc<AtomicUsize>,
    exchange: Arc<Exchange>,
    warned_at: Option<Instant>,
}

impl Outlet {
    /// Waits for the next message; `None` when none comes any more.
    pub async fn next(&mut self) -> Option<Telemetry> {
        let one = self.waiting.recv().await?;
        Some(self.taken(one))
    }

    /// Waits for some messages; none when none come any more.
    fn batch(&mut self) -> Vec<Telemetry> {
        let mut batch: Vec<Telemetry> = self.waiting.blocking_recv().into_iter().collect();
        while !batch.is_empty()
            && batch.len() < BATCH_MAX
            && let Ok(one) = self.waiting.try_recv()
        {
            batch.push(one);
        }
        batch.into_iter().map(|one| self.taken(one)).collect()
    }

    fn taken(&self, one: Telemetry) -> Telemetry {
        self.bytes.fetch_sub(one.bytes(), Ordering::Relaxed);
        one
    }

    /// Returns true when no more come.
    pub fn is_over(&self) -> bool {
        self.waiting.is_closed() && self.waiting.is_empty()
    }

    /// Notes that messages were passed on, or are lost.
    pub fn settle(&self, messages: &[Telemetry], is_lost: bool) {
        let mut state = self.exchange.lock();
        if is_lost {
            state.telemetry_lost += messages.len() as u64;
        }
        state.acknowledge_all(messages.iter().filter_map(|one| one.receipt.as_ref()));
    }

    /// Says why nothing can be passed on now, once in a while.
    pub fn warn(&mut self, place: &str, reason: &dyn std::fmt::Display) {
        if self.warned_at.is_none_or(|warned_at| warned_at.elapsed() >= WARN_TIME) {
            self.warned_at = Some(Instant::now());
            let (place, reason) = (sanitize_line(place), reason.to_string());
            tracing::warn!(%place, reason = %sanitize_line(&reason), "telemetry cannot be passed on now");
        }
    }
}

/// A file that telemetry is appended to.
struct Lines {
    path: PathBuf,
    /// `None` for one that is to be opened.
    file: Option<File>,
    looked_at: Instant,
    /// The last line may lack its end.
    is_torn: bool,
}

/// Appends telemetry to a file until there is no way to it any more.
pub fn write_lines(path: PathBuf, mut outlet: Outlet) {
    let mut lines = Lines { path, file: None, looked_at: Instant::now(), is_torn: false };
    loop {
        let batch = outlet.batch();
        if batch.is_empty() {
            return;
        }
        let written = lines.append(&batch);
        outlet.settle(&batch, written.is_err());
        if let Err(error) = written {
            outlet.warn(&lines.path.display().to_string(), &error);
        }
    }
}

impl Lines {
    fn append(&mut self, batch: &[Telemetry]) -> std::io::Result<()> {
        if self.looked_at.elapsed() >= LOOK_TIME {
            self.looked_at = Instant::now();
            if self.is_moved() {
                self.file = None;
            }
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).append(true).open(&self.path)?,
        };
        let mut text = if self.is_torn { "\n".to_string() } else { String::new() };
        batch.iter().for_each(|one| text.push_str(&one.line()));
        self.is_torn = true;
        file.write_all(text.as_bytes())?;
        self.is_torn = false;
        self.file = Some(file);
        Ok(())
    }

    /// Returns true when the name is that of another file now, or of none.
    #[cfg(unix)]
    fn is_moved(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let place = |found: std::io::Result<std::fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        self.file.as_ref().is_some_and(|file| place(file.metadata()) != place(std::fs::metadata(&self.path)))
    }

    #[cfg(not(unix))]
    fn is_moved(&self) -> bool {
        !self.path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: &str, payload: &[u8]) -> Telemetry {
        let (device_id, at) = ("lamp-1".to_string(), Timestamp::UNIX_EPOCH);
        Telemetry { device_id, properties: properties.to_string(), payload: payload.to_vec(), at, receipt: None }
    }

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let line = |properties, payload: &[u8]| -> Value {
            let line = message(properties, payload).line();
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
            serde_json::from_str(&line).unwrap()
        };
        let expect = json!({"at": "1970-01-01T00:00:00Z", "device": "lamp-1", "properties": {"$.mid": "a b", "x": ""}});
        let with = |name: &str, body: Value| {
            let mut expect = expect.clone();
            expect[name] = body;
            expect
        };
        let properties = "%24.mid=a%20b&x";
        assert_eq!(line(properties, b"{\"a\":\n 1}"), with("body", json!({"a": 1})));
        assert_eq!(line(properties, b"one\ntwo"), with("text", json!("one\ntwo")));
        assert_eq!(line(properties, b"\xff"), with("base64", json!("/w==")));
    }

    #[test]
    fn a_file_that_is_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = Lines { path: path.clone(), file: None, looked_at: Instant::now(), is_torn: false };
        lines.append(&[message("", b"1"), message("", b"2")]).unwrap();
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        lines.looked_at -= LOOK_TIME;
        lines.append(&[message("", b"3")]).unwrap();
        let count = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
        assert_eq!((count("old"), count("lines")), (2, 1));
    }
}
