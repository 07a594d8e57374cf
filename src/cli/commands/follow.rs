//! `job show --follow`

use std::collections::VecDeque;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::{CommandResult, Output};
use crate::cli::exit;
use crate::cli::output::stderr_width;
use crate::cli::view::{job as view, number};
use crate::execute::{Clock as _, SystemClock};
use crate::ops::job::{Life, RunChoice, ShownRun, fetch_results, show};
use crate::ops::{Caveats, Environment, OpsError};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a clone asks the remote what became of a run that goes on elsewhere.
const FETCH_EVERY: Duration = Duration::from_secs(5);
/// How long the remote has to answer.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Columns of the bar.
const BAR_WIDTH: usize = 12;
/// The rate of devices is that of this time.
const RATE_TIME: Duration = Duration::from_secs(30);

/// Shows a run until it has ended, was stopped, or nobody works on it: a bar on a terminal, otherwise a line, or a JSON
/// object, for each change. Then shows it as `job show` does. `tell` hears first what the answer lacks.
pub(super) fn follow(
    environment: &Environment,
    choice: &RunChoice,
    tell: &mut dyn FnMut(&Caveats),
    output: &Output,
) -> CommandResult {
    let mut shown = show(environment, choice, tell)?;
    // A newer run is not followed in its place.
    let choice = RunChoice { run: Some(shown.record.run.to_string()), ..choice.clone() };
    let bar = (output.is_interactive() && !output.is_json).then(|| bar(&shown));
    let (mut pace, mut told, mut fetched) = (Pace::default(), None, SystemClock.now());
    while let Life::AtWork(worker) = &shown.life {
        let counts = shown.record.counts;
        let done = counts.completed + counts.failed;
        pace.note(SystemClock.now(), done);
        let line = line(&shown, worker, &pace);
        match &bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(fitted(&shown, line));
            }
            None if told == Some((done, counts.failed)) => {}
            None if output.is_json => output.json_line(&view::show_json(&shown))?,
            None => output.say(&format!("{} of {}, {line}", number(done), number(counts.total))),
        }
        told = Some((done, counts.failed));
        std::thread::sleep(LOOK_EVERY);
        if elapsed(fetched, SystemClock.now()) >= FETCH_EVERY {
            match fetch_results(environment, FETCH_TIME_MAX) {
                Ok(_) => {}
                // What goes on here is seen without the remote.
                Err(OpsError::Upstream(error)) => tracing::debug!(%error, "the remote was not asked"),
                Err(error) => return Err(error.into()),
            }
            fetched = SystemClock.now();
        }
        shown = show(environment, &choice, &mut |_| {})?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if output.is_json {
        output.json_line(&view::show_json(&shown))?;
    } else {
        output.result(&view::show(&shown, output.painter()))?;
    }
    Ok(exit::OK)
}

/// Cuts a line to what the terminal has room for behind the bar.
fn fitted(shown: &ShownRun, line: String) -> String {
    let Some(most) = stderr_width() else { return line };
    let counts = 2 * number(shown.record.counts.total).len() + 1;
    let before = format!("{} run {}", shown.record.job, shown.record.run).chars().count() + BAR_WIDTH + counts + 8;
    console::truncate_str(&line, most.saturating_sub(before).max(10), "…").into_owned()
}

fn bar(shown: &ShownRun) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}  [{bar:12}] {human_pos}/{human_len}  {msg}");
    let style = style.expect("the template is legal").progress_chars("=> ");
    let prefix = format!("{} run {}", shown.record.job, shown.record.run);
    ProgressBar::with_draw_target(Some(shown.record.counts.total), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(prefix)
}

/// Returns what there is to say beside the number of devices.
fn line(shown: &ShownRun, worker: &str, pace: &Pace) -> String {
    let counts = shown.record.counts;
    let mut line = format!("{} failed", number(counts.failed));
    if let Some(rate) = pace.rate() {
        let left = Duration::from_secs_f64((counts.pending() as f64 / rate).min(1e9));
        line.push_str(&format!(", {rate:.1} a second, about {} left", HumanDuration(left)));
    }
    format!("{line}; at work: {}", crate::model::text::sanitize_line(worker))
}

/// Returns the time between two times; zero when a clock was put back between them.
fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// How fast devices become terminal.
#[derive(Default)]
struct Pace {
    /// The devices that were done at a time, the oldest first.
    seen: VecDeque<(Timestamp, u64)>,
}

impl Pace {
    fn note(&mut self, at: Timestamp, done: u64) {
        self.seen.push_back((at, done));
        while self.seen.front().is_some_and(|(oldest, _)| elapsed(*oldest, at) > RATE_TIME) {
            self.seen.pop_front();
        }
    }

    /// Returns the devices a second; `None` when none became terminal.
    fn rate(&self) -> Option<f64> {
        let (from, to) = (self.seen.front()?, self.seen.back()?);
        let (time, devices) = (elapsed(from.0, to.0), to.1.saturating_sub(from.1));
        (devices > 0 && !time.is_zero()).then(|| devices as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_time() {
        let (start, mut pace) = (Timestamp::UNIX_EPOCH, Pace::default());
        pace.note(start, 0);
        assert_eq!(pace.rate(), None);
        pace.note(start + Duration::from_secs(10), 50);
        assert_eq!(pace.rate(), Some(5.0));
        // The first is too old by now.
        pace.note(start + Duration::from_secs(35), 100);
        assert_eq!(pace.rate(), Some(2.0));
    }
}
