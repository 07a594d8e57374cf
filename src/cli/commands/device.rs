//! `device list|show|export|block|unblock|delete|set|call|send|run|fleet`

use super::next_step::{Doers, tell_next_step};
use super::{CommandResult, Output, ask, can_ask, folder_option};
use crate::cli::devices::{ChangeArgs, DeviceArgs, DeviceCommand, DeviceFormat, PageArgs};
use crate::cli::edits::EditArgs;
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::view::{counted, device as view};
use crate::execute::{Clock as _, SystemClock};
use crate::model::patch::Section;
use crate::model::text::sanitize_line;
use crate::ops::device::{
    Call, Changed, DeviceChange, DeviceChoice, ExportFormat, Work, change, count, export, export_to, list, send, show,
    work,
};
use crate::ops::job::{self, JobFilter};
use crate::ops::{Caveats, Environment, OpsError};

/// Jobs of a device that are shown, and runs that are searched for them: each run is read as a whole.
const JOBS_SHOWN: usize = 10;
const RUNS_LOOKED_AT: usize = 50;

/// `device …`
pub fn run(environment: &Environment, command: &DeviceCommand, output: &Output) -> CommandResult {
    match command {
        DeviceCommand::List { choice, count: only_count, page } => {
            let choice = DeviceChoice { after: page.after.clone(), limit: page.limit, ..choice_of(choice) };
            if *only_count {
                let count = count(environment, &choice)?;
                let text = if output.is_json { format!("{{\"count\":{count}}}\n") } else { format!("{count}\n") };
                output.result(&text)?;
                return Ok(exit::OK);
            }
            list_devices(environment, &choice, page, output)
        }
        DeviceCommand::Show { device_id } => show_device(environment, device_id, output),
        DeviceCommand::Export { choice, format, output: path } => {
            export_devices(environment, &choice_of(choice), *format, path, output)
        }
        DeviceCommand::Block(arguments) => change_devices(environment, DeviceChange::Block, arguments, output),
        DeviceCommand::Unblock(arguments) => change_devices(environment, DeviceChange::Unblock, arguments, output),
        DeviceCommand::Delete(arguments) => change_devices(environment, DeviceChange::Delete, arguments, output),
        DeviceCommand::Set { device_id, assignments, tags, cloud, edit } => {
            let section = match (tags, cloud) {
                (true, _) => Section::Tags,
                (_, true) => Section::Cloud,
                (false, false) => Section::Desired,
            };
            let wanted = Work::Set { section, assignments: assignments.clone() };
            write_job(environment, device_id, &wanted, edit, output)
        }
        DeviceCommand::Send { device_id, text, property, expires } => {
            send(environment, device_id, (text, property), *expires, SystemClock.now())?;
            output.say(&format!("Queued for {}.", crate::diag::shown(device_id)));
            Ok(exit::OK)
        }
        DeviceCommand::Run { id, gadget } => super::gadget::run(environment, id, gadget, output),
        DeviceCommand::Fleet(arguments) => super::gadget::fleet(environment, arguments, output),
        DeviceCommand::Call {
            device_id,
            method,
            payload,
            component,
            idempotent,
            connect_timeout,
            response_timeout,
            edit,
        } => {
            let wanted = Work::Call(Call {
                method: method.clone(),
                component: component.clone(),
                payload: payload.clone(),
                connect_timeout: connect_timeout.clone(),
                response_timeout: response_timeout.clone(),
                is_idempotent: *idempotent,
            });
            write_job(environment, device_id, &wanted, edit, output)
        }
    }
}

fn export_devices(
    environment: &Environment,
    choice: &DeviceChoice,
    format: DeviceFormat,
    path: &std::path::Path,
    output: &Output,
) -> CommandResult {
    let format = match format {
        DeviceFormat::Csv => ExportFormat::Csv,
        DeviceFormat::Iothub => ExportFormat::IotHub,
        DeviceFormat::Mosquitto => ExportFormat::Mosquitto,
        DeviceFormat::MosquittoAcl => ExportFormat::MosquittoAcl,
    };
    if path == std::path::Path::new("-") {
        export_to(environment, choice, format, &mut std::io::stdout().lock())?;
        return Ok(exit::OK);
    }
    let written = export(environment, choice, format, path)?;
    if format == ExportFormat::MosquittoAcl {
        output.say(&format!("Wrote {}. It has no keys.", path.display()));
        return Ok(exit::OK);
    }
    if written == 0 {
        output.say("There is no such device in the registry. Devices come from imports: apply them first.");
    }
    let devices = counted(written, "device");
    output.say(&format!("Wrote {devices} with their keys to {} (mode 0600). Keep it out of git.", path.display()));
    Ok(exit::OK)
}

