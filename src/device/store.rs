//! What devices keep in files: which methods they began and how they answered, and the journal of executions for tests.
//!
//! One thread writes for all devices of the process. A line is on the disk before its writer is told so; the lines that
//! come while the disk works are written together.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::error::DeviceError;
use super::memory::{Answer, EXECUTIONS_MAX};

/// Lines that wait to be written, and that are written together.
const LINES_MAX: usize = 4_096;
/// Bytes of a line that is read: an answer has at most a few times 8 KiB.
const LINE_BYTES_MAX: usize = 256 << 10;
/// Lines after which a state file is written anew with what is still remembered.
const REWRITE_LINES_MIN: usize = 4_096;

/// What devices did before, the oldest first.
pub(super) type Past = BTreeMap<String, Vec<(String, Option<Answer>)>>;

/// A line to be written.
#[derive(Debug)]
enum Line {
    Begun { device_id: String, execution_id: String, method: String },
    Answered { device_id: String, execution_id: String, answer: Answer },
}

/// Where devices keep what they did. A clone is another handle to it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    /// `None` when nothing is kept.
    lines: Option<mpsc::Sender<(Line, oneshot::Sender<io::Result<()>>)>>,
}

impl Store {
    /// Opens the files, and returns what the state file has of the past.
    ///
    /// # Errors
    /// A file cannot be read or written, or another process uses the state file.
    pub fn open(state: Option<&Path>, journal: Option<&Path>) -> Result<(Store, Past), DeviceError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| DeviceError::File { path, source }
        };
        let (state, past) = match state {
            Some(path) => {
                let (state, past) = State::open(path).map_err(failed(path))?;
                (Some(state), past)
            }
            None => (None, Past::new()),
        };
        let open = |path: &Path| File::options().create(true).append(true).open(path).map_err(failed(path));
        let journal = journal.map(open).transpose()?;
        if state.is_none() && journal.is_none() {
            return Ok((Store { lines: None }, past));
        }
        let (lines, received) = mpsc::channel(LINES_MAX);
        let writer = Writer { state, journal };
        let thread = std::thread::Builder::new().name("device-files".to_string());
        thread.spawn(move || writer.run(received)).map_err(|source| DeviceError::System { source })?;
        Ok((Store { lines: Some(lines) }, past))
    }

    /// Notes that a method is about to be executed.
    ///
    /// # Errors
    /// It is not on the disk: the method must not be executed.
    pub async fn begun(&self, device_id: &str, execution_id: &str, method: &str) -> io::Result<()> {
        let (device_id, execution_id) = (device_id.to_string(), execution_id.to_string());
        self.write(Line::Begun { device_id, execution_id, method: method.to_string() }).await
    }

    /// Keeps the answer to a method.
    ///
    /// # Errors
    /// It is not on the disk.
    pub async fn answered(&self, device_id: &str, execution_id: &str, answer: Answer) -> io::Result<()> {
        let (device_id, execution_id) = (device_id.to_string(), execution_id.to_string());
        self.write(Line::Answered { device_id, execution_id, answer }).await
    }

    async fn write(&self, line: Line) -> io::Result<()> {
        let Some(lines) = &self.lines else { return Ok(()) };
        let gone = || io::Error::other("the thread that writes is gone");
        let (written, is_written) = oneshot::channel();
        lines.send((line, written)).await.map_err(|_| gone())?;
        is_written.await.map_err(|_| gone())?
    }
}

/// The thread that writes.
struct Writer {
    state: Option<State>,
    journal: Option<File>,
}

impl Writer {
    /// Writes until all handles are gone.
    fn run(mut self, mut lines: mpsc::Receiver<(Line, oneshot::Sender<io::Result<()>>)>) {
        let mut batch = Vec::new();
        while lines.blocking_recv_many(&mut batch, LINES_MAX) > 0 {
            let written = self.write(batch.iter().map(|(line, _)| line));
            for (_, done) in batch.drain(..) {
                let result =
                    written.as_ref().map(|_| ()).map_err(|error| io::Error::new(error.kind(), error.to_string()));
                // Nobody waits any more: the device was stopped.
                drop(done.send(result));
            }
        }
    }

    fn write<'l>(&mut self, lines: impl Iterator<Item = &'l Line> + Clone) -> io::Result<()> {
        if let Some(state) = &mut self.state {
            state.append(lines.clone().map(state_line))?;
        }
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let at = now();
        let text: String = lines.filter_map(|line| journal_line(line, at)).collect();
        // An execution is in the journal before the device answers, even when the process dies.
        journal.write_all(text.as_bytes())
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of an execution is that of its line")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn state_line(line: &Line) -> String {
    let value = match line {
        Line::Begun { device_id, execution_id, method } => {
            json!({"device_id": device_id, "execution_id": execution_id, "method": method})
        }
        Line::Answered { device_id, execution_id, answer: Answer { status, body } } => {
            json!({"device_id": device_id, "execution_id": execution_id, "status": status, "body": body})
        }
    };
    format!("{value}\n")
}

/// Returns the line of an execution, the same as a simulated device writes.
fn journal_line(line: &Line, at: Timestamp) -> Option<String> {
    let Line::Begun { device_id, execution_id, method } = line else { return None };
    let at = at.to_string();
    let value = json!({"device_id": device_id, "method": method, "execution_id": execution_id, "at": at});
    Some(format!("{value}\n"))
}

