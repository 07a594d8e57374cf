//! How a device executes a method: a command of a shell, or an answer that is always the same.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::memory::Answer;
use crate::model::digest::Digest;
use crate::model::limits;

/// Bytes of a command's output that are sent.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
/// Commands that run at once, of all devices of the process.
const COMMANDS_MAX: usize = 64;

/// What devices do with methods.
#[derive(Debug)]
pub(super) struct Methods {
    /// Commands of a shell by the name of the method. Without any, every method is answered alike.
    commands: BTreeMap<String, String>,
    /// The shortest and the longest time until an answer.
    latency: (Duration, Duration),
    /// The status of the answers that are no command's.
    status: u16,
    running: Semaphore,
}

/// A method to execute.
#[derive(Debug)]
pub(super) struct Call {
    pub device_id: String,
    pub method: String,
    pub execution_id: String,
    pub payload: Vec<u8>,
}

impl Methods {
    pub fn new(commands: BTreeMap<String, String>, latency: (Duration, Duration), status: u16) -> Methods {
        Methods { commands, latency, status, running: Semaphore::new(COMMANDS_MAX) }
    }

    /// Returns the answer to a method that the device does not have.
    pub fn unknown(&self, method: &str) -> Option<Answer> {
        let is_known = self.commands.is_empty() || self.commands.contains_key(method);
        (!is_known).then(|| Answer::with_message(404, &format!("there is no method `{method}`")))
    }

    /// Executes a method and returns its answer.
    pub async fn execute(&self, call: &Call) -> Answer {
        sleep(self.latency_of(call)).await;
        let Some(command) = self.commands.get(&call.method) else {
            return Answer { status: self.status, body: "{}".to_string() };
        };
        let Ok(_permit) = self.running.acquire().await else { return Answer::failed("the device is stopping") };
        match timeout(limits::COMMAND_TIMEOUT_MAX, run(command, call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::failed(&format!("the command could not be run: {error}")),
            // Nobody waits any longer than that. The shell is killed when its future is dropped.
            Err(_) => Answer::failed("the command took too long"),
        }
    }

    /// Returns a time that is the same each time the device is asked the same.
    fn latency_of(&self, call: &Call) -> Duration {
        let (least, most) = self.latency;
        let chance = Digest::of_texts([call.device_id.as_str(), call.execution_id.as_str()]).seed();
        let part = (chance >> 11) as f64 / (1u64 << 53) as f64;
        least + most.saturating_sub(least).mul_f64(part)
    }
}

async fn run(command: &str, call: &Call) -> std::io::Result<Answer> {
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command).kill_on_drop(true);
    shell.env("FLEETFORM_DEVICE_ID", &call.device_id).env("FLEETFORM_METHOD", &call.method);
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A command need not read it.
            drop(stdin.write_all(&call.payload).await);
        }
    };
    let ((), output, errors, status) = tokio::join!(give, read(stdout), read(stderr), child.wait());
    let is_good = status?.success();
    let said = if output.is_empty() && !is_good { errors } else { output };
    Ok(Answer { status: if is_good { 200 } else { 500 }, body: body(&said) })
}

/// Reads a stream to its end, and returns as much of it as is sent.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let (mut kept, mut piece) = (Vec::new(), [0; 1_024]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(&piece[..length.min(room)]);
    }
    kept
}

/// Returns an output as JSON: as it is when it is JSON, else as a text.
fn body(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    match text.trim() {
        "" => "{}".to_string(),
        text => match serde_json::from_str::<Value>(text) {
            Ok(_) => text.to_string(),
            Err(_) => json!({"output": text}).to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(command: &str, payload: &str) -> Answer {
        let commands = BTreeMap::from([("m".to_string(), command.to_string())]);
        let methods = Methods::new(commands, (Duration::ZERO, Duration::ZERO), 200);
        let (device_id, method, execution_id) = ("d-1".to_string(), "m".to_string(), "x".to_string());
        let call = Call { device_id, method, execution_id, payload: payload.into() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(methods.execute(&call))
    }

    #[test]
    fn the_output_of_a_command_is_the_answer() {
        let check = |command: &str, status: u16, body: &str| {
            let body = body.to_string();
            assert_eq!(executed(command, r#"{"delay":5}"#), Answer { status, body }, "{command}");
        };
        check("cat", 200, r#"{"delay":5}"#);
        check("true", 200, "{}");
        check("echo hot; exit 3", 500, r#"{"output":"hot"}"#);
        check("echo broken >&2; exit 1", 500, r#"{"output":"broken"}"#);
        check("echo fine; echo noise >&2", 200, r#"{"output":"fine"}"#);
        check("printf '%s %s' $FLEETFORM_DEVICE_ID $FLEETFORM_METHOD", 200, r#"{"output":"d-1 m"}"#);
    }

    #[test]
    fn an_output_is_cut_and_a_payload_need_not_be_read() {
        let answer = executed("head -c 100000 /dev/zero | tr '\\0' x", &"y".repeat(100_000));
        assert_eq!(answer.body.len(), OUTPUT_BYTES_MAX + r#"{"output":""}"#.len());
    }

    #[test]
    fn a_latency_is_within_its_bounds() {
        let (least, most) = (Duration::from_millis(50), Duration::from_millis(150));
        let methods = Methods::new(BTreeMap::new(), (least, most), 200);
        let latencies: Vec<Duration> = (0..1_000)
            .map(|n: u32| Call {
                device_id: "d".into(),
                method: "m".into(),
                execution_id: n.to_string(),
                payload: Vec::new(),
            })
            .map(|call| methods.latency_of(&call))
            .collect();
        assert!(latencies.iter().all(|latency| (least..=most).contains(latency)));
        let mean = latencies.iter().sum::<Duration>() / 1_000;
        assert!(mean > Duration::from_millis(90) && mean < Duration::from_millis(110), "{mean:?}");
    }
}
