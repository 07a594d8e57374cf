//! The cancellation threshold: strictly above cancels, nothing starts after the crossing, every device is counted once.
//!
//! The whole table is driven through the front door of the rollout machine in virtual time, and a smaller one end to
//! end. The expected outcome is computed here from the contract, `100 * f > p * n` or `f > t`, never with the product's
//! code.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetform::model::delivery::{Amount, Delivery, Threshold, ThresholdScope};
use fleetform::model::outcome::{DeviceStatus, Reason, RunStatus};
use fleetform::rollout::{Effect, Event, Rollout, RolloutSpec, WorkKind};
use jiff::Timestamp;

use crate::world::World;

/// The way in which a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    /// It answers 500.
    Refuses,
    /// It is connected and never answers.
    IsSilent,
    IsOffline,
    IsBlocked,
}

const FAILING: [Failing; 4] = [Failing::Refuses, Failing::IsSilent, Failing::IsOffline, Failing::IsBlocked];

/// Which devices fail.
#[derive(Debug, Clone, Copy)]
enum Position {
    None,
    All,
    First,
    Last,
    EveryThird,
}

const POSITIONS: [Position; 5] = [Position::None, Position::All, Position::First, Position::Last, Position::EveryThird];

impl Position {
    fn contains(self, ordinal: u32, total: u32) -> bool {
        match self {
            Position::None => false,
            Position::All => true,
            Position::First => ordinal == 0,
            Position::Last => ordinal + 1 == total,
            Position::EveryThird => ordinal % 3 == 2,
        }
    }
}

const LIMITS: [Amount; 5] =
    [Amount::Count(0), Amount::Count(1), Amount::Percent(33), Amount::Percent(99), Amount::Percent(100)];
const SCOPES: [ThresholdScope; 2] = [ThresholdScope::Job, ThresholdScope::Batch];
const BATCHES: [Option<Amount>; 4] = [None, Some(Amount::Count(1)), Some(Amount::Count(3)), Some(Amount::Percent(10))];

#[derive(Debug, Clone, Copy)]
struct Case {
    total: u32,
    limit: Amount,
    per: ThresholdScope,
    batch: Option<Amount>,
    position: Position,
    failing: Failing,
}

impl Case {
    fn fails(&self, ordinal: u32) -> bool {
        self.position.contains(ordinal, self.total)
    }

    /// A percentage of the devices is rounded up, at least 1.
    fn batch_size(&self) -> u32 {
        match self.batch {
            None => self.total,
            Some(Amount::Count(count)) => u32::try_from(count).unwrap(),
            Some(Amount::Percent(percent)) => (1..).find(|size| size * 100 >= u32::from(percent) * self.total).unwrap(),
        }
    }

    /// Failures and devices of the scope that a device is in.
    fn is_crossed(&self, failed: u64, total: u64) -> bool {
        match self.limit {
            Amount::Count(limit) => failed > limit,
            Amount::Percent(percent) => 100 * failed > u64::from(percent) * total,
        }
    }

    /// The devices of each scope, in order.
    fn scopes(&self) -> Vec<std::ops::Range<u32>> {
        match self.per {
            ThresholdScope::Job => std::iter::once(0..self.total).collect(),
            ThresholdScope::Batch => {
                let size = self.batch_size();
                (0..self.total).step_by(size as usize).map(|at| at..(at + size).min(self.total)).collect()
            }
        }
    }

    /// True when the devices that are marked in `failed` cross the threshold of some scope.
    fn crosses(&self, failed: impl Fn(u32) -> bool) -> bool {
        self.scopes().into_iter().any(|scope| {
            let total = u64::from(scope.end - scope.start);
            self.is_crossed(scope.filter(|ordinal| failed(*ordinal)).count() as u64, total)
        })
    }
}

