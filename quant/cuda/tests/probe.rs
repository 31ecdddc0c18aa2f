//! What is said where there is no device: never a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_cuda::{Card, Error, Unavailable, probe};

#[test]
fn a_device_opens_or_says_why_not() {
    match probe() {
        Ok(devices) => {
            let card = Card::open(0).unwrap();
            assert!(!card.name().is_empty() && card.ordinal() == 0 && card.memory().unwrap() > 0);
            let beyond = Card::open(devices as u32).unwrap_err();
            assert_eq!(beyond, Error::Unavailable(Unavailable::NoSuchDevice(devices as u32, devices)));
        }
        Err(why) => assert_eq!(Card::open(0).unwrap_err(), Error::Unavailable(why)),
    }
}

/// NIWAKI_EXPECT is what has to be said where it is set: in CI, with drivers that are broken in several ways.
#[test]
fn what_is_wrong_is_said() {
    let Some(expected) = std::env::var_os("NIWAKI_EXPECT") else { return };
    assert_eq!(probe().unwrap_err().to_string(), expected.to_string_lossy());
}

#[test]
fn reasons_read_well() {
    for (why, text) in [
        (Unavailable::NoDriver, "no CUDA driver found"),
        (Unavailable::BrokenDriver("cuInit"), "the CUDA driver has no function `cuInit`"),
        (Unavailable::Init(100), "the CUDA driver finds no device"),
        (Unavailable::Init(3), "the CUDA driver does not start (code 3)"),
        (Unavailable::NoDevice, "the CUDA driver finds no device"),
        (Unavailable::NoSuchDevice(4, 1), "no CUDA device 4; there is one, device 0"),
        (Unavailable::NoSuchDevice(4, 2), "no CUDA device 4; there are devices 0 to 1"),
    ] {
        assert_eq!(why.to_string(), text);
    }
}
