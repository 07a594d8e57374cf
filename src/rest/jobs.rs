//! Jobs: `/jobs/v2`.

use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, Fault};
use super::asked::{Asked, time};
use super::throttle::Operation;
use crate::model::hub::HubRight;
use crate::ops::hub::{GivenJob, HubAction, HubJob, JobRequest, job_type};

/// Jobs on one page of a list, unless the client asks for fewer.
const PAGE_MAX: usize = 1_000;

/// `PUT /jobs/v2/{id}`
pub async fn put(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Jobs)?;
    let body = asked.json()?;
    let is_method = body["type"].as_str() == Some("scheduleDeviceMethod");
    asked.admitted.needs(HubRight::RegistryWrite)?;
    if is_method {
        asked.admitted.needs(HubRight::ServiceConnect)?;
    }
    let now = time();
    let request = JobRequest::parse(id, &body, now)?;
    let given = GivenJob { request, caller: asked.admitted.caller.clone(), at: now };
    let job = asked.served.puts.ask(&asked.served.desks, given).await?;
    asked.served.committed();
    let mut made = json!({"jobId": job.id, "type": job_type(&job.action), "status": job.status.as_str()});
    if let Some(message) = &job.message {
        made["statusMessage"] = json!(message);
    }
    Ok(answer::ok(&made))
}

/// `GET /jobs/v2/{id}`
pub async fn get(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Jobs)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let wanted = id.to_string();
    let job = asked.served.desks.read(move |desk| desk.job(&wanted, time())).await?;
    Ok(match job {
        Some(job) => answer::ok(&job_json(&job)),
        // As IoT Hub, which says so with 200.
        None => answer::ok(&json!({"jobId": id, "type": "unknown", "status": "unknown"})),
    })
}

/// `POST /jobs/v2/{id}/cancel`
pub async fn cancel(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Jobs)?;
    asked.admitted.needs(HubRight::RegistryWrite)?;
    let (id, caller) = (id.to_string(), asked.admitted.caller.clone());
    let is_method = {
        let id = id.clone();
        let job = asked.served.desks.read(move |desk| desk.job(&id, time())).await?;
        job.is_some_and(|job| matches!(job.action, HubAction::Method { .. }))
    };
    if is_method {
        asked.admitted.needs(HubRight::ServiceConnect)?;
    }
    let job = asked.served.desks.commit(move |desk| desk.cancel_job(&id, &caller, time())).await?;
    asked.served.committed();
    Ok(answer::ok(&job_json(&job)))
}

/// `GET /jobs/v2/query?jobType=&jobStatus=`
pub async fn list(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Query)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let now = time();
    let filters = ["jobType", "jobStatus"].map(|name| asked.parameter(name).unwrap_or_default().to_string());
    let jobs = asked.served.desks.read(move |desk| desk.jobs(now)).await?;
    let [wanted_type, wanted_status] = &filters;
    let is = |wanted: &str, word: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(word);
    let is_status = |word: &str| is(wanted_status, word) || word == "queued" && is(wanted_status, "enqueued");
    let found = jobs.iter().filter(|job| is(wanted_type, job_type(&job.action)) && is_status(job.status.as_str()));
    let query = format!("jobs {} {}", wanted_type.to_ascii_lowercase(), wanted_status.to_ascii_lowercase());
    let (most, place) = (asked.page_size("pageSize", PAGE_MAX)?, asked.place(&query, "continuationToken")?);
    // The newest come first: a page begins behind a job.
    let behind: Vec<&HubJob> = match place.as_deref() {
        Some([id, ..]) => found.skip_while(|job| job.id != *id).skip(1).collect(),
        _ => found.collect(),
    };
    let page: Vec<Value> = behind.iter().take(most).map(|job| job_json(job)).collect();
    let last = behind.get(most.saturating_sub(1)).filter(|_| behind.len() > most);
    let next = last.map(|job| asked.token(&query, &[&job.id]));
    Ok(answer::page(&page, "JobResponse", next))
}

/// Returns a job as IoT Hub's `JobResponse`.
fn job_json(job: &HubJob) -> Value {
    let mut found = json!({
        "jobId": job.id,
        "queryCondition": job.condition,
        "type": job_type(&job.action),
        "status": job.status.as_str(),
    });
    match &job.action {
        HubAction::Method { method, payload, response_timeout } => {
            found["cloudToDeviceMethod"] = json!({
                "methodName": method,
                "payload": payload,
                "responseTimeoutInSeconds": response_timeout.as_secs(),
            });
        }
        HubAction::Twin { tags, desired } => {
            let mut twin = json!({"etag": "*"});
            if !tags.is_empty() {
                twin["tags"] = json!(tags);
            }
            if !desired.is_empty() {
                twin["properties"] = json!({ "desired": desired });
            }
            found["updateTwin"] = twin;
        }
        HubAction::Other => {}
    }
    let times = [("createdTime", job.created), ("startTime", job.start), ("endTime", job.end)];
    for (name, time) in times {
        if let Some(time) = time {
            found[name] = json!(time.to_string());
        }
    }
    if let Some(window) = job.window {
        found["maxExecutionTimeInSeconds"] = json!(window.as_secs());
    }
    if let Some(failure) = &job.failure {
        found["failureReason"] = json!(failure);
    }
    if let Some(message) = &job.message {
        found["statusMessage"] = json!(message);
    }
    if let Some(counts) = &job.statistics {
        found["deviceJobStatistics"] = json!({
            "deviceCount": counts.total,
            "failedCount": counts.failed,
            "succeededCount": counts.succeeded,
            "runningCount": counts.running,
            "pendingCount": counts.pending,
        });
    }
    found
}
