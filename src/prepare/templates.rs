//! Which devices a job does not fit, by their templates and what they are, and how that is told.

use std::collections::{BTreeMap, BTreeSet};

use super::preparation::{Preparation, devices_of};
use crate::diag::{Diagnostic, Span, code, shown};
use crate::manifest::Loaded;
use crate::model::fleet::{Declared, DeviceTemplate};
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::observation::{Mismatch, Strays};
use crate::template::{Template, Violation, violations};

/// Templates that a diagnostic names.
const TEMPLATES_SHOWN: usize = 3;
/// Violations that it tells for each of them.
const VIOLATIONS_SHOWN: usize = 3;

/// The declared device templates, read when the first job asks for them: most plans have nothing to run.
pub struct Templates<'a> {
    declared: &'a Declared,
    read: Option<BTreeMap<&'a Name, Template>>,
}

impl<'a> Templates<'a> {
    pub fn new(declared: &'a Declared) -> Templates<'a> {
        Templates { declared, read: None }
    }

    fn all(&mut self) -> &BTreeMap<&'a Name, Template> {
        let declared = self.declared;
        let all = || declared.templates.iter().map(|(name, document)| (name, template_of(document))).collect();
        self.read.get_or_insert_with(all)
    }

    /// Returns the names of the templates that a job does not fit. That no device has one of them is not looked at.
    pub fn mismatching(&mut self, job: &Job) -> BTreeSet<Name> {
        match &job.action {
            Action::Property(_) | Action::Twin { .. } | Action::CloudProperty(_) | Action::Command(_) => {}
            Action::Tags(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => return BTreeSet::new(),
        }
        let all = self.all().iter();
        all.filter(|(_, one)| !violations(one, &job.action).is_empty()).map(|(name, _)| (*name).clone()).collect()
    }

    /// Returns the desired properties that have a place in a declared template.
    pub fn desired_names(&mut self, template: &Name) -> BTreeSet<String> {
        let names = |template: &Template| template.desired_names().into_iter().map(str::to_string).collect();
        self.all().get(template).map_or_else(BTreeSet::new, names)
    }
}

fn template_of(document: &DeviceTemplate) -> Template {
    Template::of(document).expect("models were checked with the files")
}

/// Returns the names of the declared device templates that a job does not fit.
pub fn mismatching(declared: &Declared, job: &Job) -> BTreeSet<Name> {
    Templates::new(declared).mismatching(job)
}

/// Returns the diagnostic of a job that fits no device.
pub fn fits_none(
    job: &Name,
    count: u64,
    mismatched: &BTreeMap<Mismatch, u64>,
    preparation: &Preparation<'_>,
) -> Diagnostic {
    if needs_edge(job, preparation) {
        let none = if count == 1 {
            "its only device is no".to_string()
        } else {
            format!("none of its {} is an", devices_of(count))
        };
        let detail = format!("Job `{job}` assigns an edge manifest, and {none} IoT Edge device.");
        let span = preparation.loaded.spans.span(job, "/spec/action/edgeManifest");
        return Diagnostic::new(code::FITS_NO_TEMPLATE, span, detail).with_help(EDGE_HELP);
    }
    let (list, span) = explained(declared_job(job, preparation), mismatched, preparation);
    let detail = match count {
        1 => format!("Job `{job}` does not fit the template of its only device.{list}"),
        _ => format!("Job `{job}` fits the template of none of its {}.{list}", devices_of(count)),
    };
    let help = "Correct the action, or the target.".to_string();
    Diagnostic::new(code::FITS_NO_TEMPLATE, span, detail).with_help(help)
}

/// Returns the diagnostic of a schedule that does not fit some of the devices that it would select now.
pub fn schedule_fits_some(
    job: &Job,
    count: u64,
    mismatched: &BTreeMap<Mismatch, u64>,
    preparation: &Preparation<'_>,
) -> Diagnostic {
    let mismatches: u64 = mismatched.values().sum();
    let (list, span) = explained(job, mismatched, preparation);
    let (schedule, have) = (&job.name, if mismatches == 1 { "has" } else { "have" });
    let then = match mismatches == count {
        true => "an occurrence is refused",
        false => "an occurrence fails on them with template-mismatch",
    };
    let detail = format!(
        "{mismatches} of the {} that schedule `{schedule}` selects now {have} a template that it does not fit: \
         {then}.{list}",
        devices_of(count)
    );
    let help = "Correct the action, or the target.".to_string();
    Diagnostic::new(code::TEMPLATE_MISMATCH, span, detail).with_help(help)
}

fn declared_job<'a>(job: &Name, preparation: &Preparation<'a>) -> &'a Job {
    preparation.declared.jobs.get(job).expect("a plan runs declared jobs")
}

