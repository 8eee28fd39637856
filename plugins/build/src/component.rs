//! From a core module to a plugin: a component with its manifest inside.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, CustomSection};
use wit_component::ComponentEncoder;

/// Name of the custom section that holds the manifest.
const MANIFEST_SECTION: &str = "graft:manifest";

/// Encodes `module`, which carries its world, as a component; appends `manifest`.
pub fn encode(module: &[u8], manifest: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    let mut component = component.map_err(|e| format!("{e:#}"))?;
    let section = CustomSection {
        name: Cow::Borrowed(MANIFEST_SECTION),
        data: Cow::Borrowed(manifest),
    };
    section.append_to_component(&mut component);
    Ok(component)
}
