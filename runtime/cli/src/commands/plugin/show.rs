//! What a plugin is: what its file says, its limits, and what it says of itself when it runs.

use std::io::Write;

use graft::dataset::Converter;
use graft::evaluate::Evaluator;
use graft_plugins::{Plugin, PluginInfo, Wanted};
use serde_json::{Value, json};

use crate::Setting;
use crate::failure::Failure;
use crate::progress::short_bytes;

/// What a plugin says about itself when it runs, and the schema of its options.
pub fn describe(plugin: &Plugin) -> Result<(Value, Value), Failure> {
    let (described, schema) = match plugin {
        Plugin::Converter(converter) => {
            let said = converter.describe().map_err(graft::Error::from)?;
            (json!({"formats": said.formats}), said.options_schema)
        }
        Plugin::Evaluator(evaluator) => {
            let said = evaluator.describe().map_err(graft::Error::from)?;
            (json!({"metrics": said.metrics}), said.options_schema)
        }
    };
    let schema = serde_json::from_str(&schema).map_err(|e| {
        let plugin = &plugin.info().name;
        Failure::Work(format!("the options schema of {plugin} is not JSON: {e}"))
    })?;
    Ok((described, schema))
}

/// The same as a document.
pub fn document(info: &PluginInfo, described: Option<&(Value, Value)>) -> Value {
    let mut document = json!({"kind": "plugin", "info": info, "problems": []});
    if let Some((described, schema)) = described {
        document["described"] = described.clone();
        document["options_schema"] = schema.clone();
    }
    document
}

/// Prints what a plugin is, as lines or as a document.
pub fn show(
    info: &PluginInfo,
    described: Option<&(Value, Value)>,
    setting: &Setting,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if setting.json {
        writeln!(out, "{}", document(info, described))?;
        return Ok(());
    }
    let mut line = |label: &str, text: &str| writeln!(out, "{label:14}{text}");
    line("plugin", &info.name)?;
    line("world", info.world.name())?;
    if let Some(manifest) = &info.manifest {
        line("title", &manifest.title)?;
        line("id", &format!("{} {}", manifest.id, manifest.version))?;
        line("license", &manifest.license)?;
    }
    line("size", &short_bytes(info.bytes))?;
    line("sha256", &info.sha256)?;
    for (i, import) in info.imports.iter().enumerate() {
        line(if i == 0 { "imports" } else { "" }, import)?;
    }
    for (i, export) in info.exports.iter().enumerate() {
        line(if i == 0 { "exports" } else { "" }, export)?;
    }
    for (i, text) in limits(info).iter().enumerate() {
        line(if i == 0 { "limits" } else { "" }, text)?;
    }
    let Some((described, schema)) = described else {
        return Ok(());
    };
    for format in described["formats"].as_array().into_iter().flatten() {
        let text = format!("{}: {}", text_of(&format["id"]), text_of(&format["title"]));
        line("format", &text)?;
    }
    for metric in described["metrics"].as_array().into_iter().flatten() {
        line("metric", text_of(&metric["name"]))?;
    }
    for (key, option) in schema["properties"].as_object().into_iter().flatten() {
        let default = match &option["default"] {
            Value::Null => String::new(),
            value => format!(", default {value}"),
        };
        line(
            "option",
            &format!("{key}: {}{default}", text_of(&option["type"])),
        )?;
    }
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("any")
}

/// The limits in force, and what the manifest asks for where it asks.
fn limits(info: &PluginInfo) -> Vec<String> {
    let asked = info.manifest.as_ref().map(|manifest| &manifest.limits);
    let (none, limits) = (Wanted::default(), &info.limits);
    let asked = asked.unwrap_or(&none);
    let plain = |number: u64| match number {
        0..1_000_000 => number.to_string(),
        1_000_000..1_000_000_000 => format!("{} million", number / 1_000_000),
        _ => format!("{} thousand million", number / 1_000_000_000),
    };
    let seconds = |seconds: u64| format!("{seconds} s");
    let line = |name: &str, show: &dyn Fn(u64) -> String, force: u64, asked: Option<u64>| {
        let asked = asked.map(|asked| format!(", {} asked for", show(asked)));
        format!("{name} {}{}", show(force), asked.unwrap_or_default())
    };
    let deadline = limits.deadline.as_secs();
    vec![
        line(
            "memory_bytes",
            &short_bytes,
            limits.memory_bytes,
            asked.memory_bytes,
        ),
        line("fuel", &plain, limits.fuel, asked.fuel),
        line(
            "fuel_per_byte",
            &plain,
            limits.fuel_per_byte,
            asked.fuel_per_byte,
        ),
        line(
            "deadline_seconds",
            &seconds,
            deadline,
            asked.deadline_seconds,
        ),
        line(
            "output_bytes",
            &short_bytes,
            limits.output_bytes,
            asked.output_bytes,
        ),
        line("samples", &plain, limits.samples, asked.samples),
    ]
}
