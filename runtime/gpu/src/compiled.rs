//! Compiled pipelines on disk, where the driver gives them out (Vulkan).
//!
//! This is where a driver is handed bytes from a file, so it may use `unsafe`.
#![allow(unsafe_code)]

use crate::cache::{Cache, name_of};

/// What a device compiled, this time and before.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) pipelines: wgpu::PipelineCache,
    cache: Cache,
    name: String,
    /// What the file held.
    before: Option<Vec<u8>>,
}

impl Compiled {
    /// What the cache has for a device; `None` if its driver gives nothing out.
    pub(crate) fn open(
        device: &wgpu::Device,
        info: &wgpu::AdapterInfo,
        cache: Cache,
    ) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(info)?;
        let driver = [&*info.name, &info.driver, &info.driver_info];
        let version = [key.as_str(), env!("CARGO_PKG_VERSION")];
        let name = name_of("pipelines", version.into_iter().chain(driver));
        let before = cache.load(&name);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: None,
            data: before.as_deref(),
            fallback: true,
        };
        // SAFETY: the bytes are what `PipelineCache::get_data` gave `Compiled::store` for this device and driver,
        // which the name says: their hash stands before them, and the folder is writable only by this user, who
        // can run any code anyway. wgpu and the driver themselves refuse those of another device or driver.
        let pipelines = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self {
            pipelines,
            cache,
            name,
            before,
        })
    }

    /// Keeps what was compiled, if anything was.
    pub(crate) fn store(&self) {
        let now = self.pipelines.get_data().filter(|data| !data.is_empty());
        if let Some(data) = now.filter(|data| self.before.as_ref() != Some(data)) {
            self.cache.store(&self.name, &data);
        }
    }
}
