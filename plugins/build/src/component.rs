//! From what a compiler made to a plugin: a component with its manifest inside.

use std::borrow::Cow;
use std::fmt::Display;

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap, UnresolvedPackageGroup};

/// Name of the custom section that holds the manifest.
const MANIFEST_SECTION: &str = "graft:manifest";

/// Beginning of the name of the section in which a module carries its world.
const WORLD_SECTION: &str = "component-type";

macro_rules! interface {
    ($($file:literal)*) => { &[$(($file, include_str!(concat!("../../wit/0.1.0/", $file)))),*] };
}

/// The interface, file by file.
const INTERFACE: &[(&str, &str)] = interface! {
    "converter.wit" "dataset.wit" "evaluator.wit" "host.wit" "input.wit" "types.wit"
};

/// Encodes `compiled`, a module or already a component, as a component and appends `manifest`.
///
/// A module may carry its world, as Rust's do; for one that does not, as those of C, the world is that of
/// its exports.
pub fn encode(compiled: &[u8], manifest: &[u8]) -> Result<Vec<u8>, String> {
    let mut component = if Parser::is_component(compiled) {
        compiled.to_vec()
    } else if Parser::is_core_wasm(compiled) {
        of_module(compiled)?
    } else {
        return Err("it is no WebAssembly".into());
    };
    let section = CustomSection {
        name: Cow::Borrowed(MANIFEST_SECTION),
        data: Cow::Borrowed(manifest),
    };
    section.append_to_component(&mut component);
    Ok(component)
}

fn of_module(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut module = module.to_vec();
    if let Some(world) = world_by_exports(&module).map_err(one_line)? {
        let mut resolve = Resolve::default();
        let package = resolve.push_group(interface()?).map_err(one_line)?;
        let world = resolve.select_world(&[package], Some(world));
        let world = world.map_err(one_line)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(one_line)?;
    }
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    component.map_err(one_line)
}

/// The world that a module's exports say it is of; `None` if it carries one, or exports none.
fn world_by_exports(module: &[u8]) -> Result<Option<&'static str>, wasmparser::BinaryReaderError> {
    let (mut world, mut asks_model) = (None, false);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CustomSection(section) if section.name().starts_with(WORLD_SECTION) => {
                return Ok(None);
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    asks_model |= import?.module.starts_with("graft:plugin/model@");
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let name = export?.name;
                    if name.starts_with("graft:plugin/converter@") {
                        world = Some("converter-plugin");
                    } else if name.starts_with("graft:plugin/evaluator@") {
                        world = Some("evaluator-plugin");
                    }
                }
            }
            _ => {}
        }
    }
    Ok(match world {
        Some("evaluator-plugin") if asks_model => Some("judge-plugin"),
        world => world,
    })
}

fn interface() -> Result<UnresolvedPackageGroup, String> {
    let mut sources = SourceMap::default();
    for (name, text) in INTERFACE {
        sources.push_str(name, *text);
    }
    sources.parse().map_err(|(_, error)| one_line(error))
}

/// A reason that was spread over several lines, as one sentence.
fn one_line(reason: impl Display) -> String {
    let text = format!("{reason:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