/// How a device becomes one that takes an edge manifest.
const EDGE_HELP: &str = "Import them with `\"capabilities\": {\"iotEdge\": true}` from a `.jsonl` file of IoT Hub's \
    form, or correct the target.";

fn needs_edge(job: &Name, preparation: &Preparation<'_>) -> bool {
    preparation.declared.jobs.get(job).is_some_and(|job| job.action.needs_edge())
}

/// Returns the diagnostic of a job that fits some of its devices.
pub fn fits_some(
    job: &Name,
    count: u64,
    mismatched: &BTreeMap<Mismatch, u64>,
    is_deferred: bool,
    preparation: &Preparation<'_>,
) -> Diagnostic {
    let mismatches: u64 = mismatched.values().sum();
    let is_one = mismatches == 1;
    let when = if is_deferred { " as of now" } else { "" };
    let (what, list, span) = if needs_edge(job, preparation) {
        let what = if is_one { "is no IoT Edge device" } else { "are no IoT Edge devices" };
        (what, String::new(), preparation.loaded.spans.span(job, "/spec/action/edgeManifest"))
    } else {
        let what = if is_one { "has a template that it does not fit" } else { "have a template that it does not fit" };
        let (list, span) = explained(declared_job(job, preparation), mismatched, preparation);
        (what, list, span)
    };
    let detail = format!(
        "{mismatches} of the {} of job `{job}` {what}{when}, and will fail with template-mismatch.{list}",
        devices_of(count)
    );
    let diagnostic = Diagnostic::new(code::TEMPLATE_MISMATCH, span, detail);
    diagnostic.with_help(match is_deferred {
        true => "It is judged again when the jobs before it have completed.",
        false if needs_edge(job, preparation) => "Narrow the target with `capabilities.iotEdge = true`.",
        false => "Narrow the target, or correct the action where it is meant for all.",
    })
}

/// Returns what keeps a job from some templates, a template a line, and where the first of it stands.
fn explained(job: &Job, mismatched: &BTreeMap<Mismatch, u64>, preparation: &Preparation<'_>) -> (String, Option<Span>) {
    let declared = preparation.declared;
    let template = |(mismatch, devices): (&'_ Mismatch, &u64)| match mismatch {
        Mismatch::Template(name) => Some((name.clone(), *devices)),
        Mismatch::NotEdge => None,
    };
    let mut by_count: Vec<(Name, u64)> = mismatched.iter().filter_map(template).collect();
    by_count.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    let (mut list, mut span) = (String::new(), None);
    for (name, devices) in by_count.iter().take(TEMPLATES_SHOWN) {
        let Some(document) = declared.templates.get(name) else { continue };
        let found = violations(&template_of(document), &job.action);
        let shown: Vec<&str> = found.iter().take(VIOLATIONS_SHOWN).map(|one| one.message.as_str()).collect();
        let more = found.len() - shown.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        list.push_str(&format!("\n  template `{name}`, {}: {}{more}", devices_of(*devices), shown.join("; ")));
        span = span.or_else(|| found.first().and_then(|first| span_of(job, first, preparation.loaded)));
    }
    let more = by_count.len().saturating_sub(TEMPLATES_SHOWN);
    if more > 0 {
        list.push_str(&format!("\n  and {more} more templates"));
    }
    let anywhere = || preparation.loaded.spans.span(&job.name, "/spec/action");
    (list, span.or_else(anywhere))
}

fn span_of(job: &Job, violation: &Violation, loaded: &Loaded) -> Option<Span> {
    let pointer = format!("/spec/action/{}{}", job.action.templated_place(), violation.pointer);
    match violation.is_key {
        true => loaded.spans.key_span(&job.name, &pointer),
        false => loaded.spans.span(&job.name, &pointer),
    }
}

/// Returns the diagnostic of a job that moves devices to a template which has no place for what they have.
pub fn strays(job: &Name, template: &Name, strays: &Strays, loaded: &Loaded) -> Diagnostic {
    let name = |(name, devices): &(String, u64)| format!("`{}` ({})", shown(name), devices_of(*devices));
    let names: Vec<String> = strays.names.iter().map(name).collect();
    let more = if strays.more > 0 { format!(" and {} more", strays.more) } else { String::new() };
    let detail = format!(
        "Job `{job}` moves devices to the template `{template}`, which has no place for desired properties that they \
            have: \
         {}{more}. They stay in the twins.",
        names.join(", ")
    );
    let help = "Add them to the model of the template, or remove them with a property job that sets them to `null`.";
    let span = loaded.spans.span(job, "/spec/action/deviceTemplate");
    Diagnostic::new(code::STRAY_PROPERTIES, span, detail).with_help(help)
}
