//! The log of the daemon on stderr: lines for people, or lines of JSON.
//!
//! Log lines contain untrusted text: answers of devices, names in files, errors of remotes. Both forms escape every
//! character that would control a terminal or break a line. Spans are not shown: all data of an event are its fields.

use std::fmt::{self, Write as _};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use super::error::CommandError;
use super::output::{Output, Painter, Tone, stderr_width};
use super::view::wrapped;
use crate::execute::{Clock as _, SystemClock};
use crate::model::text::{sanitize_json, sanitize_line};

/// How to log.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// How to write the log on stderr; json with --json, else text
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log: Option<LogFormat>,
    /// What to log, such as `info` or `warn,fleetform::listen=debug`, in place of what -q and -v choose
    #[arg(long, value_name = "FILTER", env = "FLEETFORM_LOG")]
    pub log_filter: Option<String>,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Starts the log of the process. Call it once.
    ///
    /// # Errors
    /// `CommandError::Usage`: the filter is not valid.
    pub fn start(&self, output: &Output) -> Result<(), CommandError> {
        let format = self.log.unwrap_or(if output.is_json { LogFormat::Json } else { LogFormat::Text });
        let lines =
            LineFormat { format, painter: output.talk_painter(), now: || SystemClock.now(), width: stderr_width };
        let filter = self.filter(output.is_quiet, output.is_verbose)?;
        tracing::subscriber::set_global_default(subscriber(lines, filter, std::io::stderr))
            .expect("a process starts its log once");
        Ok(())
    }

    fn filter(&self, is_quiet: bool, is_verbose: bool) -> Result<EnvFilter, CommandError> {
        let chosen = match (is_quiet, is_verbose) {
            (true, _) => "warn",
            (false, false) => "warn,fleetform=info",
            (false, true) => "info,fleetform=debug",
        };
        // Unit and compose files leave a variable out by setting it to the empty string.
        let text = self.log_filter.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or(chosen);
        EnvFilter::builder().with_regex(false).parse(text).map_err(|error| CommandError::Usage {
            what: format!(
                "the log filter `{}` cannot be read: {}",
                sanitize_line(text),
                sanitize_line(&error.to_string())
            ),
            help: "Write a level (error, warn, info, debug, trace), or some such as `warn,fleetform=debug`."
                .to_string(),
        })
    }
}

fn subscriber<W>(lines: LineFormat, filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        // When the reader of stderr is gone, an error on stderr would not reach it.
        .log_internal_errors(false)
        .event_format(lines)
        .with_writer(writer);
    tracing_subscriber::registry().with(filter).with(layer)
}

/// Writes an event as one line, which is broken at spaces where a person sees it on a terminal.
#[derive(Debug, Clone, Copy)]
struct LineFormat {
    format: LogFormat,
    painter: Painter,
    /// The time, UTC.
    now: fn() -> Timestamp,
    /// The columns of the terminal; `None` for a pipe or a file.
    width: fn() -> Option<usize>,
}

/// The column at which a line goes on that does not fit the terminal.
const CONTINUED_AT: usize = 4;

/// What an event says: its message and its fields, in the order in which the code has them.
#[derive(Debug, Default)]
struct EventFields {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Also `%value`: tracing wraps what is displayed so that its `Debug` is its `Display`.
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Value::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            self.add(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }

    /// An error with its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Transparent errors say what their source says.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        self.add(field, Value::String(text));
    }
}

impl EventFields {
    fn add(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = EventFields::default();
        event.record(&mut said);
        let line = match self.format {
            LogFormat::Text => wrapped(&self.text(event, &said), CONTINUED_AT, (self.width)()),
            LogFormat::Json => self.json(event, &said)?,
        };
        writeln!(writer, "{line}")
    }
}

impl LineFormat {
    /// `2026-11-20T10:00:00Z INFO  the source moved commit=1f3a… files=12`
    fn text(self, event: &Event<'_>, said: &EventFields) -> String {
        let level = *event.metadata().level();
        let tone = match level {
            Level::ERROR => Tone::Bad,
            Level::WARN => Tone::Careful,
            Level::INFO => Tone::Good,
            Level::DEBUG | Level::TRACE => Tone::Quiet,
        };
        let time = format!("{:.0}", (self.now)());
        let mut line = format!(
            "{} {} {}",
            self.painter.paint(Tone::Quiet, &time),
            self.painter.paint(tone, &format!("{level:5}")),
            sanitize_line(&said.message)
        );
        for (name, value) in &said.fields {
            let value = value.as_str().map_or_else(|| value.to_string(), quoted);
            line.push_str(&format!(" {}{value}", self.painter.paint(Tone::Quiet, &format!("{name}="))));
        }
        line
    }

