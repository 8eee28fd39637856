//! How much memory a device has, asked of Vulkan itself, because wgpu does not pass it on.
#![allow(unsafe_code)]

use crate::adapter::Heap;

/// The heaps of an adapter; none where it is not driven through Vulkan.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn of(adapter: &wgpu::Adapter) -> Vec<Heap> {
    // SAFETY: nothing is destroyed or changed through the handle.
    let Some(vulkan) = (unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }) else {
        return vec![];
    };
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: the physical device was enumerated by this instance, and both live as long as `vulkan`.
    let memory =
        unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter();
    heaps
        .take(memory.memory_heap_count as usize)
        .map(|heap| Heap {
            bytes: heap.size,
            // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
            on_device: heap.flags.as_raw() & 1 != 0,
        })
        .collect()
}

/// Metal does not say.
#[cfg(target_vendor = "apple")]
pub(crate) fn of(_: &wgpu::Adapter) -> Vec<Heap> {
    vec![]
}
