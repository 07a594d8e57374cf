//! The stage of a script: performs its commands on a [`World`] and reports the result of each.

use std::collections::BTreeMap;
use std::path::Path;

use super::ledger::executions;
use super::script::{EditVerb, Moment, ScriptCommand, ScriptError, read};
use super::transcript::{change_line, problem_lines, progress_line, run_lines};
use super::{Ended, Faults, People, World};
use crate::execute::{Progress, Side};
use crate::model::job::Left;
use crate::ops::apply::ApplyOptions;
use crate::ops::edit::{Edit, edit};
use crate::ops::plan::{PlanOptions, plan};

/// Runs a script in an empty folder and returns its transcript: each command behind `> `, and below it what was said.
///
/// # Errors
/// A line is not a command, or it cannot be done: nothing is run of a script that cannot be read.
pub fn run_script(file: &str, text: &str, folder: &Path) -> Result<String, ScriptError> {
    let error = |line: usize, what: String| ScriptError { file: file.to_string(), line, what };
    if !text.starts_with("# ") {
        return Err(error(1, "a script opens with a comment that says what it proves".to_string()));
    }
    let steps = read(text).map_err(|(line, what)| error(line, what))?;
    let mut stage = Stage::new(folder);
    let mut transcript = String::new();
    for step in steps {
        transcript.push_str(&format!("> {}\n", step.text));
        for said in stage.perform(step.command).map_err(|what| error(step.line, what))? {
            transcript.extend(said.lines().map(|line| format!("  {line}\n")));
        }
    }
    Ok(transcript)
}

/// The lines that a command prints, or the reason why it cannot be performed.
type Printed = Result<Vec<String>, String>;

/// A fleet, and the pending events of a script.
pub(super) struct Stage {
    world: World,
    people: People,
    settings: BTreeMap<String, String>,
    /// Devices with their own behaviour, in YAML.
    behaviours: BTreeMap<String, String>,
    /// The last content of each job's file, by name.
    files: BTreeMap<String, String>,
    crash: Option<(Side, String, u64)>,
    lock_at: Option<Moment>,
}

impl Stage {
    /// Returns a fleet without devices in an empty folder.
    pub fn new(folder: &Path) -> Stage {
        let world = World::new(folder);
        let people = People::new(&world, 1, "{}");
        let mut stage = Stage {
            world,
            people,
            settings: BTreeMap::from([("latency".to_string(), "1s".to_string())]),
            behaviours: BTreeMap::new(),
            files: BTreeMap::new(),
            crash: None,
            lock_at: None,
        };
        stage.set_fleet().expect("the settings of a new fleet are known");
        stage
    }

    /// Does a command.
    pub fn perform(&mut self, command: ScriptCommand) -> Printed {
        match command {
            ScriptCommand::Devices(count) => {
                self.people.set_devices(&self.world, count);
                self.set_fleet()
            }
            ScriptCommand::Fleet(settings) => {
                self.settings.extend(settings);
                self.set_fleet()
            }
            ScriptCommand::Device(id, behaviour) => {
                match behaviour {
                    Some(behaviour) => self.behaviours.insert(id, behaviour),
                    None => self.behaviours.remove(&id),
                };
                self.set_fleet()
            }
            ScriptCommand::Declare(job) => self.write(&job.name, job.text()),
            ScriptCommand::Document(name, spec) => self.write(&name, format!("{}spec:\n{spec}", head(&name))),
            ScriptCommand::Edit(name, verb) => self.edit(&name, verb),
            ScriptCommand::Delete(name) => self.delete(&name),
            ScriptCommand::Restore(name) => match self.files.get(&name).cloned() {
                Some(text) => self.write(&name, text),
                None => Err(format!("there never was a job `{name}`")),
            },
            ScriptCommand::Rename { old, new, says_so } => self.rename(&old, &new, says_so),
            ScriptCommand::Reformat(name) => self.reformat(&name),
            ScriptCommand::Rewind(commits) => {
                let rewound = self.world.rewind(commits).map(|()| Vec::new());
                rewound.map_err(|why| format!("{commits} commits cannot be taken back: {why}"))
            }
            ScriptCommand::DeleteRegistry => {
                self.world.delete_registry();
                Ok(Vec::new())
            }
            ScriptCommand::Lock(moment) => {
                self.lock_at = moment;
                if moment.is_none() {
                    self.world.lock_branch();
                }
                Ok(Vec::new())
            }
            ScriptCommand::Unlock => {
                self.lock_at = None;
                self.world.unlock_branch();
                Ok(Vec::new())
            }
            ScriptCommand::Advance(by) => {
                self.world.clock.jump(by);
                Ok(Vec::new())
            }
            ScriptCommand::Crash(side, step, occurrence) => {
                self.crash = Some((side, step, occurrence));
                Ok(Vec::new())
            }
            ScriptCommand::Plan => self.plan(),
            ScriptCommand::Apply { waits, accepts_rewind, interrupted } => {
                let faults =
                    Faults { interrupt_after: interrupted, crash_step: self.crash.take(), ..Faults::default() };
                self.apply(&faults, &ApplyOptions { waits, accepts_rewind, ..ApplyOptions::default() })
            }
            ScriptCommand::Show(name, run) => run_lines(&self.world, &name, run.as_deref()),
            ScriptCommand::Executed => self.executed(),
            ScriptCommand::Twin(id) => self.twin(&id),
            ScriptCommand::Branch => Ok(self.world.subjects()),
        }
    }

