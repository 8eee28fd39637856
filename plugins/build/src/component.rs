//! From a core module to a plugin: a component with its manifest inside.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, CustomSection};
use wit_component::ComponentEncoder;

/// Name of the custom section that holds the manifest.
const MANIFEST_SECTION: &str = "graft:manifest";

/// Encodes `module`, which carries its world, as a component; appends `manifest`.
pub fn encode(module: &[u8], manifest: &[u8]) -> Result<Vec<u8>, String> {
    if !module.starts_with(b"\0asm") {
        return Err("it is no WebAssembly module".into());
    }
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    let mut component = component.map_err(|e| one_line(&format!("{e:#}")))?;
    let section = CustomSection {
        name: Cow::Borrowed(MANIFEST_SECTION),
        data: Cow::Borrowed(manifest),
    };
    section.append_to_component(&mut component);
    Ok(component)
}

/// A reason that the encoder spread over several lines, as one sentence.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
