//! `apply`

use std::io::Write as _;
use std::time::Duration;

use indicatif::MultiProgress;

use super::{CommandResult, Output, ask, can_ask, folder_option, is_asking};
use crate::cli::args::ApplyArgs;
use crate::cli::error::{CommandError, code_of_findings};
use crate::cli::exit;
use crate::cli::forge::{Teller, Undone, variable};
use crate::cli::output::stderr_width;
use crate::cli::signals::on_signals;
use crate::cli::view::plan::PlanView;
use crate::cli::view::progress::{Bars, event_json, event_line};
use crate::cli::view::{counted, indexes, wrapped};
use crate::execute::{Inbox, Progress, SystemClock, Waker};
use crate::ops::apply::{Applied, ApplyOptions, apply};
use crate::ops::plan::read;
use crate::ops::{Environment, Findings, OpsError, Trust, Workspace};
use crate::plan::Plan;
use crate::prepare::{Files, OnError, TreeChoice};

/// `apply [PLAN] [--yes] [--strict] [--wait]`
pub fn run(environment: &Environment, arguments: &ApplyArgs, output: &Output) -> CommandResult {
    let environment = &arguments.secrets.give_to(environment)?;
    let saved = arguments.plan.as_deref().map(read).transpose()?;
    let options = ApplyOptions {
        saved,
        waits: arguments.wait,
        accepts_rewind: arguments.accept_rewind,
        takes_over: arguments.take_over,
        trust: Trust { introduction: arguments.introduction.clone(), remembers: true },
        grace: Duration::from_secs(arguments.grace),
        ..ApplyOptions::default()
    };
    let mut teller = teller(environment, arguments)?;
    // A saved plan was looked at before.
    let is_agreed = arguments.yes || arguments.plan.is_some();
    let applied = execute(environment, &options, is_agreed, teller.as_mut(), output);
    if let Some(teller) = teller {
        end(teller, applied.as_ref(), output);
    }
    let applied = applied?;
    if applied.was_declined && !can_ask() {
        return Err(CommandError::Usage {
            what: "apply asks before it changes anything, and there is nobody to ask".to_string(),
            help: "Add --yes to apply without a question.".to_string(),
        });
    }
    finish(&applied, arguments.strict, &folder_option(environment), output)
}

/// Tells a forge of the commit of `HEAD`.
pub(super) struct Telling {
    teller: Teller,
    fleet: String,
    commit: String,
}

/// Returns what tells a forge of the commit; `None` without a token, and when the fleet has no name.
fn teller(environment: &Environment, arguments: &ApplyArgs) -> Result<Option<Telling>, CommandError> {
    let workspace = Workspace::open(environment).map_err(OpsError::from)?;
    let remote = workspace.repo.remote_address("origin");
    let Some(forge) = arguments.forge.open(remote.as_deref(), None, &variable)? else { return Ok(None) };
    let files = Files::read(&workspace, TreeChoice::Head, OnError::Hold).map_err(OpsError::from)?;
    let Some(declared) = &files.declared else { return Ok(None) };
    let commit = workspace.repo.head().map_err(OpsError::from)?;
    let fleet = declared.fleet.name.to_string();
    let mut teller = Teller::start(forge, arguments.forge.link())?;
    teller.take_up(&fleet, &commit, Undone::default());
    Ok(Some(Telling { teller, fleet, commit }))
}

/// Says how the commit stands after an apply; nothing when nobody agreed to it.
fn end(telling: Telling, applied: Result<&Applied, &CommandError>, output: &Output) {
    let Telling { mut teller, fleet, commit } = telling;
    let undone = match applied {
        Ok(applied) => match &applied.refused {
            Some(findings) => Undone::of_findings(findings),
            None => Undone::frozen(applied.frozen.iter().map(|(subject, frozen)| format!("{subject}: {}", frozen.why))),
        },
        Err(CommandError::Ops(error)) => Undone::of_error(error),
        Err(_) => Undone::default(),
    };
    let is_over = applied.is_ok_and(|applied| !applied.was_declined && !applied.was_interrupted);
    if is_over || undone.held > 0 {
        teller.take_up(&fleet, &commit, undone);
        // What has ended before the last look is one step, that nothing more begins the next.
        teller.look(false);
        teller.look(is_over);
    }
    if let Some(error) = teller.end() {
        output.say(&format!("The status of the commit was not set: {error}. {}", error.help()));
    }
}

