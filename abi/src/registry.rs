//! Registries: a model's adapters by name, which change while sessions run.

use std::sync::Arc;

use graft::adapter::{Generation, Limits, Publish, Registry};
use serde_json::{Value as Json, json};

use crate::adapter::AdapterObject;
use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::{Handle, shared_kind};
use crate::model::ModelObject;
use crate::pointer::{In, Out, OutStruct, Text};
use crate::status::graft_status;
use crate::structs::{CStruct, c_struct, number};

/// Only under a name that is free.
pub const GRAFT_PUBLISH_CREATE: u32 = 0;
/// Under any name.
pub const GRAFT_PUBLISH_REPLACE: u32 = 1;
/// Only if the name stands for the generation that is expected.
pub const GRAFT_PUBLISH_SWAP: u32 = 2;

/// Room for the digits of a generation and a NUL.
pub const GRAFT_GENERATION_SIZE: u32 = 65;

/// A registry. It keeps its model with the runtime that this takes threads from.
pub struct RegistryObject {
    registry: Registry,
    _model: Arc<ModelObject>,
}

shared_kind!(
    RegistryObject,
    "registry",
    graft_registry_retain,
    graft_registry_release
);

c_struct! {
    /// How much a registry may hold in memory at once.
    graft_registry_options {
        /// Adapters; 0 for any number.
        max_adapters: u32,
        /// Their bytes together; 0 for any number.
        max_bytes: u64,
    }
}

c_struct! {
    /// What a registry holds.
    graft_registry_info {
        /// Names.
        n_names: u32,
        /// Bytes of the adapters in memory.
        bytes: u64,
        /// Most of them; 0 for any number.
        max_bytes: u64,
        /// Adapters in memory, those that lost their name but are in use included.
        n_in_memory: u32,
        /// Most of them; 0 for any number.
        max_adapters: u32,
    }
}

impl graft_registry_options {
    fn limits(&self) -> Limits {
        Limits {
            bytes: match self.max_bytes {
                0 => u64::MAX,
                most => most,
            },
            generations: match self.max_adapters {
                0 => usize::MAX,
                most => most as usize,
            },
        }
    }
}

impl RegistryObject {
    fn info(&self) -> graft_registry_info {
        let limits = self.registry.limits();
        let limit = |most: u64| if most == u64::MAX { 0 } else { most };
        graft_registry_info {
            n_names: number(self.registry.aliases().len()),
            bytes: self.registry.bytes().0,
            max_bytes: limit(limits.bytes),
            n_in_memory: number(self.registry.resident().len()),
            max_adapters: match limits.generations {
                usize::MAX => 0,
                most => number(most),
            },
            ..graft_registry_info::zeroed()
        }
    }

    fn list(&self) -> Json {
        let names = self.registry.names();
        let names = names.iter().map(|named| {
            json!({
                "name": named.alias, "generation": named.generation.to_string(),
                "pinned": named.pinned, "in_memory": named.in_memory,
            })
        });
        let resident = self.registry.resident();
        let resident = resident.iter().map(
            |(generation, bytes)| json!({"generation": generation.to_string(), "bytes": bytes}),
        );
        json!({
            "names": names.collect::<Vec<_>>(),
            "in_memory": resident.collect::<Vec<_>>(),
        })
    }
}

/// When publishing is allowed, as a program says it.
fn publish(how: u32, expected: &Text) -> Result<Publish, Fault> {
    let expected = expected.optional("expected")?;
    match (how, expected) {
        (GRAFT_PUBLISH_CREATE, None) => Ok(Publish::Create),
        (GRAFT_PUBLISH_REPLACE, None) => Ok(Publish::Replace),
        (GRAFT_PUBLISH_CREATE | GRAFT_PUBLISH_REPLACE, Some(_)) => Err(Fault::argument(
            "expected is for GRAFT_PUBLISH_SWAP; give NULL otherwise",
        )),
        (GRAFT_PUBLISH_SWAP, Some(digits)) => match Generation::parse(digits) {
            Some(generation) => Ok(Publish::Swap(generation)),
            None => {
                let message =
                    format!("expected is {digits:?}; a generation is 64 hexadecimal digits");
                Err(Fault::argument(message).with("field", "expected"))
            }
        },
        (GRAFT_PUBLISH_SWAP, None) => Err(Fault::argument(
            "GRAFT_PUBLISH_SWAP needs the generation that is expected",
        )),
        _ => Err(Fault::argument(format!("how is {how}; 0 to 2 are known"))),
    }
}

/// Writes the digits of a generation, with a NUL behind them.
fn tell(out: &Out<u8>, generation: Generation) {
    let mut room = [0; GRAFT_GENERATION_SIZE as usize];
    for (place, digit) in room.iter_mut().zip(generation.to_string().bytes()) {
        *place = digit;
    }
    out.set_all(&room);
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_create(
    model: Handle<ModelObject>,
    options: In<graft_registry_options>,
    out: Out<Handle<RegistryObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_create", err, || {
        let (model, options) = (model.get()?, options.read()?);
        out.give(RegistryObject {
            registry: Registry::new(Arc::clone(model.model()), options.limits()),
            _model: model,
        })?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_load(
    registry: Handle<RegistryObject>,
    name: Text,
    path: Text,
    how: u32,
    expected: Text,
    generation: Out<u8>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_load", err, || {
        let (registry, name) = (registry.get()?, name.required("name")?);
        let (path, how) = (path.path("path")?, publish(how, &expected)?);
        tell(&generation, registry.registry.load(name, path, how)?);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_publish(
    registry: Handle<RegistryObject>,
    name: Text,
    adapter: Handle<AdapterObject>,
    how: u32,
    expected: Text,
    generation: Out<u8>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_publish", err, || {
        let (registry, name) = (registry.get()?, name.required("name")?);
        let (adapter, how) = (adapter.get()?.shared(), publish(how, &expected)?);
        tell(&generation, registry.registry.publish(name, adapter, how)?);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_get(
    registry: Handle<RegistryObject>,
    name: Text,
    out: Out<Handle<AdapterObject>>,
    generation: Out<u8>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_get", err, || {
        let (registry, name) = (registry.get()?, name.required("name")?);
        out.check("out")?;
        let lease = registry.registry.lease(name)?;
        out.give(AdapterObject::new(lease.adapter))?;
        tell(&generation, lease.generation);
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_pin(
    registry: Handle<RegistryObject>,
    name: Text,
    pinned: i32,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_pin", err, || {
        let (registry, name) = (registry.get()?, name.required("name")?);
        registry.registry.pin(name, pinned != 0)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_unload(
    registry: Handle<RegistryObject>,
    name: Text,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_unload", err, || {
        let (registry, name) = (registry.get()?, name.required("name")?);
        registry.registry.retire(name)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_list(
    registry: Handle<RegistryObject>,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_registry_list", err, || {
        out.give(buffer::json(&registry.get()?.list()))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_registry_get_info(
    registry: Handle<RegistryObject>,
    out: OutStruct<graft_registry_info>,
) -> graft_status {
    call::status("graft_registry_get_info", || {
        let registry = registry.get()?;
        out.check("out")?;
        out.set(&registry.info())?;
        DONE
    })
}