/// Every case of the table. All kinds of failing devices (blocked, refusing and so on) count alike, so each kind gets
/// its share of positions.
fn cases(totals: &[u32]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &total in totals {
        for limit in LIMITS {
            for per in SCOPES {
                for batch in BATCHES {
                    for position in POSITIONS {
                        for failing in FAILING {
                            cases.push(Case { total, limit, per, batch, position, failing });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// The smallest driver there is: performs effects in virtual time and writes down what it sees.
struct Driver<'a> {
    case: &'a Case,
    machine: Rollout,
    now: Timestamp,
    /// What happens, by time and then by order of asking.
    queue: BTreeMap<(Timestamp, u64), Event>,
    asked: u64,
    outcomes: Vec<Option<Reason>>,
    was_started: Vec<bool>,
    is_crossed: bool,
    started_after_crossing: u32,
    finished: Option<(RunStatus, Option<String>)>,
}

impl<'a> Driver<'a> {
    fn new(case: &'a Case, work: WorkKind, window: u32) -> Driver<'a> {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let delivery = Delivery {
            batch_size: case.batch,
            threshold: Some(Threshold { failures: case.limit, per: case.per }),
            ..Delivery::default()
        };
        let mut machine = Rollout::new(RolloutSpec::new(&delivery, work, case.total, 7, now));
        machine.set_window(window);
        let devices = case.total as usize;
        Driver {
            case,
            machine,
            now,
            queue: BTreeMap::new(),
            asked: 0,
            outcomes: vec![None; devices],
            was_started: vec![false; devices],
            is_crossed: false,
            started_after_crossing: 0,
            finished: None,
        }
    }

    fn run(mut self) -> Driver<'a> {
        self.step(Event::Start);
        while self.finished.is_none() {
            let timer = self.machine.deadline();
            let due = self.queue.keys().next().copied();
            match (due, timer) {
                (Some(key), timer) if timer.is_none_or(|timer| key.0 <= timer) => {
                    self.now = self.now.max(key.0);
                    let event = self.queue.remove(&key).unwrap();
                    self.step(event);
                }
                (_, Some(timer)) => {
                    self.now = self.now.max(timer);
                    self.step(Event::Tick);
                }
                (_, None) => panic!("the machine waits for nothing: {:?}", self.case),
            }
        }
        self
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.asked += 1;
        self.queue.insert((self.now + after, self.asked), event);
    }

    fn step(&mut self, event: Event) {
        for effect in self.machine.step(self.now, event) {
            match effect {
                Effect::OpenBatch { batch, range } => self.open(batch, range),
                Effect::Send { devices } => self.send(&devices),
                Effect::Write { ordinals, failures_left } => self.write(&ordinals, failures_left),
                Effect::Record { outcomes } => outcomes.iter().for_each(|one| self.record(one.ordinal, one.reason)),
                Effect::Notify { .. } | Effect::Unsend { .. } => {}
                Effect::RecordLate { .. } => panic!("no device answers twice here"),
                Effect::CloseBatch { batch } => self.assert_terminal_before(batch + 1),
                Effect::Finish { status, cause } => {
                    self.finished = Some((status, cause.map(|cause| cause.to_string())));
                }
            }
            self.check_counts();
        }
    }

    fn open(&mut self, batch: u32, range: std::ops::Range<u32>) {
        let size = self.case.batch_size();
        assert_eq!(range, batch * size..((batch + 1) * size).min(self.case.total), "{:?}", self.case);
        self.assert_terminal_before(batch);
        let is_blocked = |ordinal: &u32| self.case.failing == Failing::IsBlocked && self.case.fails(*ordinal);
        let ineligible = range.filter(is_blocked).map(|ordinal| (ordinal, Reason::Blocked, "")).collect();
        self.later(Duration::ZERO, Event::Opened { ineligible, at: self.now });
    }

    fn start(&mut self, ordinal: u32) {
        self.started_after_crossing += u32::from(self.is_crossed);
        self.assert_terminal_before(ordinal / self.case.batch_size());
        assert!(!self.was_started[ordinal as usize], "a device is started once: {:?}", self.case);
        assert_eq!(self.outcomes[ordinal as usize], None, "a terminal device is not started: {:?}", self.case);
        self.was_started[ordinal as usize] = true;
    }

    fn send(&mut self, devices: &[(u32, u32)]) {
        for &(ordinal, _) in devices {
            self.start(ordinal);
            // Spread, and not in order: the third device answers before the second.
            let latency = Duration::from_millis(10 + u64::from(ordinal * 7 % 5));
            let message = String::new();
            match self.case.failing {
                _ if !self.case.fails(ordinal) => self.later(latency, Event::Answered { ordinal, code: 200, message }),
                Failing::Refuses => self.later(latency, Event::Answered { ordinal, code: 500, message }),
                Failing::IsOffline => self.later(Duration::ZERO, Event::Unreachable { ordinal }),
                Failing::IsSilent => {}
                Failing::IsBlocked => panic!("a blocked device is never sent to"),
            }
        }
    }

    /// Writes as the registry does: one after the other, until one failure more than are left.
    fn write(&mut self, ordinals: &[u32], failures_left: Option<u64>) {
        let (mut outcomes, mut failures) = (Vec::new(), 0);
        for &ordinal in ordinals {
            self.start(ordinal);
            let reason = if self.case.fails(ordinal) { Reason::Error } else { Reason::Written };
            self.record(ordinal, reason);
            outcomes.push((ordinal, reason));
            failures += u64::from(self.case.fails(ordinal));
            if failures_left.is_some_and(|left| failures > left) {
                break;
            }
        }
        self.later(Duration::ZERO, Event::Written { outcomes });
    }

    fn record(&mut self, ordinal: u32, reason: Reason) {
        let place = &mut self.outcomes[ordinal as usize];
        assert_eq!(*place, None, "a terminal device never changes: {:?}", self.case);
        *place = Some(reason);
        let failed = |at: u32| self.outcomes[at as usize].is_some_and(|r| r.status() == DeviceStatus::Failed);
        self.is_crossed = self.is_crossed || self.case.crosses(failed);
    }

    fn assert_terminal_before(&self, batch: u32) {
        let end = (batch * self.case.batch_size()).min(self.case.total) as usize;
        let open = self.outcomes[..end].iter().filter(|outcome| outcome.is_none()).count();
        assert_eq!(open, 0, "batch {batch} starts when all before it are terminal: {:?}", self.case);
    }

    fn check_counts(&self) {
        let counts = self.machine.counts();
        assert_eq!(counts.total, u64::from(self.case.total));
        assert_eq!(counts.completed + counts.failed + counts.pending(), counts.total);
        let batches = self.machine.batch_counts();
        assert_eq!(batches.iter().map(|batch| batch.total).sum::<u64>(), counts.total);
        assert_eq!(batches.iter().map(|batch| batch.failed).sum::<u64>(), counts.failed);
        assert_eq!(batches.iter().map(|batch| batch.completed).sum::<u64>(), counts.completed);
    }
}

/// Runs a case and holds it against the contract.
fn check(case: &Case, work: WorkKind, window: u32) {
    let driver = Driver::new(case, work, window).run();
    let (status, reason) = driver.finished.clone().unwrap();
    let is_canceled = case.crosses(|ordinal| case.fails(ordinal));
    let expect = if is_canceled { RunStatus::Canceled } else { RunStatus::Completed };
    assert_eq!(status, expect, "{case:?}, window {window}");
    assert_eq!(reason.is_some(), is_canceled, "a canceled job says why");
    assert_eq!(driver.started_after_crossing, 0, "devices started after the crossing: {case:?}, window {window}");
    assert_eq!(driver.is_crossed, is_canceled, "{case:?}");

    let counts = driver.machine.counts();
    let of = |wanted: DeviceStatus| {
        driver.outcomes.iter().filter(|one| one.is_some_and(|reason| reason.status() == wanted)).count() as u64
    };
    assert_eq!(counts.completed, of(DeviceStatus::Completed), "{case:?}");
    assert_eq!(counts.failed, of(DeviceStatus::Failed), "{case:?}");
    if !is_canceled {
        assert_eq!(counts.pending(), 0, "every device was attempted: {case:?}");
    }
    for (ordinal, outcome) in driver.outcomes.iter().enumerate() {
        let ordinal = u32::try_from(ordinal).unwrap();
        match outcome {
            None => {
                // Nothing was delivered to a device that was found offline: it is pending again.
                let was_reached = driver.was_started[ordinal as usize] && case.failing != Failing::IsOffline;
                assert!(!was_reached, "what was in flight is recorded: {case:?}");
                assert_eq!(driver.machine.reason(ordinal), Reason::Queued, "pending devices stay pending: {case:?}");
            }
            Some(reason) => {
                assert_eq!(driver.machine.reason(ordinal), *reason);
                assert_eq!(reason.status() == DeviceStatus::Failed, case.fails(ordinal), "{case:?}");
            }
        }
    }
}

const SEND: WorkKind = WorkKind::Send {
    connect_timeout: Duration::from_secs(5),
    response_timeout: Duration::from_secs(30),
    idempotent: false,
};

#[test]
fn commands_stop_at_the_crossing() {
    for case in cases(&[1, 3, 7, 10]) {
        for window in [1, 3, 1_000] {
            check(&case, SEND, window);
        }
    }
}

#[test]
fn commands_to_many_devices_stop_at_the_crossing() {
    for case in cases(&[200]) {
        check(&case, SEND, 25);
    }
}

#[test]
fn writes_stop_at_the_crossing() {
    for case in cases(&[1, 3, 7, 10, 200]).iter().filter(|case| matches!(case.failing, Failing::IsBlocked)) {
        check(case, WorkKind::Write, 1);
        check(&Case { failing: Failing::Refuses, ..*case }, WorkKind::Write, 1);
    }
}

#[test]
fn the_last_device_cancels_too() {
    let case = Case {
        total: 10,
        limit: Amount::Count(0),
        per: ThresholdScope::Job,
        batch: Some(Amount::Count(3)),
        position: Position::Last,
        failing: Failing::Refuses,
    };
    let driver = Driver::new(&case, SEND, 1).run();
    assert_eq!(driver.machine.counts().pending(), 0);
    assert_eq!(driver.finished.unwrap().0, RunStatus::Canceled);
}

#[test]
fn one_device_at_a_time_reaches_just_the_crossing() {
    let case = Case {
        total: 10,
        limit: Amount::Percent(33),
        per: ThresholdScope::Job,
        batch: None,
        position: Position::All,
        failing: Failing::IsSilent,
    };
    let driver = Driver::new(&case, SEND, 1).run();
    // 100 * 3 is not above 33 * 10, and 100 * 4 is.
    assert_eq!((driver.machine.counts().failed, driver.machine.counts().pending()), (4, 6));
    let (_, reason) = driver.finished.unwrap();
    let expect = "4 of 10 devices failed, and at most 3 may (threshold: 33% per job)";
    assert_eq!(reason.as_deref(), Some(expect));
}

/// Runs a case as a command job of a real fleet and holds what is on the results branch against the contract.
fn check_fleet(case: &Case, in_flight: u32) {
    let id = |ordinal: u32| format!("d-{:03}", ordinal + 1);
    let behaviour = match case.failing {
        Failing::Refuses => "answers: 500",
        Failing::IsSilent => "silent: true",
        Failing::IsOffline => "offline: true",
        Failing::IsBlocked => "latency: 10ms",
    };
    let failing: Vec<u32> = (0..case.total).filter(|ordinal| case.fails(*ordinal)).collect();
    let devices: Vec<String> = failing.iter().map(|ordinal| format!("{}: {{{behaviour}}}", id(*ordinal))).collect();
    let link = format!("{{simulated: {{latency: 20ms, devices: {{{}}}}}}}", devices.join(", "));
    let world =
        World::with_devices(&format!("{{link: {link}, limits: {{inFlight: {in_flight}}}}}"), case.total as usize);
    world.apply().unwrap();
    if case.failing == Failing::IsBlocked {
        for ordinal in &failing {
            world.sql(&format!("UPDATE device SET blocked = true WHERE device_id = '{}'", id(*ordinal)));
        }
    }
    let per = if case.per == ThresholdScope::Job { "job" } else { "batch" };
    let batch = case.batch.map_or(String::new(), |size| format!("batchSize: {size}, "));
    let threshold = format!("cancellationThreshold: {{failures: {}, per: {per}}}", case.limit);
    world.job(
        "reboot",
        &format!(
            "{{target: {{query: '*'}}, action: {{command: {{name: reboot, connectTimeout: 1s, responseTimeout: 1s}}}},
               delivery: {{{batch}{threshold}}}}}"
        ),
    );
    let applied = world.apply().unwrap();

    let is_canceled = case.crosses(|ordinal| case.fails(ordinal));
    let expect = if is_canceled { RunStatus::Canceled } else { RunStatus::Completed };
    let [record] = applied.records.as_slice() else { panic!("one run: {case:?}") };
    assert_eq!(record.status, expect, "{case:?}");
    let rows = world.rows("reboot", "1");
    assert_eq!(rows.len(), case.total as usize, "every device has one row: {case:?}");
    let ids: Vec<String> = rows.iter().map(|row| row.device_id.clone()).collect();
    assert_eq!(ids, (0..case.total).map(id).collect::<Vec<_>>(), "{case:?}");
    let of = |status| rows.iter().filter(|row| row.status == status).count() as u64;
    assert_eq!(record.counts.completed, of(DeviceStatus::Completed), "{case:?}");
    assert_eq!(record.counts.failed, of(DeviceStatus::Failed), "{case:?}");
    assert_eq!(record.counts.pending(), of(DeviceStatus::Pending), "{case:?}");
    assert!(is_canceled || record.counts.pending() == 0, "{case:?}");

    // The time of the crossing: that of the first failure, in order of time, that crosses the threshold.
    let failed_by = |time: Timestamp| {
        let rows = &rows;
        move |ordinal: u32| {
            let row = &rows[ordinal as usize];
            row.status == DeviceStatus::Failed && row.finished_at.unwrap() <= time
        }
    };
    let mut ends: Vec<Timestamp> = rows.iter().filter_map(|row| row.finished_at).collect();
    ends.sort();
    let crossing = ends.into_iter().find(|time| case.crosses(failed_by(*time)));
    assert_eq!(crossing.is_some(), is_canceled, "{case:?}");
    let size = case.batch_size();
    for (ordinal, row) in rows.iter().enumerate() {
        assert_eq!(row.batch, u32::try_from(ordinal).unwrap() / size + 1, "{case:?}");
        let Some(started) = row.started_at else { continue };
        assert!(crossing.is_none_or(|crossing| started < crossing), "{} started too late: {case:?}", row.device_id);
        let earlier = rows.iter().filter(|other| other.batch < row.batch);
        let in_sequence = earlier.into_iter().all(|other| other.finished_at.is_some_and(|end| end <= started));
        assert!(in_sequence, "{} started before the batch ahead of it was done: {case:?}", row.device_id);
    }
}

#[test]
fn fleets_stop_at_the_crossing() {
    let case = |total, limit, per, batch, position, failing| Case { total, limit, per, batch, position, failing };
    let (job, batch) = (ThresholdScope::Job, ThresholdScope::Batch);
    for failing in FAILING {
        check_fleet(&case(10, Amount::Count(0), job, None, Position::EveryThird, failing), 2);
        check_fleet(&case(10, Amount::Percent(33), batch, Some(Amount::Count(3)), Position::EveryThird, failing), 1000);
        check_fleet(&case(7, Amount::Count(1), job, Some(Amount::Count(1)), Position::All, failing), 1000);
        check_fleet(&case(3, Amount::Count(0), job, None, Position::Last, failing), 1);
    }
    check_fleet(&case(1, Amount::Percent(99), batch, None, Position::All, Failing::IsSilent), 1);
    check_fleet(&case(7, Amount::Percent(100), job, None, Position::All, Failing::Refuses), 3);
    check_fleet(&case(10, Amount::Percent(99), job, Some(Amount::Percent(10)), Position::All, Failing::Refuses), 3);
    check_fleet(
        &case(200, Amount::Percent(33), job, Some(Amount::Percent(10)), Position::EveryThird, Failing::Refuses),
        25,
    );
}

/// Two answers come in at the same moment: the first makes room for the next device, the second crosses the threshold.
#[test]
fn nothing_starts_in_the_moment_of_the_crossing() {
    let same = "latency: 20ms";
    let link = format!(
        "{{link: {{simulated: {{devices: {{d-001: {{{same}}}, d-002: {{answers: 500, {same}}}, d-003: \
            {{{same}}}}}}}}}, \
         limits: {{inFlight: 2}}}}"
    );
    let world = World::with_devices(&link, 3);
    world.apply().unwrap();
    world.job(
        "reboot",
        "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {cancellationThreshold: {failures: 0}}}",
    );
    let applied = world.apply().unwrap();
    let counts = applied.records[0].counts;
    assert_eq!((counts.completed, counts.failed, counts.pending()), (1, 1, 1));
}

/// The first device is as good as any other: the others do not wait for its answer.
#[test]
fn a_silent_device_holds_up_none_beside_it() {
    let world = World::with_devices("{link: {simulated: {devices: {d-001: {silent: true}}}}}", 3);
    world.apply().unwrap();
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 300s}}}");
    world.apply().unwrap();
    let rows = world.rows("reboot", "1");
    assert_eq!(rows[0].reason, Reason::Timeout);
    assert!(rows.iter().all(|row| row.started_at == rows[0].started_at), "{rows:?}");
}

/// A job that is left alone takes over what the other one had, without an event of its own.
#[test]
fn a_job_goes_on_when_another_makes_room() {
    let spec = "{link: {simulated: {latency: 1s, devices: {d-001: {silent: true}}}}, limits: {inFlight: 2}}";
    let world = World::with_devices(spec, 4);
    world.apply().unwrap();
    let command = "action: {command: {name: reboot, responseTimeout: 300s}}";
    world.declare("jobs/a.yaml", "Job", "a", &format!("{{target: {{devices: [d-001, d-002]}}, {command}}}"));
    world.declare("jobs/b.yaml", "Job", "b", &format!("{{target: {{devices: [d-003, d-004]}}, {command}}}"));
    world.commit("two jobs");
    world.apply().unwrap();
    let rows = world.rows("a", "1");
    assert!(rows[1].started_at.unwrap() < rows[0].finished_at.unwrap(), "{rows:?}");
}
