//! The metrics page: a snapshot as OpenMetrics, or as the older text of Prometheus unless the client asks for
//! OpenMetrics.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: `fleetform_…` and a unit at the end; those of the
//! process have the names that every client library gives them. Series are made from the snapshot at each scrape, in
//! one order, and every status and reason is there from the start: a rate needs the zero before the one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::process::Process;
use crate::model::outcome::{DeviceStatus, Reason, RunStatus};
use crate::model::status::{Attempts, LinkStatus, RunningRun, Snapshot};

/// How the page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Text,
}

impl Form {
    /// Returns the form for an `Accept` header: the older one unless OpenMetrics is named.
    pub fn accepted(accept: &str) -> Form {
        if accept.contains("application/openmetrics-text") { Form::OpenMetrics } else { Form::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Returns the page.
///
/// # Errors
/// None that a snapshot can cause: a String takes what is written to it.
pub fn page(snapshot: Snapshot, heartbeat_age: Duration, form: Form) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { snapshot, heartbeat_age, process: Process::read() }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(match form {
        Form::OpenMetrics => page,
        Form::Text => to_text(&page),
    })
}

/// Returns OpenMetrics as the older text: there a counter's family has the `_total` of its series, and a unit is only
/// in the name.
fn to_text(page: &str) -> String {
    let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_string());
    let counters: Vec<String> = page.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.iter().any(|counter| counter == name) => {
                text.push_str(&format!("# {keyword} {name}_total {rest}\n"));
            }
            _ => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// What one scrape shows.
#[derive(Debug)]
struct Page {
    snapshot: Snapshot,
    heartbeat_age: Duration,
    process: Process,
}

/// Labels of a series, in the order in which they are written.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families, one after the other.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    /// Writes a family of gauges; none at all when it has no series. A series without labels is the only one of its
    /// family.
    fn gauges(&mut self, about: About, series: Vec<(Labels<'_>, f64)>) -> fmt::Result {
        let series = series.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.write(about, series.collect())
    }

    /// Writes a family of counters.
    fn counters(&mut self, about: About, series: Vec<(Labels<'_>, u64)>) -> fmt::Result {
        let series = series.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.write(about, series.collect())
    }

    fn write<M: EncodeMetric>(&mut self, about: About, series: Vec<(Labels<'_>, M)>) -> fmt::Result {
        let Some((labels, first)) = series.first() else { return Ok(()) };
        let About { name, help, unit } = about;
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), first.metric_type())?;
        if labels.is_empty() {
            return first.encode(family);
        }
        for (labels, metric) in &series {
            metric.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// A family. The unit is added to the name.
struct About {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

fn about(name: &'static str, help: &'static str) -> About {
    About { name, help, unit: None }
}

fn seconds(name: &'static str, help: &'static str) -> About {
    About { name, help, unit: Some(Unit::Seconds) }
}

/// One series without labels, or none.
fn alone(value: Option<f64>) -> Vec<(Labels<'static>, f64)> {
    value.map(|value| (Labels::new(), value)).into_iter().collect()
}

fn unix(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

fn number(count: u64) -> f64 {
    count as f64
}

fn results(attempts: Attempts) -> Vec<(Labels<'static>, u64)> {
    let Attempts { ok, failed } = attempts;
    vec![(vec![("result", "ok")], ok), (vec![("result", "failed")], failed)]
}

fn by_word<'a>(
    label: &'static str,
    words: impl Iterator<Item = &'static str>,
    counts: &'a BTreeMap<String, u64>,
) -> Vec<(Labels<'a>, u64)> {
    words.map(|word| (vec![(label, word)], counts.get(word).copied().unwrap_or(0))).collect()
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.health(&mut families)?;
        self.attempts(&mut families)?;
        self.work(&mut families)?;
        self.link(&mut families)?;
        self.process(&mut families)
    }
}

impl Page {
    fn health(&self, families: &mut Families<'_>) -> fmt::Result {
        let (snapshot, ready) = (&self.snapshot, self.snapshot.unready().is_empty());
        let build = vec![("version", snapshot.version.as_str()), ("fleet", snapshot.fleet.as_str())];
        families.gauges(
            about("fleetform_build_info", "The version of fleetform and the fleet, as labels"),
            vec![(build, 1.0)],
        )?;
        let help = "1 when the daemon has fetched and reconciled and all of it still works, else 0";
        families.gauges(about("fleetform_ready", help), alone(Some(number(ready.into()))))?;
        let age = self.heartbeat_age.as_secs_f64();
        families.gauges(
            seconds("fleetform_heartbeat_age", "The time since the daemon's loop last gave a sign of life"),
            alone(Some(age)),
        )?;
        for (name, help, time) in [
            ("fleetform_last_fetch_timestamp", "When the source was last fetched, Unix time", snapshot.last_fetch_at),
            (
                "fleetform_last_reconcile_timestamp",
                "When a reconcile last succeeded, Unix time",
                snapshot.last_reconcile_at,
            ),
            ("fleetform_last_push_timestamp", "When results were last pushed, Unix time", snapshot.outbox.last_push_at),
        ] {
            families.gauges(seconds(name, help), alone(time.map(unix)))?;
        }
        Ok(())
    }

    fn attempts(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.snapshot.counters;
        families.counters(about("fleetform_fetches", "Attempts to fetch the source"), results(counters.fetches))?;
        families.counters(about("fleetform_reconciles", "Reconciles"), results(counters.reconciles))?;
        families.counters(about("fleetform_pushes", "Attempts to push results"), results(counters.pushes))?;
        let webhooks = &counters.webhooks;
        let calls = [
            ("accepted", webhooks.accepted),
            ("limited", webhooks.limited),
            ("pinged", webhooks.pinged),
            ("refused", webhooks.refused),
        ];
        let calls = calls.map(|(word, count)| (vec![("result", word)], count)).to_vec();
        families.counters(about("fleetform_webhooks", "Calls of webhooks"), calls)
    }

    fn work(&self, families: &mut Families<'_>) -> fmt::Result {
        let Snapshot { counters, running, outbox, lease, next_due, held_count, .. } = &self.snapshot;
        let statuses =
            RunStatus::ALL.into_iter().filter(|status| !matches!(status, RunStatus::Pending | RunStatus::Running));
        let runs = by_word("status", statuses.map(RunStatus::as_str), &counters.runs);
        families.counters(about("fleetform_runs_finished", "Runs that ended or were stopped"), runs)?;
        let help = "Occurrences of schedules that could not start on time and did not run";
        families.counters(about("fleetform_occurrences_missed", help), vec![(Labels::new(), counters.missed)])?;
        let reasons = Reason::ALL.into_iter().filter(|reason| reason.status() != DeviceStatus::Pending);
        let devices = by_word("reason", reasons.map(Reason::as_str), &counters.devices);
        families.counters(about("fleetform_devices_finished", "Devices that ended in a run"), devices)?;
        families
            .gauges(about("fleetform_running_runs", "Runs that are going on"), alone(Some(running.len() as f64)))?;
        let of_job = |(job, [completed, failed, pending]): (_, [u64; 3])| {
            [("completed", completed), ("failed", failed), ("pending", pending)]
                .map(|(word, count)| (vec![("job", job), ("status", word)], number(count)))
        };
        let devices = devices_of_jobs(running).into_iter().flat_map(of_job).collect();
        families.gauges(about("fleetform_running_devices", "Devices of the runs that are going on"), devices)?;
        families.gauges(
            about("fleetform_held_documents", "Documents that are not acted on"),
            alone(Some(number(*held_count))),
        )?;
        let due = next_due.iter().map(|due| (vec![("schedule", due.schedule.as_str())], unix(due.at))).collect();
        families.gauges(seconds("fleetform_schedule_next_timestamp", "When a schedule is due next, Unix time"), due)?;
        families.gauges(
            about("fleetform_outbox_commits", "Commits that wait to be pushed"),
            alone(Some(number(outbox.waiting))),
        )?;
        let help = "1 while the remote refuses results and no new run is claimed, else 0";
        families.gauges(about("fleetform_push_denied", help), alone(Some(number(outbox.denied.into()))))?;
        let until = lease.as_ref().map(|lease| unix(lease.until));
        families.gauges(
            seconds("fleetform_lease_until_timestamp", "Until when this fleet's jobs are run by one daemon, Unix time"),
            alone(until),
        )
    }

    /// The way to the devices, when there are connections.
    fn link(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(link) = &self.snapshot.link else { return Ok(()) };
        let LinkStatus { connected, connections, fault: _, online, malformed, refused, telemetry, telemetry_lost } =
            link;
        let help = "Connections to the broker that are up";
        families.gauges(about("fleetform_link_connected", help), alone(Some(number(*connected))))?;
        let help = "Connections to the broker that are wanted";
        families.gauges(about("fleetform_link_connections", help), alone(Some(number(*connections))))?;
        let help = "Devices that are online, as they or the broker said last";
        families.gauges(about("fleetform_link_online_devices", help), alone(Some(number(*online))))?;
        let refusals = vec![(vec![("cause", "malformed")], *malformed), (vec![("cause", "refused")], *refused)];
        families.counters(about("fleetform_link_refusals", "Messages of devices that nothing came of"), refusals)?;
        let help = "Messages of telemetry that devices have sent to the gateway";
        families.counters(about("fleetform_link_telemetry", help), vec![(Vec::new(), *telemetry)])?;
        let help = "Messages of telemetry that were to be passed on and were dropped";
        families.counters(about("fleetform_link_telemetry_lost", help), vec![(Vec::new(), *telemetry_lost)])
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let Process { open_fds, max_fds, resident_bytes } = self.process;
        let started = seconds("process_start_time", "When the process started, Unix time");
        families.gauges(started, alone(Some(unix(self.snapshot.started_at))))?;
        families.gauges(about("process_open_fds", "Open file descriptors"), alone(open_fds.map(number)))?;
        families.gauges(
            about("process_max_fds", "The most file descriptors that may be open"),
            alone(max_fds.map(number)),
        )?;
        let memory = About { name: "process_resident_memory", help: "Memory in use", unit: Some(Unit::Bytes) };
        families.gauges(memory, alone(resident_bytes.map(number)))
    }
}

/// Returns the completed, failed and pending devices of each job that runs. The run is not a label: every run has a new
/// token, and its series would stay in the monitor.
fn devices_of_jobs(running: &[RunningRun]) -> BTreeMap<&str, [u64; 3]> {
    let mut jobs: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for run in running {
        let RunningRun { job, run: _, total: _, completed, failed, pending } = run;
        let counts = jobs.entry(job).or_default();
        for (sum, count) in counts.iter_mut().zip([completed, failed, pending]) {
            *sum += count;
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::{Due, Lease};

    fn snapshot() -> Snapshot {
        let at = |second: i64| Timestamp::from_millisecond(1_800_000_000_500 + second * 1_000).unwrap();
        let mut snapshot = Snapshot::new("0.1.0", "ac\"me\\\n", at(0));
        snapshot.fetched(at(1), None);
        snapshot.fetched(at(2), Some("no route".to_string()));
        snapshot.count_run(RunStatus::Completed);
        snapshot.count_devices(Reason::Timeout, 7);
        snapshot.counters.missed = 3;
        let run = |run: &str| RunningRun {
            job: "dim".to_string(),
            run: run.to_string(),
            total: 10,
            completed: 3,
            failed: 1,
            pending: 6,
        };
        snapshot.running = vec![run("1"), run("2")];
        snapshot.set_next_due(vec![Due { at: at(60), schedule: "nightly".to_string() }]);
        snapshot.lease = Some(Lease { owner: "host".to_string(), epoch: 1, until: at(90) });
        snapshot
    }

    fn page_of(form: Form) -> String {
        let mut registry = Registry::default();
        let process = Process { open_fds: Some(9), max_fds: None, resident_bytes: Some(4096) };
        let page = Page { snapshot: snapshot(), heartbeat_age: Duration::from_millis(250), process };
        registry.register_collector(Box::new(page));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        if form == Form::Text { to_text(&page) } else { page }
    }

    #[test]
    fn the_page_in_the_older_text() {
        insta::assert_snapshot!(page_of(Form::Text));
    }

    #[test]
    fn openmetrics_has_units_and_an_end() {
        let page = page_of(Form::OpenMetrics);
        assert!(page.ends_with("# EOF\n"), "{page}");
        for line in [
            "# TYPE fleetform_fetches counter",
            "fleetform_fetches_total{result=\"failed\"} 1",
            "# UNIT process_resident_memory_bytes bytes",
            "process_resident_memory_bytes 4096.0",
            "# UNIT fleetform_last_fetch_timestamp_seconds seconds",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }

    #[test]
    fn the_form_is_what_the_scraper_accepts() {
        let check = |accept: &str, expect: Form| assert_eq!(Form::accepted(accept), expect, "{accept}");
        check(
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            Form::OpenMetrics,
        );
        check("text/plain;version=0.0.4", Form::Text);
        check("*/*", Form::Text);
        check("", Form::Text);
    }
}