    /// Declares the fleet as it is set now.
    fn set_fleet(&mut self) -> Printed {
        let (mut link, mut limits) = (vec![format!("journal: {}", super::world::JOURNAL)], Vec::new());
        for (key, value) in &self.settings {
            match key.as_str() {
                "seed" | "latency" | "failures" | "offline" => link.push(format!("{key}: {value}")),
                "runningJobs" | "inFlight" => limits.push(format!("{key}: {value}")),
                _ => return Err(format!("a fleet has no `{key}`")),
            }
        }
        let devices: Vec<String> = self.behaviours.iter().map(|(id, own)| format!("{id}: {own}")).collect();
        link.push(format!("devices: {{{}}}", devices.join(", ")));
        let spec = format!("{{limits: {{{}}}, link: {{simulated: {{{}}}}}}}", limits.join(", "), link.join(", "));
        self.people.set_fleet(&self.world, &spec);
        self.people.commit(&self.world);
        Ok(Vec::new())
    }

    fn write(&mut self, name: &str, text: String) -> Printed {
        self.world.write(&path(name), &text);
        self.files.insert(name.to_string(), text);
        self.commit(&[path(name)])
    }

    fn commit(&self, paths: &[String]) -> Printed {
        self.world.commit(paths);
        Ok(Vec::new())
    }

    fn file(&self, name: &str) -> Result<String, String> {
        self.world.read(&path(name)).ok_or_else(|| format!("there is no file {}", path(name)))
    }

    fn delete(&mut self, name: &str) -> Printed {
        let text = self.file(name)?;
        self.files.insert(name.to_string(), text);
        self.world.remove(&path(name));
        self.commit(&[path(name)])
    }

    fn reformat(&mut self, name: &str) -> Printed {
        let text = self.file(name)?;
        let moved = format!("jobs/moved/{name}.yaml");
        self.world.remove(&path(name));
        self.world.write(&moved, &format!("# somebody tidied this file\n{text}"));
        self.commit(&[path(name), moved])
    }

    fn rename(&mut self, old: &str, new: &str, says_so: bool) -> Printed {
        let text = self.file(old)?;
        let previous = if says_so { format!(", previousName: {old}") } else { String::new() };
        let renamed =
            text.replace(&format!("metadata: {{name: {old}}}"), &format!("metadata: {{name: {new}{previous}}}"));
        self.world.remove(&path(old));
        self.world.write(&path(new), &renamed);
        self.files.insert(new.to_string(), renamed);
        self.commit(&[path(old), path(new)])
    }

    fn edit(&mut self, name: &str, verb: EditVerb) -> Printed {
        let what = match verb {
            EditVerb::Stop => Edit::Stop,
            EditVerb::Continue => Edit::Continue,
            EditVerb::Copy => Edit::Copy { new_name: None },
            EditVerb::Rerun => Edit::Rerun { run: None, left: Left::Failed, new_name: None },
        };
        match edit(&self.world.environment(), name, &what, true) {
            Ok(edited) if edited.has_changed => Ok(vec![format!("{} is committed", edited.file)]),
            Ok(edited) => Ok(vec![format!("{} said so already", edited.file)]),
            Err(error) => Ok(problem_lines(&error, &self.world)),
        }
    }

