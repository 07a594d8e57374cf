//! Answers that are given more than once: to those who say that a copy of some seconds will do.
//!
//! A request says so with `Cache-Control: max-age=N` (RFC 9111, 5.2.1.1), as the script of a live page does. When a
//! person has it open often, a page is read once a second for all, not each time. A request that does not say so gets
//! what is read for it alone, after it asked. While a job is planned or runs, a visitor who has used up its time gets a
//! copy as well, and so does an address that asks very often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::header::{AGE, CACHE_CONTROL};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::limits::{COPIES_MAX, COPY_AGE_MAX, COPY_BYTES_MAX};

/// The copies that are younger than [`COPY_AGE_MAX`].
#[derive(Default)]
pub struct Copies(Mutex<BTreeMap<String, Slot>>);

struct Slot {
    /// When it was begun to be read.
    began: Instant,
    /// `None` until it was read.
    copy: watch::Receiver<Option<Arc<Copy>>>,
}

struct Copy {
    /// When it was begun to be read.
    began: Instant,
    headers: HeaderMap,
    body: Bytes,
}

/// What a request is to do.
enum Part {
    /// Make the answer, for itself and for others.
    Make(watch::Sender<Option<Arc<Copy>>>, Instant),
    /// Take the one that is made.
    Wait(watch::Receiver<Option<Arc<Copy>>>),
}

impl Copies {
    /// Returns the answer of a name, not older than `age`, which is made where there is none. An answer that is no
    /// success, or large, is for who made it alone.
    pub async fn answer(&self, name: &str, age: Duration, make: impl Future<Output = Response>) -> Response {
        loop {
            match self.part(name, age) {
                Part::Make(sender, began) => return self.made(name, (sender, began), make.await).await,
                Part::Wait(mut copy) => {
                    // Who was to make it may have gone: then somebody else does.
                    if let Ok(found) = copy.wait_for(Option::is_some).await
                        && let Some(copy) = &*found
                    {
                        return copy.response();
                    }
                    self.forget(name, &copy);
                }
            }
        }
    }

    /// Drops all: something was changed, and who has changed it is to see that.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn part(&self, name: &str, age: Duration) -> Part {
        let mut slots = self.lock();
        let now = Instant::now();
        slots.retain(|_, slot| now.duration_since(slot.began) <= COPY_AGE_MAX);
        match slots.get(name) {
            Some(slot) if now.duration_since(slot.began) <= age => return Part::Wait(slot.copy.clone()),
            Some(_) => {}
            // The oldest one makes room: who waits for it has it already.
            None if slots.len() >= COPIES_MAX => {
                let oldest = slots.iter().min_by_key(|(_, slot)| slot.began).map(|(name, _)| name.clone());
                oldest.into_iter().for_each(|name| drop(slots.remove(&name)));
            }
            None => {}
        }
        // One that is too old is still waited for by those who came before.
        let (sender, copy) = watch::channel(None);
        slots.insert(name.to_string(), Slot { began: now, copy });
        Part::Make(sender, now)
    }

    async fn made(
        &self,
        name: &str,
        (sender, began): (watch::Sender<Option<Arc<Copy>>>, Instant),
        response: Response,
    ) -> Response {
        let (parts, body) = response.into_parts();
        let is_small = body.size_hint().upper().is_some_and(|size| size <= COPY_BYTES_MAX);
        if parts.status != StatusCode::OK || !is_small {
            self.forget(name, &sender.subscribe());
            return Response::from_parts(parts, body);
        }
        match body.collect().await {
            Ok(body) => {
                let copy = Arc::new(Copy { began, headers: parts.headers, body: body.to_bytes() });
                sender.send_replace(Some(Arc::clone(&copy)));
                copy.response()
            }
            // It is in memory, so that is not to be expected.
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    /// Drops one that is not to be waited for any more, unless another one has its place.
    fn forget(&self, name: &str, copy: &watch::Receiver<Option<Arc<Copy>>>) {
        let mut slots = self.lock();
        if slots.get(name).is_some_and(|slot| slot.copy.same_channel(copy)) {
            slots.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copy {
    fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        response.headers_mut().clone_from(&self.headers);
        // Whole seconds (RFC 9111, 5.1).
        let age = self.began.elapsed().as_secs();
        if age > 0 {
            response.headers_mut().insert(AGE, age.into());
        }
        response
    }
}

/// Returns the greatest age of a copy that a request takes, at most [`COPY_AGE_MAX`]; zero when it takes none.
pub fn age_of(headers: &HeaderMap) -> Duration {
    let words = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let words: Vec<&str> = words.flat_map(|value| value.split(',')).map(str::trim).collect();
    let is = |wanted: &str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
    let age = words.iter().find_map(|word| word.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    match age {
        Some(seconds) if !is("no-cache") && !is("no-store") => Duration::from_secs(seconds).min(COPY_AGE_MAX),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(9);

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Makes the next number, a while after it was asked for.
    async fn next(made: &AtomicU32) -> Response {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (made.fetch_add(1, Ordering::Relaxed) + 1).to_string().into_response()
    }

    #[tokio::test]
    async fn an_answer_is_made_once_for_all_who_take_a_copy() {
        let (copies, made) = (Copies::default(), AtomicU32::new(0));
        let ask = |name: &'static str, age| copies.answer(name, age, next(&made));
        let all: Vec<_> = futures_util::future::join_all((0..100).map(|_| ask("a", LONG))).await;
        for one in all {
            assert_eq!(text(one).await, "1");
        }
        assert_eq!(text(ask("b", LONG).await).await, "2", "another page");
        assert_eq!(text(ask("a", LONG).await).await, "1");
        // It is older than that.
        assert_eq!(text(ask("a", Duration::from_millis(50)).await).await, "3");
        assert_eq!(text(ask("a", LONG).await).await, "3");
        // Many others push it out.
        for n in 0..COPIES_MAX {
            copies.answer(&format!("page {n}"), LONG, async { "one".into_response() }).await;
        }
        assert_eq!(copies.lock().len(), COPIES_MAX);
        assert_eq!(text(ask("a", LONG).await).await, "4");
    }

    #[tokio::test]
    async fn who_makes_it_may_go_and_what_fails_is_not_given_on() {
        let (copies, made) = (Copies::default(), AtomicU32::new(0));
        let gone = tokio::time::timeout(Duration::from_millis(5), copies.answer("a", LONG, std::future::pending()));
        let (gone, waiting) = tokio::join!(gone, copies.answer("a", LONG, next(&made)));
        assert!(gone.is_err());
        assert_eq!(text(waiting).await, "1");
        let busy = async || StatusCode::SERVICE_UNAVAILABLE.into_response();
        assert_eq!(copies.answer("b", LONG, busy()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(copies.answer("b", LONG, next(&made)).await).await, "2");
        assert_eq!(copies.lock().len(), 2);
    }

    #[test]
    fn a_request_says_how_old_a_copy_may_be() {
        let check = |value: &str, expect: u64| {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())]);
            assert_eq!(age_of(&headers), Duration::from_secs(expect), "{value}");
        };
        check("max-age=1", 1);
        check("Max-Age=2, no-transform", 2);
        check("max-age=99999", 10);
        check("max-age=0", 0);
        check("max-age=-1", 0);
        check("no-cache, max-age=5", 0);
        check("max-age=5, no-store", 0);
        check("no-cache", 0);
        assert_eq!(age_of(&HeaderMap::new()), Duration::ZERO);
    }
}
