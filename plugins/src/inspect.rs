//! What a plugin's file says of itself, read without compiling or running anything.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::cache::hex;
use crate::error::PluginError;
use crate::grants::Grants;
use crate::limits::{Limits, Wanted};

/// The version of the interface that this host runs.
pub const INTERFACE: &str = "0.1.0";

const MANIFEST_SECTION: &str = "graft:manifest";

/// What a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Turns exports into samples.
    ConverterPlugin,
    /// Scores predictions.
    EvaluatorPlugin,
    /// Scores predictions with the help of a model.
    JudgePlugin,
}

/// What `graft plugin info` shows.
#[derive(Clone, Debug, Serialize)]
pub struct PluginInfo {
    /// The name it was loaded by.
    pub name: String,
    /// Its world.
    pub world: World,
    /// Bytes of its file.
    pub bytes: u64,
    /// Hash of its file, lower-case hexadecimal.
    pub sha256: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What its author wrote about it.
    pub manifest: Option<Manifest>,
    /// The limits it runs under: the host's, or less where its manifest asks for less.
    pub limits: Limits,
}

/// The custom section `graft:manifest`, in TOML; a plugin need not have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Stable name.
    pub id: String,
    /// Version of the plugin, not of the interface.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// SPDX expression.
    #[serde(default)]
    pub license: String,
    /// What it asks for.
    #[serde(default)]
    pub limits: Wanted,
}

impl World {
    /// Its name in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConverterPlugin => "converter-plugin",
            Self::EvaluatorPlugin => "evaluator-plugin",
            Self::JudgePlugin => "judge-plugin",
        }
    }

    fn interfaces(self) -> &'static [&'static str] {
        match self {
            Self::ConverterPlugin => &["types", "input", "host", "dataset"],
            Self::EvaluatorPlugin => &["types", "host", "dataset"],
            Self::JudgePlugin => &["types", "host", "dataset", "input", "model"],
        }
    }
}

/// Reads and checks a plugin's file: size, validity, world, imports, manifest.
pub fn inspect(
    name: &str,
    bytes: &[u8],
    limits: &Limits,
    grants: &Grants,
) -> Result<PluginInfo, PluginError> {
    let plugin = || name.to_owned();
    if bytes.len() as u64 > limits.plugin_bytes {
        return Err(PluginError::TooLarge {
            plugin: plugin(),
            bytes: bytes.len() as u64,
            limit: limits.plugin_bytes,
        });
    }
    let outside = Outside::read(bytes).map_err(|fault| match fault {
        Fault::CoreModule => PluginError::CoreModule { plugin: plugin() },
        Fault::Invalid(reason) => PluginError::Invalid {
            plugin: plugin(),
            // The parser shows bytes as a list, a line for each.
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        },
    })?;
    let world = world(name, &outside)?;
    check_imports(name, &outside.imports, world)?;
    if world == World::JudgePlugin && !grants.model {
        return Err(PluginError::ModelNotGranted { plugin: plugin() });
    }
    let manifest = outside.manifest.map(|section| {
        let text = std::str::from_utf8(&section).map_err(|e| e.to_string())?;
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    });
    let manifest = manifest.transpose();
    let manifest: Option<Manifest> = manifest.map_err(|reason| PluginError::Manifest {
        plugin: plugin(),
        reason,
    })?;
    let wanted = manifest.as_ref().map(|manifest| &manifest.limits);
    Ok(PluginInfo {
        name: plugin(),
        world,
        bytes: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
        imports: outside.imports,
        exports: outside.exports,
        limits: wanted.map_or_else(|| limits.clone(), |wanted| limits.granted(wanted)),
        manifest,
    })
}

/// The outermost level of a component.
#[derive(Default)]
struct Outside {
    imports: Vec<String>,
    exports: Vec<String>,
    manifest: Option<Vec<u8>>,
}

enum Fault {
    CoreModule,
    Invalid(String),
}

impl Outside {
    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let invalid = |error: wasmparser::BinaryReaderError| Fault::Invalid(error.to_string());
        let mut outside = Self::default();
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding, .. } => {
                    if depth == 0 && encoding == Encoding::Module {
                        return Err(Fault::CoreModule);
                    }
                    depth += 1;
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        outside
                            .imports
                            .push(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        outside
                            .exports
                            .push(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section)
                    if depth == 1 && section.name() == MANIFEST_SECTION =>
                {
                    outside.manifest = Some(section.data().to_vec());
                }
                _ => {}
            }
        }
        // The engine validates again when it compiles; here a fault is found before any
        // compiled code of the same bytes is looked for.
        Validator::new_with_features(WasmFeatures::default())
            .validate_all(bytes)
            .map_err(invalid)?;
        Ok(outside)
    }
}

fn world(name: &str, outside: &Outside) -> Result<World, PluginError> {
    let exports = |interface: &str| {
        let prefix = format!("graft:plugin/{interface}@");
        let mut found = outside.exports.iter();
        found.find(|export| export.starts_with(&prefix))
    };
    let (export, world) = match (exports("converter"), exports("evaluator")) {
        (Some(export), _) => (export, World::ConverterPlugin),
        (None, Some(export)) => {
            let asks_model = |import: &&str| import.starts_with("graft:plugin/model@");
            let mut imports = outside.imports.iter().map(String::as_str);
            match imports.find(asks_model) {
                Some(_) => (export, World::JudgePlugin),
                None => (export, World::EvaluatorPlugin),
            }
        }
        (None, None) => {
            return Err(PluginError::NoWorld {
                plugin: name.to_owned(),
            });
        }
    };
    match is_our_version(export) {
        true => Ok(world),
        false => Err(PluginError::Version {
            plugin: name.to_owned(),
            export: export.clone(),
            ours: INTERFACE,
        }),
    }
}

fn check_imports(name: &str, imports: &[String], world: World) -> Result<(), PluginError> {
    for import in imports {
        let plugin = name.to_owned();
        if import.starts_with("wasi:") || import.starts_with("wasi_snapshot") {
            let import = import.clone();
            return Err(PluginError::Wasi { plugin, import });
        }
        let offered = import
            .strip_prefix("graft:plugin/")
            .and_then(|rest| rest.split_once('@'))
            .is_some_and(|(interface, _)| {
                world.interfaces().contains(&interface) && is_our_version(import)
            });
        if !offered {
            return Err(PluginError::Import {
                plugin,
                import: import.clone(),
                world: world.name(),
            });
        }
    }
    Ok(())
}

/// `…@0.1.x`: while the interface is 0.x, each minor version breaks.
fn is_our_version(interface: &str) -> bool {
    let (series, _) = INTERFACE.rsplit_once('.').unwrap_or((INTERFACE, ""));
    let version = interface
        .rsplit_once('@')
        .map_or("", |(_, version)| version);
    let patch = version
        .strip_prefix(series)
        .and_then(|p| p.strip_prefix('.'));
    patch.is_some_and(|patch| patch.parse::<u32>().is_ok())
}
