//! Telemetry of devices, on its way to where the fleet wants it: a queue with a bound, and a thread of its own that
//! empties it into a file, or to a broker (`telemetry_broker`).
//!
//! Nothing waits for the thread but the telemetry itself: what finds the queue full is dropped and counted, so that a
//! slow disk or broker slows no command and no report. A message with QoS 1 is acknowledged when it was passed on, or
//! dropped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    waiting: Arc<Mutex<Waiting>>,
}

/// What waits to be passed on.
#[derive(Debug, Default)]
struct Waiting {
    all: Amount,
    of: BTreeMap<String, Amount>,
}

/// Messages, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    messages: usize,
    bytes: usize,
}

impl Waiting {
    /// Notes a message; false when there is no room for it. No more may wait of a device than there is room left for
    /// others, so that one that floods the queue leaves them half of it.
    fn add(&mut self, device_id: &str, bytes: usize) -> bool {
        let own = self.of.get(device_id).copied().unwrap_or_default();
        let is_alone = own == Amount::default();
        let left = Amount {
            messages: QUEUE_MAX.saturating_sub(self.all.messages),
            bytes: QUEUE_BYTES_MAX.saturating_sub(self.all.bytes),
        };
        let has_room = left.messages > 0 && bytes <= left.bytes;
        let has_share = own.messages < left.messages && own.bytes + bytes <= left.bytes;
        if !has_room || !(is_alone || has_share) {
            return false;
        }
        for amount in [&mut self.all, self.of.entry(device_id.to_string()).or_default()] {
            amount.messages += 1;
            amount.bytes += bytes;
        }
        true
    }

    fn remove(&mut self, device_id: &str, bytes: usize) {
        self.all.messages -= 1;
        self.all.bytes -= bytes;
        let Some(own) = self.of.get_mut(device_id) else { return };
        own.messages -= 1;
        own.bytes -= bytes;
        if own.messages == 0 {
            self.of.remove(device_id);
        }
    }
}

impl Sink {
    /// Returns the two ends of a queue. The outlet ends when there is no way to it any more.
    pub fn new(exchange: Arc<Exchange>) -> (Sink, Outlet) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let amounts = Arc::new(Mutex::default());
        let outlet = Outlet { waiting, amounts: Arc::clone(&amounts), exchange, warned_at: None };
        (Sink { queue, waiting: amounts }, outlet)
    }

    /// Has a message passed on; false when too much waits already, of all or of its device.
    pub fn pass(&self, one: Telemetry) -> bool {
        let mut waiting = lock(&self.waiting);
        let (device_id, bytes) = (one.device_id.clone(), one.bytes());
        if !waiting.add(&device_id, bytes) {
            return false;
        }
        let is_passed = self.queue.try_send(one).is_ok();
        if !is_passed {
            waiting.remove(&device_id, bytes);
        }
        is_passed
    }
}

/// A poisoned lock is safe to use: each change is made at once.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where telemetry comes out.
pub struct Outlet {
    waiting: mpsc::Receiver<Telemetry>,
    amounts: Arc<Mutex<Waiting>>,
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
        lock(&self.amounts).remove(&one.device_id, one.bytes());
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
    fn a_device_that_floods_the_queue_leaves_others_their_share() {
        let mut waiting = Waiting::default();
        let flood =
            |waiting: &mut Waiting, device: &str, bytes| (0..QUEUE_MAX).filter(|_| waiting.add(device, bytes)).count();
        assert_eq!(flood(&mut waiting, "one", 1), QUEUE_MAX / 2);
        assert_eq!(flood(&mut waiting, "two", 1), QUEUE_MAX / 4);
        assert!(waiting.add("three", 1) && waiting.add("three", 1));
        (0..QUEUE_MAX / 2).for_each(|_| waiting.remove("one", 1));
        assert!(!waiting.of.contains_key("one") && waiting.add("one", 1));
        // The same of bytes; and what is large is taken of who has nothing there.
        let mut waiting = Waiting::default();
        assert_eq!(flood(&mut waiting, "one", 1 << 20), (QUEUE_BYTES_MAX >> 20) / 2);
        assert!(waiting.add("two", QUEUE_BYTES_MAX / 2) && !waiting.add("three", 1));
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
