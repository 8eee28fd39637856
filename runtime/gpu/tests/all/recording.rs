//! Recorders, the upload ring, downloads.

use graft_gpu::{DeviceOptions, GpuError, Part, Recorder};
use graft_kernels::QuantType;

use crate::arrays::{Bench, Random};
use crate::machine;

/// Slots of 64 KiB: 256 KiB on the way up, as many on the way down.
fn small() -> DeviceOptions {
    DeviceOptions {
        budget: Some(8 << 20),
        ..machine::options()
    }
}

#[test]
fn more_than_the_ring_holds_goes_through_it() {
    let Some(device) = machine::open(&small()) else {
        return;
    };
    let staging = device.memory().parts;
    let [(Part::Upload, up), (Part::Download, down)] = staging[..] else {
        panic!("{staging:?}");
    };
    let mut random = Random::new(70);
    let floats = (5 * up.max(down) / 4) as usize + 5;
    let values = random.floats(floats);
    let arena = device
        .arena(Part::LayerBuffers, 4 * floats as u64 + 256)
        .unwrap();
    let tensor = arena.tensor(1, floats).unwrap();
    let mut recorder = Recorder::new(&device).unwrap();
    recorder.write(&tensor, &values).unwrap();
    recorder.submit().unwrap().wait().unwrap();
    let mut back = vec![0.0; floats];
    device.read(&tensor, &mut back).unwrap();
    assert!(back == values);
    // Too much at once for a single download.
    let refused = Recorder::new(&device).unwrap().read(&tensor).unwrap_err();
    assert_eq!(refused, GpuError::StagingBusy { op: "read" });
}

#[test]
fn commands_run_in_the_order_in_which_they_are_submitted() {
    let Some(device) = machine::device() else {
        return;
    };
    let arena = device.arena(Part::LayerBuffers, 4 << 10).unwrap();
    let (x, sum) = (arena.tensor(1, 100).unwrap(), arena.tensor(1, 100).unwrap());
    let (mut early, mut late) = (
        Recorder::new(&device).unwrap(),
        Recorder::new(&device).unwrap(),
    );
    late.write(&x, &[2.0; 100]).unwrap();
    late.add(&sum, &x, 1.0).unwrap();
    let after = late.read(&sum).unwrap();
    early.write(&x, &[1.0; 100]).unwrap();
    early.fill(&sum, 0.0).unwrap();
    early.add(&sum, &x, 1.0).unwrap();
    early.write(&x, &[10.0; 100]).unwrap();
    early.add(&sum, &x, 1.0).unwrap();
    let before = early.read(&sum).unwrap();
    // An array that was dropped stays until it was used, though its place is given away.
    drop(x);
    let other = arena.tensor(1, 100).unwrap();
    early.submit().unwrap();
    late.submit().unwrap();
    let mut next = Recorder::new(&device).unwrap();
    next.fill(&other, -1.0).unwrap();
    next.submit().unwrap();
    let mut values = [0.0; 100];
    after.wait(&mut values).unwrap();
    assert_eq!(values, [13.0; 100]);
    before.wait(&mut values).unwrap();
    assert_eq!(values, [11.0; 100]);
}

#[test]
fn what_is_not_submitted_does_not_happen_and_gives_back_what_it_held() {
    let Some(device) = machine::open(&small()) else {
        return;
    };
    let arena = device.arena(Part::LayerBuffers, 1 << 20).unwrap();
    let tensor = arena.tensor(1, 63 << 10).unwrap();
    let zeros = vec![0.0; tensor.len()];
    let ones = vec![1.0; tensor.len()];
    // Two slots: as many as a recorder holds before it submits by itself.
    let half = tensor.reshape(63, 1 << 10).unwrap().slice(0..32).unwrap();
    let mut recorder = Recorder::new(&device).unwrap();
    recorder.write(&tensor, &zeros).unwrap();
    recorder.submit().unwrap();
    for _ in 0..10 {
        let mut recorder = Recorder::new(&device).unwrap();
        recorder.write(&half, &ones[..half.len()]).unwrap();
        let download = recorder.read(&tensor.reshape(7, 9 << 10).unwrap().slice(0..6).unwrap());
        drop(recorder);
        let download = download.unwrap();
        let mut out = vec![0.0; download.len()];
        assert!(download.wait(&mut out).is_err());
    }
    let mut back = ones;
    device.read(&tensor, &mut back).unwrap();
    assert!(back == zeros);
    // All staging in the hands of two recorders: another is told so, in time.
    let mut holders = [(); 2].map(|()| Recorder::new(&device).unwrap());
    for holder in &mut holders {
        holder.write(&half, &zeros[..half.len()]).unwrap();
    }
    let mut other = Recorder::new(&device).unwrap();
    let refused = other.write(&half, &zeros[..half.len()]).unwrap_err();
    assert_eq!(refused, GpuError::StagingBusy { op: "write" });
    drop(holders);
    other.write(&half, &zeros[..half.len()]).unwrap();
}

