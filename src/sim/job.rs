//! Jobs as simulated people declare them.

use std::collections::BTreeSet;

use super::Random;
use crate::model::delivery::{Amount, BatchSizes, Delivery, Threshold, ThresholdScope};

/// What a job does. Each job writes its own path or calls its own method, so that the effects of jobs can be told
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    Property,
    Acknowledged,
    Tags,
    /// Tags and desired properties at once.
    Twin,
    Cloud,
    Command {
        idempotent: bool,
    },
}

/// The target of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    All,
    /// Devices whose tag `parity` is `even`.
    Even,
    /// The first so many devices, by name.
    Listed(u64),
}

impl Target {
    /// Returns the ids in a fleet of so many devices.
    pub fn ids(&self, devices: u64) -> BTreeSet<String> {
        let is_meant = |n: &u64| match self {
            Target::All => true,
            Target::Even => n.is_multiple_of(2),
            Target::Listed(count) => n <= count,
        };
        (1..=devices).filter(is_meant).map(device_id).collect()
    }
}

/// A job as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredJob {
    pub name: String,
    /// The path that it writes or the method that it calls: its first name.
    pub label: String,
    /// Its former names, the last one first.
    pub former_names: Vec<String>,
    /// Its file lists all former names, not only the last one.
    pub lists_all: bool,
    pub kind: JobKind,
    pub run: u64,
    pub suspend: bool,
    pub target: Target,
    pub after: Option<String>,
    pub batch_size: Option<Amount>,
    pub canary: Option<u64>,
    pub threshold: Option<Threshold>,
    /// Attempts after the first.
    pub retries: u64,
    pub waits_online: bool,
    /// Hours after which a device that did not come online is given up.
    pub expires_after: u64,
    /// Minutes; `None` for no limit.
    pub max_execution: Option<u64>,
    /// The layout of the file, which has no meaning.
    pub layout: u64,
}

impl DeclaredJob {
    /// Returns a job with nothing special about it.
    pub fn new(name: &str, kind: JobKind) -> DeclaredJob {
        DeclaredJob {
            name: name.to_string(),
            label: name.to_string(),
            former_names: Vec::new(),
            lists_all: false,
            kind,
            run: 1,
            suspend: false,
            target: Target::All,
            after: None,
            batch_size: None,
            canary: None,
            threshold: None,
            retries: 0,
            waits_online: false,
            expires_after: 2,
            max_execution: None,
            layout: 0,
        }
    }

    /// Returns the path of its file.
    pub fn path(&self) -> String {
        format!("jobs/{}.yaml", self.name)
    }

    /// Returns the sizes of its batches, of so many devices.
    pub fn batch_sizes(&self, total: u64) -> BatchSizes {
        Delivery { batch_size: self.batch_size, canary: self.canary, ..Delivery::default() }.batch_sizes(total)
    }

    /// Returns true for a name that it has or had.
    pub fn had_name(&self, name: &str) -> bool {
        self.name == name || self.former_names.iter().any(|former| former == name)
    }

    /// Returns the value that a run of it writes: its number.
    pub fn value(&self) -> u64 {
        self.run
    }

    /// Returns the fields for the target and the action.
    pub(super) fn work(&self) -> [String; 2] {
        let (name, value) = (&self.label, self.value());
        let action = match self.kind {
            JobKind::Property | JobKind::Acknowledged => format!("{{property: {{{name}: {value}}}}}"),
            JobKind::Tags => format!("{{tags: {{{name}: {value}}}}}"),
            JobKind::Twin => format!("{{twin: {{tags: {{{name}: {value}}}, property: {{{name}: {value}}}}}}}"),
            JobKind::Cloud => format!("{{cloudProperty: {{{name}: {value}}}}}"),
            JobKind::Command { idempotent } => format!(
                "{{command: {{name: {name}, idempotent: {idempotent}, connectTimeout: 5s, responseTimeout: 10s}}}}"
            ),
        };
        let target = match &self.target {
            Target::All => "{query: '*'}".to_string(),
            Target::Even => "{query: \"tags.parity = 'even'\"}".to_string(),
            Target::Listed(count) => {
                format!("{{devices: [{}]}}", (1..=*count).map(device_id).collect::<Vec<_>>().join(", "))
            }
        };
        [format!("target: {target}"), format!("action: {action}")]
    }

