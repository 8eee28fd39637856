//! Functions of `graft.h`, as far as tests in Rust call them.
//!
//! Objects and addresses are numbers here, and calling is safe to write: what these tests give is NULL, an object, or
//! leads to as much as `graft.h` asks for, for as long as it asks for it.
#![allow(unsafe_code)] // declarations of what C programs call
#![allow(missing_docs)] // see graft.h
#![allow(dead_code)] // each test calls some of them

// What answers the names below.
use graft_abi as _;

/// A `graft_status`.
pub type Status = i32;
/// An object of any kind; 0 is NULL.
pub type Object = usize;
/// Where something is or goes; 0 is NULL.
pub type Address = usize;

// SAFETY: the signatures are those of graft.h, with numbers of a pointer's size for pointers.
unsafe extern "C" {
    pub safe fn graft_library_abi() -> u32;
    pub safe fn graft_status_name(status: Status) -> Address;
    pub safe fn graft_error_status(error: Object) -> Status;
    pub safe fn graft_error_message(error: Object) -> Address;
    pub safe fn graft_error_detail(error: Object, key: Address) -> Address;
    pub safe fn graft_error_json(error: Object, out: &mut Object) -> Status;
    pub safe fn graft_error_release(error: Object);
    pub safe fn graft_buffer_data(buffer: Object) -> Address;
    pub safe fn graft_buffer_size(buffer: Object) -> usize;
    pub safe fn graft_buffer_release(buffer: Object);
    pub safe fn graft_cancel_create(out: &mut Object) -> Status;
    pub safe fn graft_cancel_signal(cancel: Object);
    pub safe fn graft_cancel_is_signalled(cancel: Object) -> i32;
    pub safe fn graft_cancel_reset(cancel: Object);
    pub safe fn graft_cancel_release(cancel: Object);
    pub safe fn graft_runtime_create(options: Address, out: &mut Object, err: Address) -> Status;
    pub safe fn graft_runtime_release(runtime: Object);
    pub safe fn graft_runtime_set_log(
        runtime: Object,
        level: u32,
        log: Address,
        userdata: Address,
        destroy: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_runtime_memory(runtime: Object, out: Address) -> Status;

    pub safe fn graft_model_open(
        runtime: Object,
        path: Address,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_model_open_source(
        runtime: Object,
        source: Address,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_model_retain(model: Object);
    pub safe fn graft_model_release(model: Object);
    pub safe fn graft_model_get_info(model: Object, out: Address) -> Status;
    pub safe fn graft_model_metadata(
        model: Object,
        key: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_model_tensors(model: Object, out: &mut Object, err: Address) -> Status;

    pub safe fn graft_token_encode(
        model: Object,
        text: Address,
        length: usize,
        flags: u32,
        tokens: Address,
        capacity: usize,
        needed: &mut usize,
        err: Address,
    ) -> Status;
    pub safe fn graft_token_decode(
        model: Object,
        tokens: Address,
        n_tokens: usize,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_token_piece(
        model: Object,
        token: i32,
        bytes: Address,
        capacity: usize,
        needed: &mut usize,
        err: Address,
    ) -> Status;
    pub safe fn graft_token_special(model: Object, name: Address) -> i32;
    pub safe fn graft_token_is_end(model: Object, token: i32) -> i32;
    pub safe fn graft_chat_render(
        model: Object,
        messages: Address,
        n_messages: usize,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_chat_encode(
        model: Object,
        messages: Address,
        n_messages: usize,
        options: Address,
        tokens: Address,
        capacity: usize,
        needed: &mut usize,
        err: Address,
    ) -> Status;

    pub safe fn graft_image_decode(
        runtime: Object,
        data: Address,
        size: usize,
        limits: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_image_from_pixels(
        runtime: Object,
        pixels: Address,
        width: u32,
        height: u32,
        stride: usize,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_image_release(image: Object);
    pub safe fn graft_image_get_info(image: Object, out: Address) -> Status;
    pub safe fn graft_image_pixels(image: Object) -> Address;

    pub safe fn graft_adapter_open(
        model: Object,
        path: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_open_source(
        model: Object,
        source: Address,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_retain(adapter: Object);
    pub safe fn graft_adapter_release(adapter: Object);
    pub safe fn graft_adapter_get_info(adapter: Object, out: Address) -> Status;
    pub safe fn graft_adapter_metadata(adapter: Object, out: &mut Object, err: Address) -> Status;
    pub safe fn graft_adapter_check(adapter: Object, model: Object, err: Address) -> Status;
    pub safe fn graft_adapter_save(
        adapter: Object,
        path: Address,
        options: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_combine(
        adapters: Address,
        n_adapters: usize,
        name: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_compress(
        runtime: Object,
        adapter: Object,
        options: Address,
        out: &mut Object,
        report: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_difference(
        base_path: Address,
        tuned_path: Address,
        options: Address,
        out: &mut Object,
        report: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_merge(
        base_path: Address,
        adapters: Address,
        n_adapters: usize,
        output_path: Address,
        options: Address,
        report: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_scale(
        adapter: Object,
        factor: f32,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_adapter_rename(
        adapter: Object,
        name: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;

    pub safe fn graft_session_create(
        model: Object,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_fork(
        session: Object,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_release(session: Object);
    pub safe fn graft_session_get_info(session: Object, out: Address) -> Status;
    pub safe fn graft_session_tokens(
        session: Object,
        tokens: Address,
        capacity: usize,
        needed: &mut usize,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_truncate(session: Object, n_positions: u32, err: Address) -> Status;
    pub safe fn graft_session_feed(
        session: Object,
        tokens: Address,
        n_tokens: usize,
        cancel: Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_feed_image(
        session: Object,
        image: Object,
        cancel: Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_logits(
        session: Object,
        cancel: Object,
        logits: &mut Address,
        n_logits: &mut usize,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_logprobs(
        session: Object,
        tokens: Address,
        n_tokens: usize,
        cancel: Object,
        out: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_set_adapters(
        session: Object,
        adapters: Address,
        n_adapters: usize,
        flags: u32,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_adapters(
        session: Object,
        adapters: Address,
        capacity: usize,
        needed: &mut usize,
        err: Address,
    ) -> Status;
    pub safe fn graft_session_generate(
        session: Object,
        request: Address,
        out: Address,
        err: Address,
    ) -> Status;

    pub safe fn graft_session_reset(session: Object, err: Address) -> Status;
    pub safe fn graft_session_generate_start(
        session: Object,
        request: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;

    pub safe fn graft_job_wait(job: Object, timeout_ms: u64, err: Address) -> Status;
    pub safe fn graft_job_next_event(job: Object, timeout_ms: u64, out: Address) -> Status;
    pub safe fn graft_job_event_fd(job: Object, out: &mut isize, err: Address) -> Status;
    pub safe fn graft_job_cancel(job: Object);
    pub safe fn graft_job_release(job: Object);

    pub safe fn graft_registry_create(
        model: Object,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_registry_release(registry: Object);
    pub safe fn graft_registry_publish(
        registry: Object,
        name: Address,
        adapter: Object,
        how: u32,
        expected: Address,
        generation: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_registry_get(
        registry: Object,
        name: Address,
        out: &mut Object,
        generation: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_registry_pin(
        registry: Object,
        name: Address,
        pinned: i32,
        err: Address,
    ) -> Status;
    pub safe fn graft_registry_unload(registry: Object, name: Address, err: Address) -> Status;
    pub safe fn graft_registry_list(registry: Object, out: &mut Object, err: Address) -> Status;
    pub safe fn graft_batch_create(
        model: Object,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_batch_release(batch: Object);
    pub safe fn graft_batch_feed(
        batch: Object,
        inputs: Address,
        n_inputs: usize,
        cancel: Object,
        err: Address,
    ) -> Status;

    pub safe fn graft_dataset_open(
        path: Address,
        image_folder: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_dataset_release(dataset: Object);
    pub safe fn graft_dataset_count(dataset: Object, out: &mut u64) -> Status;
    pub safe fn graft_dataset_sample(
        dataset: Object,
        index: u64,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_dataset_check(
        dataset: Object,
        options: Address,
        function: Address,
        userdata: Address,
        n_errors: &mut u64,
        err: Address,
    ) -> Status;
    pub safe fn graft_plan_session(
        model: Object,
        n_context: u32,
        n_chunk: u32,
        memory_budget: u64,
        out: Address,
        details: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_plan_training(
        model: Object,
        data: Object,
        eval_data: Object,
        options: Address,
        out: Address,
        details: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_trainer_create(
        model: Object,
        data: Object,
        eval_data: Object,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_trainer_release(trainer: Object);
    pub safe fn graft_trainer_start(trainer: Object, out: &mut Object, err: Address) -> Status;
    pub safe fn graft_trainer_pause(trainer: Object);
    pub safe fn graft_trainer_step(
        trainer: Object,
        n_steps: u64,
        cancel: Object,
        out: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_trainer_checkpoint(
        trainer: Object,
        path: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_trainer_resume(trainer: Object, path: Address, err: Address) -> Status;
    pub safe fn graft_trainer_metrics(trainer: Object, out: Address) -> Status;
    pub safe fn graft_trainer_adapter(trainer: Object, out: &mut Object, err: Address) -> Status;

    pub safe fn graft_gguf_quantize(
        input: Address,
        output: Address,
        kind: Address,
        options: Address,
        report: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_gguf_import(
        folder: Address,
        output: Address,
        projector: Address,
        kind: Address,
        vision_tower: Address,
        options: Address,
        report: Address,
        err: Address,
    ) -> Status;

    pub safe fn graft_plugin_load(
        runtime: Object,
        path: Address,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_plugin_load_memory(
        runtime: Object,
        name: Address,
        wasm: Address,
        size: usize,
        options: Address,
        out: &mut Object,
        err: Address,
    ) -> Status;
    pub safe fn graft_plugin_release(plugin: Object);
    pub safe fn graft_plugin_info(plugin: Object, out: &mut Object, err: Address) -> Status;
    pub safe fn graft_plugin_detect(
        plugin: Object,
        head: Address,
        size: usize,
        name: Address,
        out: &mut u32,
        err: Address,
    ) -> Status;
    pub safe fn graft_plugin_convert(
        plugin: Object,
        request: Address,
        report: Address,
        err: Address,
    ) -> Status;
    pub safe fn graft_evaluation_run(request: Address, report: &mut Object, err: Address)
    -> Status;
}