#[test]
fn blocks_of_odd_length_are_uploaded_to_the_byte() {
    let Some(device) = machine::device() else {
        return;
    };
    let (bench, mut random) = (Bench::new(&device), Random::new(71));
    // 3 rows of 18 bytes, then of 2: neither is whole words. A neighbour must not be touched.
    for (ty, inputs) in [(QuantType::Q4_0, 32), (QuantType::F16, 1)] {
        let (bytes, decoded) = random.matrix(ty, 3 * inputs);
        let (one, two) = (
            bench.matrix(ty, 3, inputs, &bytes),
            bench.matrix(ty, 3, inputs, &bytes),
        );
        bench.record(|r| r.write_matrix(&one, &vec![0xff; bytes.len()]));
        let y = bench.tensor(&vec![0.0; 3 * inputs], inputs);
        let ids = bench.ids(&[0, 1, 2], 3);
        bench.record(|r| r.rows_q(&y, &ids, &two));
        assert_eq!(bench.read(&y), decoded);
    }
}

#[test]
fn arrays_of_another_device_are_refused() {
    let (Some(device), Some(other)) = (machine::device(), machine::open(&machine::options()))
    else {
        return;
    };
    let (here, there) = (Bench::new(&device), Bench::new(&other));
    let (ours, theirs) = (here.tensor(&[1.0], 1), there.tensor(&[1.0], 1));
    here.record(|r| {
        for refused in [
            r.add(&ours, &theirs, 1.0).unwrap_err(),
            r.write(&theirs, &[1.0]).unwrap_err(),
            r.read(&theirs).unwrap_err(),
        ] {
            assert!(refused.to_string().contains("another device"), "{refused}");
        }
        Ok(())
    });
}

#[test]
fn a_device_lost_in_the_middle_ends_every_wait() {
    let Some(device) = machine::open(&machine::options()) else {
        return;
    };
    let bench = Bench::new(&device);
    let tensor = bench.tensor(&[1.0; 8], 8);
    let mut recorder = Recorder::new(&device).unwrap();
    let download = recorder.read(&tensor).unwrap();
    let submission = recorder.submit().unwrap();
    let mut open = Recorder::new(&device).unwrap();
    open.write(&tensor, &[2.0; 8]).unwrap();
    device.destroy();
    let lost = |e: GpuError| assert!(matches!(e, GpuError::Lost { .. }), "{e}");
    lost(submission.wait().unwrap_err());
    lost(download.wait(&mut [0.0; 8]).unwrap_err());
    lost(open.write(&tensor, &[2.0; 8]).unwrap_err());
    lost(open.submit().unwrap_err());
    lost(Recorder::new(&device).unwrap_err());
    lost(device.read(&tensor, &mut [0.0; 8]).unwrap_err());
}

#[test]
fn threads_share_a_device() {
    let Some(device) = machine::device() else {
        return;
    };
    let bench = Bench::new(&device);
    std::thread::scope(|threads| {
        for number in 0..4 {
            let bench = &bench;
            threads.spawn(move || {
                for round in 0..25 {
                    let value = (100 * number + round) as f32;
                    let (x, y) = (bench.tensor(&[value; 300], 3), bench.tensor(&[1.0; 300], 3));
                    bench.record(|r| r.add(&y, &x, 2.0));
                    assert_eq!(bench.read(&y), [2.0 * value + 1.0; 300]);
                }
            });
        }
    });
}