/// Applies with progress on the terminal, until it is done or interrupted.
pub(super) fn execute(
    environment: &Environment,
    options: &ApplyOptions,
    is_agreed: bool,
    mut teller: Option<&mut Telling>,
    output: &Output,
) -> Result<Applied, CommandError> {
    let inbox = Inbox::new();
    let mut bars = Bars::new(output);
    let printer = bars.printer();
    let shows_bars = output.is_interactive() && !output.is_json && !output.is_quiet;
    let mut observer = |progress: &Progress| {
        if let Some(Telling { teller, .. }) = &mut teller {
            teller.progress(progress);
            teller.look(false);
        }
        if output.is_json {
            if let Some(event) = event_json(progress) {
                // A reader that is gone does not stop the work.
                drop(output.json_line(&event));
            }
        } else if shows_bars {
            bars.show(progress);
        } else if let Some(line) = event_line(progress, output.talk_painter()) {
            output.say(&line);
        }
    };
    let mut agree = |plan: &Plan, findings: &Findings| {
        if !plan.has_changes() {
            return true;
        }
        if !output.is_json {
            let view = PlanView {
                is_blind: false,
                painter: output.talk_painter(),
                is_verbose: output.is_verbose,
                errors: findings.diagnostics.counts().0,
            };
            output.say(view.render(plan).trim_end());
            output.findings(findings);
        }
        is_agreed || (can_ask() && ask("Apply this plan?"))
    };
    interrupt_on_signal(inbox.waker(), (!output.is_quiet).then_some((printer, shows_bars)));
    Ok(apply(environment, options, &SystemClock, &inbox, &mut agree, &mut observer)?)
}

fn finish(applied: &Applied, is_strict: bool, folder: &str, output: &Output) -> CommandResult {
    if output.is_verbose && !applied.indexes.is_empty() {
        output.say(indexes::lines(&applied.indexes, output.talk_painter()).trim_end());
    }
    if let Some(failure) = &applied.index_failure {
        output.say(&format!(
            "No index was made or dropped: {failure}. The next apply tries again; searches are slower until then."
        ));
    }
    if !applied.frozen.is_empty() {
        say_frozen(applied, output);
    }
    if applied.was_empty && !applied.frozen.is_empty() {
        return Ok(exit::HELD);
    }
    if applied.was_empty {
        match applied.held {
            0 => output.say("Nothing to do: everything that is declared has been done."),
            held => {
                let (program, what) = (&output.program, counted(held, "document"));
                output.say(&format!(
                    "Nothing to do now: {what} held (`{program}{folder} plan` says why), the others done."
                ));
            }
        }
        return Ok(exit::OK);
    }
    if applied.was_declined {
        output.say("Nothing was changed.");
        return Ok(exit::OK);
    }
    if applied.was_interrupted {
        output.say("Interrupted. What was done is recorded, and the next apply goes on from here.");
        return Ok(exit::INTERRUPTED);
    }
    if let Some(findings) = &applied.refused {
        output.findings(findings);
        output.say("The jobs above ran; those that come after them were not claimed.");
        return Ok(code_of_findings(&findings.diagnostics, false));
    }
    let has_bad_run = applied.records.iter().any(|record| record.status.has_ended_badly());
    let has_failure = applied.records.iter().any(|record| record.counts.failed > 0)
        || applied.imports.iter().any(|(_, report)| report.rejected > 0);
    for record in applied.records.iter().filter(|record| record.status.has_ended_badly()) {
        let (program, job) = (&output.program, &record.job);
        let status = record.status.as_str();
        output.say(&format!("\nTo see why job {job} was {status}:\n\n    {program}{folder} job show {job}"));
    }
    Ok(match has_bad_run || (is_strict && has_failure) {
        true => exit::RUN_FAILED,
        false if !applied.frozen.is_empty() => exit::HELD,
        false => exit::OK,
    })
}

/// Says what was not started, and when it may be.
fn say_frozen(applied: &Applied, output: &Output) {
    const SHOWN: usize = 5;
    let count = applied.frozen.len();
    let lines = applied.frozen.iter().take(SHOWN).map(|(subject, frozen)| format!("\n  {subject}: {}", frozen.why));
    let more = if count > SHOWN { format!("\n  and {} more", count - SHOWN) } else { String::new() };
    let are = if count == 1 { "is" } else { "are" };
    let what = counted(count as u64, "document");
    output.say(&format!("{what} {are} not started:{}{more}", lines.collect::<String>()));
}

/// The first Ctrl-C or SIGTERM asks to end; the second ends at once.
fn interrupt_on_signal(waker: Waker, says: Option<(MultiProgress, bool)>) {
    let heard = move || {
        if is_asking() {
            drop(writeln!(std::io::stderr().lock(), "\nNothing was changed."));
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        if waker.is_interrupted() {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        let text = "Ending: no new device starts, those in flight are awaited. Again ends at once.";
        let text = wrapped(text, 0, stderr_width());
        match &says {
            Some((bars, true)) => drop(bars.println(text)),
            Some((_, false)) => drop(writeln!(std::io::stderr().lock(), "{text}")),
            None => {}
        }
        waker.interrupt();
    };
    // When the handler cannot be installed, a signal ends the process, and the next apply continues.
    drop(on_signals(heard));
}
