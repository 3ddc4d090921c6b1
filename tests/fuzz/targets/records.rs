#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| knhk_test_cache::fuzzing::records(bytes));