fn show_device(environment: &Environment, device_id: &str, output: &Output) -> CommandResult {
    let shown = show(environment, device_id)?;
    let filter = JobFilter {
        device: Some(device_id.to_string()),
        limit: Some(JOBS_SHOWN),
        newest: Some(RUNS_LOOKED_AT),
        ..JobFilter::default()
    };
    // A device can be shown whatever happened to the history of jobs.
    let mut tell = |caveats: &Caveats| super::job::mention(caveats, output);
    let mut runs = job::list(environment, &filter, &mut tell).unwrap_or_else(|error| {
        output.say(&format!("Its jobs cannot be told: {error}."));
        Vec::new()
    });
    // An id may have a `*` or `?`, which is a wildcard to the list.
    runs.retain(|run| run.fitting.as_ref().is_some_and(|found| found.devices == 1 && found.device_id == device_id));
    if output.is_json {
        output.json_line(&view::shown_json(&shown, &runs))?;
    } else {
        output.result(&view::show(&shown, &runs, output.painter()))?;
    }
    Ok(exit::OK)
}

fn change_devices(
    environment: &Environment,
    wanted: DeviceChange,
    arguments: &ChangeArgs,
    output: &Output,
) -> CommandResult {
    let (verb, done) = match wanted {
        DeviceChange::Block => ("Block", "blocked"),
        DeviceChange::Unblock => ("Unblock", "unblocked"),
        DeviceChange::Delete => ("Delete", "deleted"),
    };
    let question = |devices: usize| match arguments.device_ids.as_slice() {
        [one] if devices == 1 => format!("{verb} device {}?", crate::diag::shown(one)),
        _ => format!("{verb} {}?", counted(devices as u64, "device")),
    };
    let mut agree = |devices: usize| arguments.yes || (can_ask() && ask(&question(devices)));
    let Changed { changed, unchanged, imports, was_declined } =
        change(environment, wanted, (&arguments.device_ids, &arguments.reason), SystemClock.now(), &mut agree)?;
    if was_declined && !can_ask() {
        return Err(CommandError::Usage {
            what: format!("device {} asks before it changes anything, and there is nobody to ask", verb.to_lowercase()),
            help: format!("Add --yes to {} without a question.", verb.to_lowercase()),
        });
    }
    if was_declined {
        output.say("Nothing was changed.");
        return Ok(exit::OK);
    }
    if output.is_json {
        for (ids, is_changed) in [(&changed, true), (&unchanged, false)] {
            for id in ids {
                output.json_line(&serde_json::json!({"device_id": id, "action": done, "changed": is_changed}))?;
            }
        }
        return Ok(exit::OK);
    }
    if !changed.is_empty() {
        output.say(&format!("{}: {done}.", counted(changed.len() as u64, "device")));
    }
    if !unchanged.is_empty() {
        output.say(&format!("{}: {done} already.", counted(unchanged.len() as u64, "device")));
    }
    for (import, devices) in imports {
        let devices = counted(devices, "device");
        output.say(&match wanted {
            DeviceChange::Delete => format!(
                "import/{import} has {devices} of these: they come back, with new keys, when it is imported again. \
                    Take their rows out of its file."
            ),
            DeviceChange::Block | DeviceChange::Unblock => format!(
                "import/{import} has {devices} of these: where its file has a status for them, that one counts when it \
                    is imported again."
            ),
        });
    }
    Ok(exit::OK)
}

fn write_job(
    environment: &Environment,
    device_id: &str,
    wanted: &Work,
    arguments: &EditArgs,
    output: &Output,
) -> CommandResult {
    let written = work(environment, device_id, wanted, !arguments.no_commit, SystemClock.now())?;
    if output.is_json {
        output.json_line(&serde_json::json!({
            "job": written.job.as_str(),
            "file": written.file,
            "commit": written.commit,
            "changed": true,
        }))?;
        return Ok(exit::OK);
    }
    let commit = written.commit.as_ref().map_or("not committed".to_string(), |id| format!("commit {}", &id[..12]));
    output.say(&format!("Wrote {} ({commit}).", written.file));
    let (program, folder, job) = (&output.program, folder_option(environment), &written.job);
    let doers = Doers::of(environment, written.remote.clone(), written.has_gateway);
    tell_next_step(environment, written.commit.is_some(), &doers, output);
    output.say(&format!("\nThen, to see what came of it:\n\n    {program}{folder} job show {job} --devices"));
    Ok(exit::OK)
}

fn choice_of(arguments: &DeviceArgs) -> DeviceChoice {
    DeviceChoice {
        query: arguments.query.clone(),
        organization: arguments.organization.clone(),
        ..DeviceChoice::default()
    }
}

fn list_devices(environment: &Environment, choice: &DeviceChoice, page: &PageArgs, output: &Output) -> CommandResult {
    let mut table = view::table();
    let (mut found, mut last) = (0_u64, String::new());
    list(environment, choice, &mut |device| {
        found += 1;
        last.clone_from(&device.device_id);
        if output.is_json {
            let source = |source| OpsError::Output { what: "the output cannot be written".to_string(), source };
            output.json_line(&view::to_json(&device)).map_err(source)?;
        } else {
            table.push(view::row(&device));
        }
        Ok(())
    })?;
    if output.is_json {
        return Ok(exit::OK);
    }
    if found == 0 {
        output.say("No device fits.");
    } else {
        output.result(&table.render())?;
        output.say(&counted(found, "device"));
        if page.limit == Some(found) {
            output.say(&format!("For the next ones, add --after {}", sanitize_line(&last)));
        }
    }
    Ok(exit::OK)
}
