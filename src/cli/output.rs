//! Where a command's words go: results to stdout, talk to stderr, colour where it is wanted.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::global::{ColorChoice, Global};
use super::view::{diagnostic, fitted, number, wrapped};
use crate::ops::Findings;

/// The terminal, or the pipes in its place.
#[derive(Debug, Clone)]
pub struct Output {
    pub is_json: bool,
    pub is_quiet: bool,
    pub is_verbose: bool,
    /// The name by which this program was called, for commands that a person can copy.
    pub program: String,
    /// Colour on stdout and on stderr.
    colors: (bool, bool),
}

/// Prints a mistake of the command line, given with colours.
pub fn usage_error(text: &str) {
    // Nothing can be said when the terminal is gone.
    drop(anstream::stderr().lock().write_all(fitted(text, stderr_width()).as_bytes()));
}

/// Prints a mistake of the command line as [`Output::error`] does with `--json`: the first sentence, and the rest as
/// help.
pub fn json_usage_error(text: &str, exit_code: u8) {
    let (what, help) = text.trim().split_once("\n\n").unwrap_or((text.trim(), ""));
    let help = help.trim_start();
    let what = what.trim_start_matches("error: ");
    json_error(what, help, exit_code);
}

/// Prints on stderr `{"error", "help", "exit_code"}`, where `help` is null without any.
fn json_error(what: &str, help: &str, exit_code: u8) {
    let line = json!({"error": what, "help": (!help.is_empty()).then_some(help), "exit_code": exit_code});
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// The styles that views use; colour never carries meaning alone.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    Good,
    Bad,
    Careful,
    Quiet,
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Tone::Careful => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Quiet => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        }
    }
}

/// Puts a text into a tone, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub struct Painter {
    pub is_on: bool,
}

impl Painter {
    /// Returns the text in the tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.is_on || text.is_empty() {
            return text.to_string();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }
}

/// The least columns that anything is fitted to.
const WIDTH_MIN: u16 = 60;

/// Returns the columns of the terminal that stdout is; `None` for a pipe or a file.
pub fn stdout_width() -> Option<usize> {
    width(&console::Term::stdout(), std::io::stdout().is_terminal())
}

/// Returns the columns of the terminal that stderr is; `None` for a pipe or a file.
pub fn stderr_width() -> Option<usize> {
    width(&console::Term::stderr(), std::io::stderr().is_terminal())
}

fn width(terminal: &console::Term, is_terminal: bool) -> Option<usize> {
    let (_, columns) = terminal.size_checked().filter(|_| is_terminal)?;
    Some(usize::from(columns.max(WIDTH_MIN)))
}

impl Output {
    /// Returns the output that the arguments and the terminal ask for.
    pub fn new(global: &Global) -> Output {
        let wants = |choice: anstream::ColorChoice| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => choice != anstream::ColorChoice::Never,
        };
        let colors = (
            wants(anstream::AutoStream::choice(&std::io::stdout())),
            wants(anstream::AutoStream::choice(&std::io::stderr())),
        );
        let program = std::env::args().next().unwrap_or_else(|| "fleetform".to_string());
        Output { program, is_json: global.json, is_quiet: global.quiet, is_verbose: global.verbose, colors }
    }

    /// Returns the painter of stdout.
    pub fn painter(&self) -> Painter {
        Painter { is_on: self.colors.0 }
    }

    /// Returns the painter of stderr.
    pub fn talk_painter(&self) -> Painter {
        Painter { is_on: self.colors.1 }
    }

    /// Returns true when a person sees stderr.
    pub fn is_interactive(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Prints a result.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn result(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Prints a result as one line of JSON.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn json_line(&self, value: &Value) -> std::io::Result<()> {
        self.result(&format!("{value}\n"))
    }

    /// Prints a message on stderr, unless quiet. On a terminal its lines are broken at spaces, but for those that are
    /// indented. A terminal that is gone is not an error: the work goes on.
    pub fn say(&self, text: &str) {
        if !self.is_quiet {
            drop(writeln!(std::io::stderr().lock(), "{}", fitted(text, stderr_width())));
        }
    }

    /// Prints a line of a list on stderr, unless quiet: indented, and on a terminal broken at spaces.
    pub fn say_item(&self, text: &str) {
        if !self.is_quiet {
            drop(writeln!(std::io::stderr().lock(), "{}", wrapped(&format!("  {text}"), 4, stderr_width())));
        }
    }

    /// Prints on stderr what went wrong, and what to do; with `--json` as an object.
    pub fn error(&self, what: &str, help: &str, exit_code: u8) {
        if self.is_json {
            return json_error(what, help, exit_code);
        }
        let painter = self.talk_painter();
        let mut text = format!("{}: {what}.", painter.paint(Tone::Bad, "error"));
        if !help.is_empty() {
            text.push_str(&format!("\n{}: {help}", painter.paint(Tone::Strong, "help")));
        }
        drop(writeln!(std::io::stderr().lock(), "{}", fitted(&text, stderr_width())));
    }

    /// Prints all findings and their number on stderr (as JSON lines on stdout with `--json`).
    pub fn findings(&self, findings: &Findings) {
        let sorted = findings.diagnostics.sorted();
        if self.is_json {
            for item in sorted {
                drop(self.json_line(&diagnostic::to_json(item, &findings.sources)));
            }
            return;
        }
        for item in &sorted {
            let text = diagnostic::render(item, &findings.sources, self.colors.1, stderr_width());
            drop(writeln!(std::io::stderr().lock(), "{}\n", text.trim_end()));
        }
        let (errors, warnings) = findings.diagnostics.counts();
        if errors > 0 {
            let noun = |count: usize, word: &str| {
                format!("{} {word}{}", number(count as u64), if count == 1 { "" } else { "s" })
            };
            let warned = if warnings > 0 { format!(" and {}", noun(warnings, "warning")) } else { String::new() };
            drop(writeln!(std::io::stderr().lock(), "{}{warned}.", noun(errors, "error")));
        }
    }
}