/// The file of executions and answers.
struct State {
    path: PathBuf,
    file: File,
    /// Lines of the file, and of those the ones that were in it when it was written anew.
    lines: usize,
    lines_kept: usize,
}

impl State {
    fn open(path: &Path) -> io::Result<(State, Past)> {
        let file = locked(path)?;
        let past = read(&file)?;
        let mut state = State { path: path.to_path_buf(), file, lines: 0, lines_kept: 0 };
        state.rewrite(&past)?;
        Ok((state, past))
    }

    fn append(&mut self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&line);
            self.lines += 1;
        }
        // A line feed first: the last write may have ended in the middle of a line, when the disk was full.
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            drop(self.file.write_all(b"\n"));
        }
        written?;
        if self.lines > REWRITE_LINES_MIN + 2 * self.lines_kept {
            let past = read(&File::open(&self.path)?)?;
            self.rewrite(&past)?;
        }
        Ok(())
    }

    /// Writes the file anew, with what is still remembered.
    fn rewrite(&mut self, past: &Past) -> io::Result<()> {
        let (mut text, mut lines) = (String::new(), 0);
        for (device_id, executions) in past {
            for (execution_id, answer) in executions {
                let (device_id, execution_id) = (device_id.clone(), execution_id.clone());
                let line = match answer.clone() {
                    Some(answer) => Line::Answered { device_id, execution_id, answer },
                    None => Line::Begun { device_id, execution_id, method: String::new() },
                };
                text.push_str(&state_line(&line));
                lines += 1;
            }
        }
        let mut name = self.path.as_os_str().to_os_string();
        name.push(".new");
        let beside = PathBuf::from(name);
        drop(fs::remove_file(&beside));
        let mut file = locked(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        (self.file, self.lines, self.lines_kept) = (file, lines, lines);
        Ok(())
    }
}

/// Opens a file that no other process has.
fn locked(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).read(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process uses it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads what was begun and answered. A line that is torn or none of ours is skipped: nothing followed from it.
fn read(file: &File) -> io::Result<Past> {
    let mut past = Past::new();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.len() <= LINE_BYTES_MAX
            && let Ok(value) = serde_json::from_slice::<Value>(&line)
            && let (Some(device_id), Some(execution_id)) = (text(&value, "device_id"), text(&value, "execution_id"))
        {
            let executions = past.entry(device_id.to_string()).or_default();
            let answer = answer_of(&value);
            match executions.iter_mut().find(|(id, _)| id == execution_id) {
                Some((_, known)) => *known = answer.or(known.take()),
                None => executions.push((execution_id.to_string(), answer)),
            }
            if executions.len() > EXECUTIONS_MAX {
                executions.remove(0);
            }
        }
        line.clear();
    }
    Ok(past)
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn answer_of(value: &Value) -> Option<Answer> {
    let status = value.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok())?;
    Some(Answer { status, body: text(value, "body")?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn ok(body: &str) -> Answer {
        Answer { status: 200, body: body.to_string() }
    }

    /// Opens a file as soon as the thread of the last store has let go of it.
    fn reopen(path: &Path) -> (Store, Past) {
        for _ in 0..1_000 {
            match Store::open(Some(path), None) {
                Err(DeviceError::File { source, .. }) if source.to_string().contains("another process") => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("the file is never free");
    }

    #[test]
    fn what_was_begun_and_answered_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, journal) = (folder.path().join("state"), folder.path().join("journal"));
        let (store, past) = Store::open(Some(&path), Some(&journal)).unwrap();
        assert!(past.is_empty());
        block(async {
            store.begun("d-1", "x", "reboot").await.unwrap();
            store.answered("d-1", "x", ok("{}")).await.unwrap();
            store.begun("d-1", "y", "reboot").await.unwrap();
            store.begun("d-2", "x", "reboot").await.unwrap();
        });
        let busy = Store::open(Some(&path), None).unwrap_err();
        assert!(matches!(busy, DeviceError::File { .. }), "{busy}");
        drop(store);
        let (store, past) = reopen(&path);
        let expected = vec![("x".to_string(), Some(ok("{}"))), ("y".to_string(), None)];
        assert_eq!(past["d-1"], expected);
        assert_eq!(past["d-2"], [("x".to_string(), None)]);
        drop(store);
        // The next one was killed in the middle of a line.
        let mut file = loop {
            if let Ok(file) = locked(&path) {
                break file;
            }
        };
        file.write_all(br#"{"device_id":"d-1","execution_id":"z","met"#).unwrap();
        drop(file);
        assert_eq!(reopen(&path).1["d-1"], expected);
        let lines = fs::read_to_string(&journal).unwrap();
        assert_eq!(lines.lines().count(), 3, "{lines}");
        assert!(lines.lines().all(|line| line.contains(r#""method":"reboot""#)), "{lines}");
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut state, _) = State::open(&path).unwrap();
        let line = |n: usize| {
            let (device_id, execution_id) = ("d".to_string(), n.to_string());
            state_line(&Line::Answered { device_id, execution_id, answer: ok("{}") })
        };
        for n in (0..3 * REWRITE_LINES_MIN).step_by(EXECUTIONS_MAX) {
            state.append((n..n + EXECUTIONS_MAX).map(line)).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= REWRITE_LINES_MIN + 3 * EXECUTIONS_MAX, "{}", text.lines().count());
        assert!(text.contains(&format!("\"{}\"", 3 * REWRITE_LINES_MIN - 1)));
    }
}
