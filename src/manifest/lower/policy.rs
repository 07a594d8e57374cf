//! The Policy document.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::schedule::{wall_clock, weekday_of};
use super::{Draft, Lowering};
use crate::diag::{code, shown};
use crate::manifest::v1;
use crate::model::delivery::Amount;
use crate::model::fleet::Removed;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::policy::{
    Freeze, FreezeTime, PathPattern, Policy, PolicyForbid, PolicyLimits, PolicyRequire, PolicyScope,
};

impl Lowering<'_> {
    pub(super) fn policy(&mut self, name: Name, spec: v1::PolicySpec) -> Draft {
        let v1::PolicySpec { applies_to, limits, require, forbid, freeze } = spec;
        let (mut freezes, mut zoneless) = (Vec::new(), Vec::new());
        for (at, freeze) in freeze.into_iter().enumerate() {
            let has_time_zone = freeze.time_zone.is_some();
            if let Some(freeze) = self.freeze(freeze, &format!("/spec/freeze/{at}")) {
                if !has_time_zone {
                    zoneless.push(freezes.len());
                }
                freezes.push(freeze);
            }
        }
        let policy = Policy {
            name,
            scope: self.scope(applies_to.unwrap_or_default()),
            limits: self.policy_limits(limits.unwrap_or_default()),
            require: self.policy_require(require.unwrap_or_default()),
            forbid: self.forbid(forbid.unwrap_or_default()),
            freezes,
            file: self.path.to_string(),
        };
        let has_rule = policy.limits != PolicyLimits::default()
            || policy.require != PolicyRequire::default()
            || policy.forbid != PolicyForbid::default()
            || !policy.freezes.is_empty();
        if !has_rule {
            let detail = "This policy has no rule, so it allows everything.";
            self.report(code::NO_EFFECT, "/spec", detail);
        }
        Draft::Policy { policy: Box::new(policy), zoneless }
    }

    fn scope(&mut self, scope: v1::AppliesTo) -> PolicyScope {
        let v1::AppliesTo { organizations, kinds } = scope;
        for (field, is_empty) in [
            ("organizations", organizations.as_ref().is_some_and(Vec::is_empty)),
            ("kinds", kinds.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                let detail = "The list is empty, so the policy would apply to nothing. Leave the field out for all.";
                self.report(code::POLICY_RULE, &format!("/spec/appliesTo/{field}"), detail);
            }
        }
        let organizations = organizations.unwrap_or_default();
        for (at, text) in organizations.iter().enumerate() {
            self.reference(Kind::Organization, &text.0, format!("/spec/appliesTo/organizations/{at}"));
        }
        let kinds = kinds.unwrap_or_default().into_iter().map(|kind| match kind {
            v1::JudgedKind::Job => Kind::Job,
            v1::JudgedKind::Schedule => Kind::Schedule,
            v1::JudgedKind::DeviceImport => Kind::DeviceImport,
        });
        PolicyScope { organizations: organizations.into_iter().map(|text| text.0).collect(), kinds: kinds.collect() }
    }

    fn policy_limits(&mut self, limits: v1::PolicyLimits) -> PolicyLimits {
        let v1::PolicyLimits { devices_per_job, devices_per_day, removals_per_import, running_jobs } = limits;
        PolicyLimits {
            devices_per_job: self.limit(devices_per_job.as_ref(), "/spec/limits/devicesPerJob"),
            devices_per_day: self.limit(devices_per_day.as_ref(), "/spec/limits/devicesPerDay"),
            removals_per_import: self.limit(removals_per_import.as_ref(), "/spec/limits/removalsPerImport"),
            running_jobs: running_jobs.map(|number| self.range(number, 1, 1_000, "/spec/limits/runningJobs")),
        }
    }

    fn policy_require(&mut self, require: v1::PolicyRequire) -> PolicyRequire {
        let v1::PolicyRequire { expect, canary, cancellation_threshold, batch_size } = require;
        if canary == Some(0) {
            self.report(code::POLICY_RULE, "/spec/require/canary", "A first batch has at least one device.");
        }
        let batch_size = self.limit(batch_size.as_ref(), "/spec/require/batchSize");
        if matches!(batch_size, Some(Amount::Count(0) | Amount::Percent(0))) {
            self.report(code::POLICY_RULE, "/spec/require/batchSize", "A batch has at least one device.");
        }
        PolicyRequire {
            expect,
            canary,
            threshold: self.limit(cancellation_threshold.as_ref(), "/spec/require/cancellationThreshold"),
            batch_size,
        }
    }

    fn limit(&mut self, amount: Option<&v1::AmountText>, pointer: &str) -> Option<Amount> {
        self.amount(amount?, pointer)
    }

    fn forbid(&mut self, forbid: v1::PolicyForbid) -> PolicyForbid {
        let v1::PolicyForbid { properties, tags, commands, actions, removed } = forbid;
        for (at, command) in commands.iter().enumerate() {
            if command.trim().is_empty() {
                let detail = "An empty text is the name of no command.";
                self.report(code::POLICY_RULE, &format!("/spec/forbid/commands/{at}"), detail);
            }
        }
        for (at, word) in removed.iter().enumerate() {
            if matches!(word, v1::Removed::Keep) {
                let detail = "`keep` removes nothing, so there is nothing to forbid. Write `block` or `delete`.";
                self.report(code::POLICY_RULE, &format!("/spec/forbid/removed/{at}"), detail);
            }
        }
        PolicyForbid {
            properties: self.patterns(&properties, "/spec/forbid/properties"),
            tags: self.patterns(&tags, "/spec/forbid/tags"),
            commands,
            actions: actions.into_iter().map(|word| action_word(word).to_string()).collect(),
            removed: removed.into_iter().map(|word| removed_word(word).to_string()).collect(),
        }
    }

    fn patterns(&mut self, texts: &[String], pointer: &str) -> Vec<PathPattern> {
        let mut patterns = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let written = text.strip_prefix("properties.desired.").unwrap_or(text);
            if written != text {
                let detail = format!("The path begins below the section: write `{}`.", shown(written));
                self.report(code::POLICY_RULE, &format!("{pointer}/{at}"), detail);
            }
            match PathPattern::parse(text) {
                Some(pattern) => patterns.push(pattern),
                None => {
                    let detail = format!(
                        "`{}` is not a path: its parts have a dot between them, and none is empty.",
                        shown(text)
                    );
                    self.report(code::POLICY_RULE, &format!("{pointer}/{at}"), detail);
                }
            }
        }
        patterns
    }

    fn freeze(&mut self, freeze: v1::Freeze, pointer: &str) -> Option<Freeze> {
        let v1::Freeze { from, until, weekdays, time_zone, reason } = freeze;
        let time_zone = match time_zone {
            Some(name) => self.time_zone(&name, &format!("{pointer}/timeZone")).0,
            // The fleet's time zone is filled in when all documents have been read.
            None => TimeZone::UTC,
        };
        let when = match (from, until, weekdays) {
            (Some(from), Some(until), None) => {
                let from = self.frozen_time(&from.0, &format!("{pointer}/from"));
                let until = self.frozen_time(&until.0, &format!("{pointer}/until"));
                let (from, until) = (from?, until?);
                if until <= from {
                    let detail = "The freeze ends before it begins, so it would never hold anything.";
                    self.report(code::POLICY_RULE, &format!("{pointer}/until"), detail);
                    return None;
                }
                FreezeTime::Between(from, until)
            }
            (None, None, Some(weekdays)) => {
                let when = FreezeTime::on(weekdays.into_iter().map(weekday_of));
                let FreezeTime::Weekdays(days) = &when else { return None };
                if days.is_empty() || days.len() == 7 {
                    let detail = "A freeze is on one to six days of the week: on all seven, nothing would ever start.";
                    self.report(code::POLICY_RULE, &format!("{pointer}/weekdays"), detail);
                    return None;
                }
                when
            }
            _ => {
                let detail = "A freeze has `from` and `until`, or `weekdays`.";
                self.report(code::POLICY_RULE, pointer, detail);
                return None;
            }
        };
        Some(Freeze { when, time_zone, reason: reason.unwrap_or_default() })
    }

    fn frozen_time(&mut self, text: &str, pointer: &str) -> Option<DateTime> {
        let found = wall_clock(text).ok();
        if found.is_none() {
            let detail = format!(
                "`{}` is not what a clock on the wall shows. Write it without an offset, as `2026-12-20T00:00:00`.",
                shown(text)
            );
            self.report(code::POLICY_RULE, pointer, detail);
        }
        found
    }
}

fn removed_word(word: v1::Removed) -> &'static str {
    match word {
        v1::Removed::Keep => Removed::Keep.as_str(),
        v1::Removed::Block => Removed::Block.as_str(),
        v1::Removed::Delete => Removed::Delete.as_str(),
    }
}

pub(super) fn action_word(word: v1::ActionWord) -> &'static str {
    match word {
        v1::ActionWord::Property => "property",
        v1::ActionWord::CloudProperty => "cloudProperty",
        v1::ActionWord::Tags => "tags",
        v1::ActionWord::Twin => "twin",
        v1::ActionWord::Command => "command",
        v1::ActionWord::DeviceTemplate => "deviceTemplate",
        v1::ActionWord::EdgeManifest => "edgeManifest",
    }
}