    fn plan(&self) -> Printed {
        use crate::execute::Clock as _;
        match plan(&self.world.environment(), &PlanOptions::default(), self.world.clock.now()) {
            Ok(planned) => {
                let findings = planned.findings.diagnostics.sorted().into_iter();
                let findings = findings.map(|found| format!("{} {}", found.code.0, found.detail));
                let changes = planned.plan.changes.iter();
                let changes = changes.map(|change| {
                    let told = (change.subject.to_string(), change.run.as_ref().map(ToString::to_string));
                    let devices = change.targets().map(|targets| targets.count);
                    change_line(change.action().symbol(), change.action().word(), told, devices, &change.reason)
                });
                Ok(changes.chain(findings).collect())
            }
            Err(error) => Ok(problem_lines(&error, &self.world)),
        }
    }

    fn apply(&mut self, faults: &Faults, options: &ApplyOptions) -> Printed {
        let mut said = Vec::new();
        let mut lock_at = self.lock_at.take();
        let (ended, _) = self.world.apply_as(faults, options, &mut |progress| {
            said.extend(progress_line(progress));
            if lock_at.is_some() && moment(progress) == lock_at {
                self.world.lock_branch();
                lock_at = None;
            }
        });
        self.lock_at = lock_at;
        if let (Some((side, step, occurrence)), false) = (&faults.crash_step, matches!(ended, Ended::Died(_))) {
            let side = word(*side);
            return Err(format!("the apply did not die {side} `{step}` number {occurrence}: it never came there"));
        }
        match ended {
            Ended::Applied(applied) if applied.was_empty => said.push("nothing to do".to_string()),
            Ended::Applied(applied) => {
                said.push(if applied.was_interrupted { "interrupted" } else { "applied" }.to_string());
                if let Some(refused) = &applied.refused {
                    said.extend(
                        refused.diagnostics.sorted().iter().map(|found| format!("{} {}", found.code.0, found.detail)),
                    );
                }
            }
            Ended::Refused(error) => said.extend(problem_lines(&error, &self.world)),
            Ended::Died(_) => {
                let (side, step, _) = faults.crash_step.as_ref().expect("nobody dies without a reason");
                said.push(format!("died {} `{step}`", word(*side)));
            }
            Ended::Watched { .. } => return Err("an apply is no daemon".to_string()),
            Ended::Panicked(what) => return Err(format!("it panicked: {what}")),
        }
        Ok(said)
    }

    fn executed(&self) -> Printed {
        let mut counts: BTreeMap<(String, String), BTreeMap<String, u64>> = BTreeMap::new();
        for execution in executions(&self.world.journal())? {
            let runs = counts.entry((execution.method, execution.device_id)).or_default();
            *runs.entry(execution.execution_id).or_default() += 1;
        }
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((method, device_id), runs) in counts {
            let twice = runs.values().filter(|times| **times > 1).count();
            let several = if runs.len() > 1 { format!(" in {} runs", runs.len()) } else { String::new() };
            let again = if twice > 0 { " MORE THAN ONCE IN A RUN" } else { "" };
            lines.entry(method).or_default().push(format!("{device_id}{several}{again}"));
        }
        if lines.is_empty() {
            return Ok(vec!["nothing".to_string()]);
        }
        Ok(lines.into_iter().map(|(method, devices)| format!("{method}: {}", devices.join(", "))).collect())
    }

    fn twin(&self, id: &str) -> Printed {
        let registry = self.world.registry().map_err(|error| error.to_string())?;
        let device = registry.devices().get(id).map_err(|error| error.to_string())?;
        let device = device.ok_or_else(|| format!("there is no device {id}"))?;
        Ok(vec![format!("desired {} tags {} cloud {}", device.desired, device.tags, device.cloud)])
    }
}

fn word(side: Side) -> &'static str {
    match side {
        Side::Before => "before",
        Side::After => "after",
    }
}

fn moment(progress: &Progress) -> Option<Moment> {
    match progress {
        Progress::ImportFinished { .. } => Some(Moment::Imported),
        Progress::RunClaimed { .. } => Some(Moment::Claimed),
        Progress::RunStarted { .. } => Some(Moment::Started),
        Progress::BatchFinished { .. } => Some(Moment::Batch),
        Progress::RunFinished { .. } => Some(Moment::Finished),
        Progress::BranchRepublished { .. }
        | Progress::RegistryPutBack { .. }
        | Progress::RenewsByCommits { .. }
        | Progress::LinkAway { .. }
        | Progress::LinkBack
        | Progress::StopSeen { .. }
        | Progress::Advanced { .. }
        | Progress::RunPaused { .. } => None,
    }
}

fn path(name: &str) -> String {
    format!("jobs/{name}.yaml")
}

fn head(name: &str) -> String {
    format!("apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\n")
}
