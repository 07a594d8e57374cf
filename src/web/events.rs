//! Server-sent events: a page that is open is told that something has changed, and goes on where it was.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::asked::Asked;
use super::fault::Fault;
use super::site::Site;
use crate::listen::Missed;
use crate::model::access::Sight;
use crate::model::limits::EVENT_STREAM_TIME_MAX;
use crate::ops::Environment;
use crate::ops::job::{RunChoice, show};

/// The shortest time between two events of a stream: a person sees no more.
const PAUSE: Duration = Duration::from_millis(500);
/// What is added to it for each stream that is open: many pages are told less often, and ask less often.
const PAUSE_OF_STREAM: Duration = Duration::from_millis(40);
/// How often a stream without events says that it lives.
const ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it opens a stream again.
const RETRY: Duration = Duration::from_secs(2);

/// What a stream is at.
struct Stream {
    site: Site,
    newest: watch::Receiver<u64>,
    /// The last event that was told; `None` when there is a gap before the next one.
    told: Option<u64>,
    about: Option<(String, String)>,
    /// What of it is told, with everything but the names of runs for the rest.
    sight: Sight,
    ends_at: Instant,
    not_before: Instant,
    _place: OwnedSemaphorePermit,
}

/// `GET /events`: resumes behind `Last-Event-ID`, or `after`.
pub async fn events(State(site): State<Site>, headers: HeaderMap, asked: Asked) -> Response {
    let Some(events) = site.events() else {
        let help = "Read the page again in a while.";
        return site.fault(&asked, &Fault::not_found(asked.form, "nothing tells of events here", help));
    };
    if let Err(fault) = asked.only(&["after", "job", "run"]) {
        return site.fault(&asked, &fault);
    }
    let Ok(place) = Arc::clone(&events.places).try_acquire_owned() else { return site.fault(&asked, &Fault::Busy) };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_string);
    let wanted = asked.clone();
    let (seer, about) = (site.clone(), asked.text("job").zip(asked.text("run")));
    let seen = move |environment: &Environment| {
        let environment = seer.as_seen_by(environment, &wanted)?;
        if let (false, Some((job, run))) = (environment.sight.is_whole(), about) {
            // What happens to a run is for those who may see it.
            show(&environment, &RunChoice { job, run: Some(run) }, &mut |_| ())?;
        }
        Ok(environment.sight)
    };
    let sight = match site.pool().read(seen).await {
        Ok(sight) => sight,
        Err(fault) => return site.fault(&asked, &fault),
    };
    let told = match last.or_else(|| asked.text("after")) {
        Some(id) => events.seq(&id),
        None => Some(events.log.newest()),
    };
    let (newest, now) = (events.log.subscribe(), Instant::now());
    let stream = Stream {
        newest,
        told,
        about: asked.text("job").zip(asked.text("run")),
        sight,
        ends_at: now + EVENT_STREAM_TIME_MAX,
        not_before: now,
        site: site.clone(),
        _place: place,
    };
    let stream = unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

impl Stream {
    /// Waits for the next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        let site = self.site.clone();
        let events = site.events()?;
        loop {
            sleep_until(self.not_before).await;
            let newest = *self.newest.borrow_and_update();
            let missed = self.told.map_or(Missed::Gap, |told| events.log.since(told));
            self.told = Some(newest);
            let event = match missed {
                Missed::Gap => Some(Event::default().event("reload").data("{}")),
                Missed::Events(found) => {
                    let sights = site.known_sights();
                    let shows = |run: &(String, String)| {
                        self.about.as_ref() == Some(run)
                            || self.sight.is_whole()
                            || sights.as_ref().is_some_and(|sights| sights.shows(&self.sight, &run.0))
                    };
                    let is_wanted = |run: &Option<(String, String)>| match run {
                        None => true,
                        Some(one) => (self.about.is_none() || *run == self.about) && shows(one),
                    };
                    let found: Vec<_> = found.into_iter().map(|event| event.run).filter(is_wanted).collect();
                    // One event says it all: the page is read anew.
                    let runs: BTreeSet<_> = found.iter().flatten().collect();
                    let runs: Vec<_> = runs.into_iter().map(|(job, run)| json!({"job": job, "run": run})).collect();
                    let data = json!({"runs": runs}).to_string();
                    (!found.is_empty()).then(|| Event::default().event("change").data(data))
                }
            };
            if let Some(event) = event {
                self.not_before = Instant::now() + PAUSE + PAUSE_OF_STREAM * events.open();
                return Some(event.id(events.id(newest)).retry(RETRY));
            }
            match timeout_at(self.ends_at, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }
}
