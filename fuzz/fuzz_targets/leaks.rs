#![no_main]

#[path = "../../tests/authority/mod.rs"]
mod authority;
#[path = "../../tests/properties/leaks.rs"]
mod property;
#[path = "../seeds.rs"]
mod seeds;

libfuzzer_sys::fuzz_target!(
    init: seeds::write(property::seeds),
    |data: &[u8]| {
        property::check(data);
    }
);
