//! What holds for every kernel's text, without a device: it is valid, and within WebGPU's guarantees.

use graft_kernels::QuantType;
use naga::back::hlsl::ShaderModel;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, TypeInner};

use super::File;
use crate::device::IMMEDIATE_BYTES;
use crate::shader::Key;

/// Every pipeline there can be, but for values of constants between the ones here.
fn every() -> Vec<Key> {
    let mut keys = vec![];
    for file in File::ALL {
        let constants: &[u32] = match file.constant() {
            Some("LINES") => &[1, 2, 4, 8],
            Some("LANES") => &[0x8_0008, 0x20_0020, 0x20_0040, 0x8_0080],
            Some("TOKENS") => &[1, 2, 4, 8],
            Some("KEEP") => &[0, 1, 2],
            Some(_) => &[1, 33, 64, 80, 128, 256, 512],
            None => &[0],
        };
        let types = QuantType::ALL.into_iter().filter(|&ty| file.reads(ty));
        let mut types: Vec<_> = types.map(Some).collect();
        if types.is_empty() {
            types.push(None);
        }
        for (&constant, &ty) in constants
            .iter()
            .flat_map(|c| types.iter().map(move |t| (c, t)))
        {
            for writable in [false, true] {
                keys.extend(file.entries().iter().map(|entry| Key {
                    file,
                    entry,
                    ty,
                    writable,
                    constant,
                }));
            }
        }
    }
    keys
}

/// What the validator lets a kernel use that says what it needs.
fn capabilities(needs: wgpu::Features) -> Capabilities {
    let known = [
        (wgpu::Features::SHADER_F16, Capabilities::SHADER_FLOAT16),
        (wgpu::Features::SUBGROUP, Capabilities::SUBGROUP),
        (
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
            Capabilities::COOPERATIVE_MATRIX,
        ),
    ];
    let named = known
        .into_iter()
        .filter(|(feature, _)| needs.contains(*feature));
    named.fold(Capabilities::empty(), |all, (_, capability)| {
        all | capability
    })
}

// No device that tests run on has Metal or Direct3D, or all that kernels may need of Vulkan: that each kernel can be
// written for them, as wgpu does it, is known even so.

/// Words of the kernel for Vulkan.
fn vulkan(module: &Module, info: &ModuleInfo) -> Result<usize, String> {
    let options = naga::back::spv::Options {
        lang_version: (1, 4),
        ..Default::default()
    };
    let written = naga::back::spv::write_vec(module, info, &options, None);
    Ok(written.map_err(|e| e.to_string())?.len())
}

/// Bytes of the kernel for Metal.
fn metal(module: &Module, info: &ModuleInfo, entry: &str) -> Result<usize, String> {
    let options = naga::back::msl::Options {
        // macOS 11 and iOS 14, the first with the matrix units' size.
        lang_version: (2, 3),
        ..Default::default()
    };
    let pipeline = naga::back::msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, entry.to_owned())),
        ..Default::default()
    };
    let written = naga::back::msl::write_string(module, info, &options, &pipeline);
    Ok(written.map_err(|e| e.to_string())?.0.len())
}

/// Bytes of the kernel for Direct3D with either of its compilers, where it has what the kernel needs.
fn direct3d(module: &Module, info: &ModuleInfo, key: Key) -> Result<usize, String> {
    let needs = key.file.needs();
    if needs.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return Ok(usize::MAX);
    }
    let old = needs.is_empty().then_some(ShaderModel::V5_1);
    let mut shortest = usize::MAX;
    for model in old.into_iter().chain([ShaderModel::V6_4]) {
        let options = naga::back::hlsl::Options {
            shader_model: model,
            immediates_target: Some(Default::default()),
            ..Default::default()
        };
        let pipeline = naga::back::hlsl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, key.entry.to_owned())),
        };
        let mut text = String::new();
        naga::back::hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(module, info, None)
            .map_err(|e| e.to_string())?;
        shortest = shortest.min(text.len());
    }
    Ok(shortest)
}

#[test]
fn every_kernel_is_valid_and_asks_for_no_more_than_every_device_has() {
    for key in every() {
        let (name, source) = (key.name(), key.source());
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&source)));
        let allowed = Capabilities::IMMEDIATES | capabilities(key.file.needs());
        let info = Validator::new(ValidationFlags::all(), allowed)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&source)));
        for (system, written) in [
            ("Vulkan", vulkan(&module, &info)),
            ("Metal", metal(&module, &info, key.entry)),
            ("Direct3D", direct3d(&module, &info, key)),
        ] {
            let written = written.unwrap_or_else(|e| panic!("{name} for {system}: {e}"));
            assert!(written > 0, "{name}: nothing is written for {system}");
        }
        for (function, body) in module.functions.iter() {
            for (_, expression) in body.expressions.iter() {
                if let naga::Expression::CooperativeLoad { data, .. } = expression {
                    let pointer = info[function][data.pointer].ty.inner_with(&module.types);
                    let to = pointer.pointer_base_type().unwrap();
                    let to = to.inner_with(&module.types);
                    // What is written for Metal takes no other.
                    assert!(matches!(to, TypeInner::Scalar(_)), "{name}: {to:?}");
                }
            }
        }
        let entry = module.entry_points.iter().position(|e| e.name == key.entry);
        let entry = entry.unwrap_or_else(|| panic!("{name} is not there"));
        let [x, y, z] = module.entry_points[entry].workgroup_size;
        assert!(x * y * z <= 256, "{name}: {x} x {y} x {z} threads");
        let (mut shared, mut arrays) = (0, 0);
        for (handle, global) in module.global_variables.iter() {
            if info.get_entry_point(entry)[handle].is_empty() {
                continue;
            }
            let size = module.types[global.ty].inner.size(module.to_ctx());
            match global.space {
                AddressSpace::WorkGroup => shared += size,
                AddressSpace::Storage { .. } => {
                    arrays += 1;
                    let number = global.binding.as_ref().map_or(0, |b| b.binding as usize);
                    assert!(number < key.file.arrays(), "{name}: array {number}");
                    let TypeInner::Array { .. } = module.types[global.ty].inner else {
                        panic!("{name}: a binding that is no array");
                    };
                }
                AddressSpace::Immediate => {
                    assert!(
                        size <= IMMEDIATE_BYTES,
                        "{name}: {size} bytes of immediates"
                    );
                    let TypeInner::Struct { members, .. } = &module.types[global.ty].inner else {
                        panic!("{name}: immediates are no struct");
                    };
                    let is_offset = |m: &naga::StructMember| {
                        m.name.as_ref().is_some_and(|name| name.ends_with("_at"))
                    };
                    let offsets = members.iter().take_while(|m| is_offset(m)).count();
                    assert_eq!(
                        offsets,
                        key.file.arrays(),
                        "{name}: an offset for each array"
                    );
                }
                other => assert_eq!(other, AddressSpace::Private, "{name}"),
            }
        }
        assert!(
            shared <= 16 << 10,
            "{name}: {shared} bytes of shared memory"
        );
        assert!(arrays <= 8, "{name}: {arrays} arrays");
    }
}