    /// Returns the text of its file.
    pub fn text(&self) -> String {
        let (name, run) = (&self.name, self.run);
        let mut fields = vec![format!("run: \"{run}\"")];
        fields.extend(self.work());
        if self.suspend {
            fields.push("suspend: true".to_string());
        }
        if let Some(after) = &self.after {
            fields.push(format!("after: [{after}]"));
        }
        fields.push(format!("delivery: {{{}}}", self.delivery().join(", ")));
        let note = if self.layout % 2 == 1 { "# somebody tidied this file\n" } else { "" };
        if self.layout % 3 == 1 {
            fields.reverse();
        }
        let spec = if self.layout % 3 == 2 {
            format!("\n  {}", fields.join("\n  "))
        } else {
            format!(" {{{}}}", fields.join(", "))
        };
        let listed = if self.lists_all { self.former_names.len() } else { 1 };
        let listed: Vec<&str> = self.former_names.iter().take(listed).map(String::as_str).collect();
        let previous = match listed.as_slice() {
            [] => String::new(),
            [one] => format!(", previousName: {one}"),
            several => format!(", previousName: [{}]", several.join(", ")),
        };
        format!("{note}apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}{previous}}}\nspec:{spec}\n")
    }

    pub(super) fn delivery(&self) -> Vec<String> {
        let mut fields = vec![format!("expiresAfter: {}h", self.expires_after)];
        if self.kind == JobKind::Acknowledged {
            fields.push("confirm: acknowledged".to_string());
        }
        if let Some(size) = self.batch_size {
            fields.push(format!("batchSize: {size}"));
        }
        if let Some(canary) = self.canary {
            fields.push(format!("canary: {canary}"));
        }
        if let Some(threshold) = self.threshold {
            let per = match threshold.per {
                ThresholdScope::Job => "job",
                ThresholdScope::Batch => "batch",
            };
            fields.push(format!("cancellationThreshold: {{failures: {}, per: {per}}}", threshold.failures));
        }
        if self.retries > 0 {
            fields.push(format!("retry: {{attempts: {}, backoff: 2s}}", self.retries));
        }
        if self.waits_online {
            fields.push("offline: wait".to_string());
        }
        if let Some(minutes) = self.max_execution {
            fields.push(format!("maxExecutionTime: {minutes}m"));
        }
        fields
    }
}

/// Returns a job of any kind that comes after no other.
pub(super) fn random_job(name: &str, devices: u64, random: &mut Random) -> DeclaredJob {
    let kinds = [
        JobKind::Property,
        JobKind::Acknowledged,
        JobKind::Tags,
        JobKind::Twin,
        JobKind::Cloud,
        JobKind::Command { idempotent: false },
        JobKind::Command { idempotent: false },
        JobKind::Command { idempotent: true },
        JobKind::Command { idempotent: true },
    ];
    let mut job = DeclaredJob::new(name, *random.pick(&kinds));
    let amount = |random: &mut Random, most: u64| {
        if random.chance(50) {
            Amount::Count(random.between(1, most))
        } else {
            Amount::Percent(random.between(1, 60) as u8)
        }
    };
    job.target = match random.between(0, 3) {
        0 => Target::Even,
        1 => Target::Listed(random.between(1, devices)),
        _ => Target::All,
    };
    if random.chance(70) {
        job.batch_size = Some(amount(random, 12));
    }
    if random.chance(25) {
        job.canary = Some(random.between(1, 5));
    }
    if random.chance(50) {
        let per = *random.pick(&[ThresholdScope::Job, ThresholdScope::Batch]);
        let failures = if random.chance(20) { Amount::Count(0) } else { amount(random, 6) };
        job.threshold = Some(Threshold { failures, per });
    }
    job.retries = random.between(0, 4).saturating_sub(2);
    job.waits_online = random.chance(30);
    job.max_execution = random.chance(15).then(|| random.between(1, 30));
    job
}

/// Returns the id of a device, counted from 1.
pub(super) fn device_id(number: u64) -> String {
    format!("d-{number:03}")
}
