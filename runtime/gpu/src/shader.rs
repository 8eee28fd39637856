//! From WGSL to pipelines, made when first used and kept.
//!
//! This is the one place where checks of indices are turned off, so it may use `unsafe`.
#![allow(unsafe_code)]

use std::sync::Arc;

use graft_kernels::QuantType;

use crate::device::Inner;
use crate::kernels::File;
use crate::{GpuError, Result};

/// One pipeline: an entry point of a kernel's file, and what its text is put together from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) file: File,
    pub(crate) entry: &'static str,
    /// How weights are stored, where it reads any.
    pub(crate) ty: Option<QuantType>,
    /// Whether the weights lie in a buffer that the same call writes.
    pub(crate) writable: bool,
    /// The value of the file's constant, where it has one.
    pub(crate) constant: u32,
}

impl Key {
    /// An entry point of a file that has no variants.
    pub(crate) fn of(file: File, entry: &'static str) -> Self {
        Self {
            file,
            entry,
            ty: None,
            writable: false,
            constant: 0,
        }
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> String {
        let ty = self.ty.map(|ty| format!(" of {ty}")).unwrap_or_default();
        format!("{} {}{ty}", self.file.name(), self.entry)
    }

    /// The kernel's whole text.
    pub(crate) fn source(&self) -> String {
        let constant = match self.file.constant() {
            Some(name) => format!("const {name} = {}u;\n", self.constant),
            None => String::new(),
        };
        let weights = self.ty.map(|ty| {
            let access = if self.writable { "read_write" } else { "read" };
            crate::kernels::decode(ty, access)
        });
        let parts = [
            self.file.extensions().to_owned(),
            constant,
            weights.unwrap_or_default(),
            self.file.prelude().to_owned(),
            self.file.text().to_owned(),
        ];
        parts.concat()
    }
}

/// A kernel ready to run.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

impl Inner {
    /// The pipeline of a key, compiled if this is its first use.
    ///
    /// # Errors
    /// If the driver refuses the kernel, or the device is lost.
    pub(crate) fn pipeline(&self, key: Key) -> Result<Arc<Pipeline>> {
        // Compiled with the table locked: two threads do not compile the same one.
        let mut pipelines = self.pipelines();
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let made = self.scoped(|| self.compile(key));
        let refused = |reason| GpuError::Shader {
            kernel: key.name(),
            adapter: self.adapter_name().to_owned(),
            reason,
        };
        let pipeline = match (made, self.failure.check()) {
            (Ok(pipeline), Ok(())) => pipeline,
            // wgpu takes a device for lost whose driver answers what it does not expect.
            (_, Err(GpuError::Lost { reason, .. })) if reason.starts_with("Unexpected") => {
                return Err(refused(reason));
            }
            (_, Err(failure)) => return Err(failure),
            (Err(error), Ok(())) => return Err(refused(error.to_string())),
        };
        let pipeline = Arc::new(pipeline);
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, key: Key) -> Pipeline {
        let name = key.name();
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(&name),
            source: wgpu::ShaderSource::Wgsl(key.source().into()),
        };
        let module = if self.checked {
            self.device.create_shader_module(module)
        } else {
            let checks = wgpu::ShaderRuntimeChecks::unchecked();
            // SAFETY: the text is ours. Its indices stay inside what is bound if the sizes it is given
            // are true, which the operators of `Recorder` check before each call; a value that is read
            // from memory and used as an index is compared in the kernel. Every loop ends at a size.
            // Tests run the same text checked.
            unsafe { self.device.create_shader_module_trusted(module, checks) }
        };
        let pipeline = wgpu::ComputePipelineDescriptor {
            label: Some(&name),
            layout: None,
            module: &module,
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes shared memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.compiled.as_ref().map(|compiled| &compiled.pipelines),
        };
        let pipeline = self.device.create_compute_pipeline(&pipeline);
        Pipeline {
            layout: pipeline.get_bind_group_layout(0),
            pipeline,
        }
    }
}
