//! Budget, arenas, and arrays in them.

use graft_gpu::{DeviceOptions, GpuError, Part, Recorder};
use graft_kernels::QuantType;

use crate::machine;

#[test]
fn nothing_is_allocated_above_the_budget() {
    let options = DeviceOptions {
        budget: Some(4 << 20),
        ..machine::options()
    };
    let Some(device) = machine::open(&options) else {
        return;
    };
    let before = device.memory().held;
    let weights = device.arena(Part::Weights, 2_000_000).unwrap();
    let held = before + weights.bytes();
    assert_eq!(device.memory().held, held);
    let refused = device.arena(Part::LayerBuffers, 3_000_000).unwrap_err();
    let GpuError::Budget {
        part: Part::LayerBuffers,
        asked,
        held: in_use,
        limit,
    } = refused
    else {
        panic!("{refused}");
    };
    assert!(asked >= 3_000_000);
    assert_eq!((in_use, limit), (held, 4 << 20));
    assert!(device.arena(Part::LayerBuffers, u64::MAX).is_err());
    drop(weights);
    let kept = device.arena(Part::LayerBuffers, 3_000_000).unwrap();
    let report = device.memory();
    assert!(report.parts.contains(&(Part::LayerBuffers, kept.bytes())));
    assert!(report.peak <= report.limit && report.held <= report.peak);
}

#[test]
fn an_arena_hands_out_what_was_planned_and_takes_it_back() {
    let Some(device) = machine::device() else {
        return;
    };
    let one = device.tensor_bytes(5, 7);
    let arena = device.arena(Part::LayerBuffers, 3 * one).unwrap();
    let mut tensors: Vec<_> = (0..3).map(|_| arena.tensor(5, 7).unwrap()).collect();
    assert_eq!(arena.held(), arena.bytes());
    let refused = arena.tensor(1, 1).unwrap_err();
    assert!(
        matches!(refused, GpuError::Arena { free: 0, .. }),
        "{refused}"
    );
    // The first and the last: two holes, neither large enough for both.
    let kept = tensors.remove(1);
    tensors.clear();
    assert!(arena.tensor(10, 7).is_err() || device.tensor_bytes(10, 7) <= one);
    drop(kept);
    assert_eq!(arena.held(), 0);
    let whole = (arena.bytes() / 4) as usize;
    let view = arena.tensor(1, whole).unwrap();
    // A view keeps what it is of.
    let part = view.reshape(whole, 1).unwrap().slice(3..5).unwrap();
    drop(view);
    assert!(arena.tensor(1, 1).is_err());
    drop(part);
    arena.tensor(1, 1).unwrap();
}

#[test]
fn wrong_shapes_are_refused_in_words() {
    let Some(device) = machine::device() else {
        return;
    };
    let floats = device.arena(Part::LayerBuffers, 1 << 12).unwrap();
    let weights = device.arena(Part::Weights, 1 << 12).unwrap();
    let tensor = floats.tensor(4, 3).unwrap();
    let mut refusals = vec![
        tensor.slice(2..5).unwrap_err(),
        tensor.reshape(5, 3).unwrap_err(),
        tensor.reshape(usize::MAX, 2).unwrap_err(),
        weights.tensor(1, 1).unwrap_err(),
        floats.matrix(QuantType::F32, 1, 1).unwrap_err(),
        weights.matrix(QuantType::Q4K, 1, 32).unwrap_err(),
        weights.matrix(QuantType::F32, 1, 0).unwrap_err(),
    ];
    #[allow(clippy::reversed_empty_ranges)]
    refusals.push(tensor.slice(3..2).unwrap_err());
    for refusal in refusals {
        assert!(matches!(refusal, GpuError::Shape { .. }), "{refusal}");
    }
    assert!(matches!(
        floats.tensor(usize::MAX, usize::MAX).unwrap_err(),
        GpuError::Arena { .. }
    ));
}

#[test]
fn a_matrix_larger_than_a_kernel_sees_lies_in_pieces() {
    let options = DeviceOptions {
        binding_bytes: Some(1000),
        ..machine::options()
    };
    let Some(device) = machine::open(&options) else {
        return;
    };
    // 18 bytes a block, 2 blocks a row: 27 rows fit 1000 bytes.
    let bytes = device.matrix_bytes(QuantType::Q4_0, 100, 64).unwrap();
    let weights = device.arena(Part::Weights, bytes).unwrap();
    let matrix = weights.matrix(QuantType::Q4_0, 100, 64).unwrap();
    assert_eq!((matrix.pieces(), matrix.bytes()), (4, 3600));
    assert_eq!(weights.held(), bytes);
    let refused = weights.matrix(QuantType::F32, 1, 251).unwrap_err();
    assert!(
        matches!(
            refused,
            GpuError::Limit {
                needed: 1004,
                offered: 1000,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn an_arena_larger_than_a_buffer_lies_in_several() {
    let options = DeviceOptions {
        buffer_bytes: Some(1 << 16),
        ..machine::options()
    };
    let Some(device) = machine::open(&options) else {
        return;
    };
    let arena = device.arena(Part::LayerBuffers, 3 << 16).unwrap();
    assert_eq!(arena.bytes(), 3 << 16);
    let tensors: Vec<_> = (0..3).map(|_| arena.tensor(1, 1 << 14).unwrap()).collect();
    assert_eq!(arena.held(), arena.bytes());
    let mut recorder = Recorder::new(&device).unwrap();
    for (i, tensor) in tensors.iter().enumerate() {
        recorder.fill(tensor, i as f32 + 1.0).unwrap();
    }
    recorder.add(&tensors[0], &tensors[1], 10.0).unwrap();
    recorder.add(&tensors[0], &tensors[2], 100.0).unwrap();
    recorder.submit().unwrap();
    let mut values = vec![0.0; 1 << 14];
    device.read(&tensors[0], &mut values).unwrap();
    assert!(values.iter().all(|&v| v == 321.0));
    drop(tensors);
    // No array lies in two buffers.
    let refused = arena.tensor(1, (1 << 14) + 1).unwrap_err();
    assert!(
        matches!(refused, GpuError::Arena { free: 65_536, .. }),
        "{refused}"
    );
}

/// As the layers of a model, which together are larger than a buffer may be.
#[test]
fn runs_lie_whole_where_a_buffer_ends() {
    let options = DeviceOptions {
        buffer_bytes: Some(1 << 16),
        ..machine::options()
    };
    let Some(device) = machine::open(&options) else {
        return;
    };
    // One buffer for the first, one for the next two.
    let rows = [10_000, 8_000, 8_000];
    let runs = rows.map(|width| device.tensor_bytes(1, width));
    let arena = device.arena_of(Part::LayerBuffers, runs).unwrap();
    assert_eq!(arena.bytes(), runs.iter().sum::<u64>());
    let tensors = rows.map(|width| arena.tensor(1, width).unwrap());
    assert_eq!(arena.held(), arena.bytes());
    drop(tensors);
    // In one run the second lies across the end.
    let arena = device.arena(Part::LayerBuffers, runs.iter().sum()).unwrap();
    let taken: Vec<_> = rows.iter().map(|&width| arena.tensor(1, width)).collect();
    assert!(matches!(taken[..], [Ok(_), Ok(_), Err(_)]), "{taken:?}");
}
