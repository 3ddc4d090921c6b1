//! What the test of a call reaches, where it is alone in its process (`selection = "on"`).
//!
//! Nextest gives each test a process, so that no other test of the program can meet it there. Such a
//! test's record answers for every program in which the test reaches the same code and data.

use std::time::SystemTime;

use crate::cache::{Cache, ReachedTests};
use crate::compiler::PlannedTarget;
use crate::config::{Settings, TestSelection};
use crate::model::Digester;
use crate::runner::LibtestArguments;
use crate::verdict::binary::ReachedCode;
use crate::verdict::unreached_base::{BuiltPrograms, reached_tests, stamp_of};
use crate::workspace::{CargoConfig, PathStamp, Toolchain};

/// The code that the test of a call reaches. `None` if its whole program counts.
pub(super) fn reached_by_call(
    planned: &PlannedTarget,
    asked: &LibtestArguments,
    settings: &Settings,
    cache: &Cache,
) -> Option<ReachedCode> {
    let PlannedTarget { program, dir, environment, .. } = planned;
    let is_alone = settings.selection == TestSelection::On && environment.get("NEXTEST").is_some();
    let test = asked.only_test().filter(|_| is_alone)?;
    let program = program.canonicalize().ok()?;
    let config = CargoConfig::read(dir, environment, &[]).ok()?;
    let memo = cache.dir().join("toolchain");
    let Toolchain { sysroot, identity, .. } =
        Toolchain::find(dir, environment, &config, &memo).ok()?;
    let stamp = stamp_of(&program);
    let mut key = Digester::new("tests of a program 3");
    key.field(program.as_os_str().as_encoded_bytes()).digest(&stamp);
    key.field(sysroot.as_os_str().as_encoded_bytes()).field(identity.as_bytes());
    let key = key.finish();
    let tests: ReachedTests = cache.memo(&key).or_else(|| {
        let is_settled = PathStamp::of(&program).is_settled(SystemTime::now());
        // Nobody has told how this cargo was asked to optimize.
        let programs = BuiltPrograms { sysroot: &sysroot, unoptimized: false };
        let tests = reached_tests(&mut None, &program, programs);
        let tests = tests.inspect_err(|why| tracing::debug!(%why, "the whole program counts"));
        let tests = tests.map(|tests| tests.reached).unwrap_or_default();
        if stamp_of(&program) != stamp {
            return None;
        }
        if is_settled {
            cache.store_memo(&key, &tests);
        }
        Some(tests)
    })?;
    let mut code = Digester::new("reached code 1");
    code.field(identity.as_bytes()).digest(tests.get(test)?.as_ref()?);
    Some(ReachedCode { digest: code.finish(), program: stamp })
}
