//! `device list|show|export`

use super::{CommandResult, Output};
use crate::cli::args::{DeviceArgs, DeviceCommand, DeviceFormat};
use crate::cli::exit;
use crate::cli::view::{counted, device as view};
use crate::ops::device::{DeviceChoice, ExportFormat, count, export, list, show};
use crate::ops::{Environment, OpsError};

/// `device …`
pub fn run(environment: &Environment, command: &DeviceCommand, output: &Output) -> CommandResult {
    match command {
        DeviceCommand::List { choice, count: only_count, limit } => {
            let choice = choice_of(choice, *limit);
            if *only_count {
                let count = count(environment, &choice)?;
                let text = if output.is_json { format!("{{\"count\":{count}}}\n") } else { format!("{count}\n") };
                output.result(&text)?;
                return Ok(exit::OK);
            }
            list_devices(environment, &choice, output)
        }
        DeviceCommand::Show { device_id } => {
            let device = show(environment, device_id)?;
            if output.is_json {
                output.json_line(&view::twin_json(&device))?;
            } else {
                output.result(&view::show(&device, output.painter()))?;
            }
            Ok(exit::OK)
        }
        DeviceCommand::Export { choice, format, output: path } => {
            let format = match format {
                DeviceFormat::Csv => ExportFormat::Csv,
                DeviceFormat::Iothub => ExportFormat::IotHub,
            };
            let written = export(environment, &choice_of(choice, None), format, path)?;
            let devices = counted(written, "device");
            output.say(&format!(
                "Wrote {devices} with their keys to {} (mode 0600). Keep it out of git.",
                path.display()
            ));
            Ok(exit::OK)
        }
    }
}

fn choice_of(arguments: &DeviceArgs, limit: Option<u64>) -> DeviceChoice {
    DeviceChoice { query: arguments.query.clone(), organization: arguments.organization.clone(), limit }
}

fn list_devices(environment: &Environment, choice: &DeviceChoice, output: &Output) -> CommandResult {
    let mut table = view::table();
    let mut found = 0_u64;
    list(environment, choice, &mut |device| {
        found += 1;
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
    }
    Ok(exit::OK)
}