    /// `{"timestamp": …, "level": …, "target": …, "message": …}` and the fields. A field with one of these names has a
    /// `_` behind it.
    fn json(self, event: &Event<'_>, said: &EventFields) -> Result<String, fmt::Error> {
        const OURS: [&str; 4] = ["timestamp", "level", "target", "message"];
        let mut line = String::from("{");
        let mut put = |name: &str, value: &Value| {
            let separator = if line.len() > 1 { "," } else { "" };
            write!(line, "{separator}{}:{value}", Value::from(name))
        };
        let metadata = event.metadata();
        put("timestamp", &Value::String(format!("{:.3}", (self.now)())))?;
        put("level", &Value::String(metadata.level().as_str().to_lowercase()))?;
        put("target", &Value::from(metadata.target()))?;
        put("message", &Value::from(said.message.as_str()))?;
        for (name, value) in &said.fields {
            if OURS.contains(name) {
                put(&format!("{name}_"), value)?;
            } else {
                put(name, value)?;
            }
        }
        line.push('}');
        Ok(sanitize_json(&line).into_owned())
    }
}

/// Returns a text as one word of a line: in quotes where it would be read as more.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    let safe = sanitize_line(text);
    if !text.is_empty() && text.chars().all(is_plain) {
        return safe.into_owned();
    }
    // Escapes have backslashes, which are not escaped again: the line is for people.
    format!("\"{}\"", safe.replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the push failed")]
    struct PushError(#[source] io::Error);

    fn log(format: LogFormat, is_colored: bool, arguments: &LogArgs, say: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let now = || "2026-11-20T10:00:00.25Z".parse().unwrap();
        let lines = LineFormat { format, painter: Painter { is_on: is_colored }, now, width: || None };
        let subscriber = subscriber(lines, arguments.filter(false, false).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, say);
        let written = paper.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    fn say_all() {
        let answer = "bad\u{1b}[2J\u{9b}31m\u{202e}x\ny";
        let error = PushError(io::Error::other("refused"));
        tracing::info!(commit = "1f3a", files = 12, is_new = true, share = 0.5, "the source moved");
        tracing::warn!(answer, device = %"d 7", level = "odd", empty = "", "device says {answer}");
        tracing::error!(error = &error as &dyn std::error::Error, path = ?"a\\b", "results wait");
    }

    #[test]
    fn lines_for_people_are_one_line_each_and_steer_nothing() {
        let text = log(LogFormat::Text, false, &LogArgs::default(), say_all);
        insta::assert_snapshot!(text, @r#"
        2026-11-20T10:00:00Z INFO  the source moved commit=1f3a files=12 is_new=true share=0.5
        2026-11-20T10:00:00Z WARN  device says bad\u{1b}[2J\u{9b}31m\u{202e}x\ny answer="bad\u{1b}[2J\u{9b}31m\u{202e}x\ny" device="d 7" level=odd empty=""
        2026-11-20T10:00:00Z ERROR results wait error="the push failed: refused" path="\"a\\b\""
        "#);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn lines_of_json_parse_and_steer_nothing() {
        let text = log(LogFormat::Json, false, &LogArgs::default(), say_all);
        insta::assert_snapshot!(text, @r#"
        {"timestamp":"2026-11-20T10:00:00.250Z","level":"info","target":"fleetform::cli::logs::tests","message":"the source moved","commit":"1f3a","files":12,"is_new":true,"share":0.5}
        {"timestamp":"2026-11-20T10:00:00.250Z","level":"warn","target":"fleetform::cli::logs::tests","message":"device says bad\u001b[2J\u009b31m\u202ex\ny","answer":"bad\u001b[2J\u009b31m\u202ex\ny","device":"d 7","level_":"odd","empty":""}
        {"timestamp":"2026-11-20T10:00:00.250Z","level":"error","target":"fleetform::cli::logs::tests","message":"results wait","error":"the push failed: refused","path":"\"a\\\\b\""}
        "#);
        assert!(text.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_control())), "{text:?}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[1]["answer"], "bad\u{1b}[2J\u{9b}31m\u{202e}x\ny");
        assert_eq!((&lines[1]["level"], &lines[1]["level_"]), (&Value::from("warn"), &Value::from("odd")));
    }

    #[test]
    fn colour_is_of_the_frame_only() {
        let text = log(LogFormat::Text, true, &LogArgs::default(), || tracing::warn!(name = "\u{1b}[31m", "x"));
        assert!(text.contains("\u{1b}[33mWARN"), "{text:?}");
        assert!(text.contains("\\u{1b}[31m"), "{text:?}");
    }

    #[test]
    fn what_is_logged_is_chosen() {
        let say = || {
            tracing::info!("ours");
            tracing::debug!("ours in detail");
            tracing::info!(target: "notify", "theirs");
            tracing::warn!(target: "notify", "theirs is odd");
        };
        let check = |filter: Option<&str>, expect: &[&str]| {
            let arguments = LogArgs { log: None, log_filter: filter.map(str::to_string) };
            let text = log(LogFormat::Text, false, &arguments, say);
            let messages: Vec<&str> = text.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().trim()).collect();
            assert_eq!(messages, expect, "{filter:?}");
        };
        check(None, &["ours", "theirs is odd"]);
        check(Some(" "), &["ours", "theirs is odd"]);
        check(Some("fleetform=debug"), &["ours", "ours in detail"]);
        check(Some("error"), &[]);
        let unreadable = LogArgs { log: None, log_filter: Some("fleetform=loud\u{1b}".to_string()) };
        let error = unreadable.filter(false, false).unwrap_err();
        assert!(matches!(&error, CommandError::Usage { what, .. } if what.contains("loud\\u{1b}")), "{error:?}");
    }
}
