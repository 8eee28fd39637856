//! Finding, choosing, opening and losing a device.

use graft_gpu::{AdapterKind, Choice, Device, DeviceOptions, GpuError, Part, adapters};

use crate::machine;

#[test]
fn what_is_listed_can_be_opened_by_place_and_by_name() {
    for (place, listed) in adapters().iter().enumerate() {
        assert_eq!(listed.index, place);
        assert!(listed.limits.alignment.is_power_of_two() && !listed.name.is_empty());
        let name = listed.name[..4].to_uppercase();
        for choice in [Choice::Index(place), Choice::Name(name)] {
            let options = DeviceOptions {
                choice,
                ..DeviceOptions::default()
            };
            let device = Device::open(&options).unwrap();
            device.check().unwrap();
            if options.choice == Choice::Index(place) {
                assert_eq!(device.adapter(), listed);
            }
        }
    }
}

#[test]
fn software_is_opened_only_if_asked_for() {
    let hardware = |a: &graft_gpu::AdapterReport| a.kind != AdapterKind::Software;
    let found = adapters();
    match Device::open(&DeviceOptions::default()) {
        Ok(device) => assert!(hardware(device.adapter())),
        Err(GpuError::OnlySoftware { names }) => {
            assert!(!found.is_empty() && !found.iter().any(hardware));
            assert_eq!(names.len(), found.len());
        }
        Err(GpuError::NoAdapter) => assert!(found.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    if machine::device().is_none() {
        return;
    }
    for choice in [Choice::Index(99), Choice::Name("abacus".into())] {
        let asked_for = choice.to_string();
        let options = DeviceOptions {
            choice,
            ..DeviceOptions::default()
        };
        let refused = Device::open(&options).unwrap_err();
        let GpuError::UnknownAdapter { asked, found } = &refused else {
            panic!("{refused}");
        };
        assert_eq!((asked, found.len()), (&asked_for, adapters().len()));
        assert!(refused.to_string().contains(&adapters()[0].name));
    }
}

#[test]
fn a_lost_device_is_an_error_and_never_a_hang() {
    let Some(device) = machine::open(&machine::options()) else {
        return;
    };
    let before = device.memory().held;
    let arena = device.arena(Part::LayerBuffers, 1 << 16).unwrap();
    device.destroy();
    let lost = |e: GpuError| assert!(matches!(e, GpuError::Lost { .. }), "{e}");
    lost(device.check().unwrap_err());
    lost(device.wait().unwrap_err());
    lost(device.arena(Part::Loss, 256).unwrap_err());
    drop(arena);
    assert_eq!(device.memory().held, before);
}
