//! Which cargo and rustc apply in a folder, asked once and remembered.
//!
//! Asking takes three processes and, through rustup, some 50 ms; an answer from the cache may
//! not take that long. So the answer is kept in a memo, together with a stamp of every file that
//! could change it: the proxies, rustup's settings, each place where a `rust-toolchain` file
//! is or could be, the toolchain's own binaries. Any stamp that differs means asking again. Tools that
//! are neither rustup's nor the toolchain's own are always asked: nobody knows what they go by.

mod ask;
mod folders;
mod memo;
mod question;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cargo_platform::Cfg;

pub(crate) use question::ToolchainError;
use question::{ToolchainQuestion, guarded_sysroot};

use super::cargo_config::CargoConfig;
use crate::process::Environment;

/// The toolchain that cargo would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The cargo to call: from `PATH` or `~/.cargo/bin`; often rustup's proxy, which must stay in
    /// the chain because it sets variables that tests see.
    pub cargo: PathBuf,
    /// The rustc that cargo would call; maybe a proxy as well.
    pub rustc: PathBuf,
    /// The rustdoc that cargo would call when nothing is configured.
    pub rustdoc: PathBuf,
    /// The compiler's folder.
    pub sysroot: PathBuf,
    /// The host's target name.
    pub host: String,
    /// The part that decides a build: the versions as cargo and rustc tell them, and the content of
    /// configured wrappers. The same on every machine with the same release.
    pub identity: String,
}

impl Toolchain {
    /// Those of these targets, and of the host, for which no standard library is installed. Macros and build
    /// scripts are made for the host. A target that has a description of its own (`mine.json`) has none.
    pub(crate) fn missing_libraries<'t>(&'t self, targets: &'t [String]) -> BTreeSet<&'t str> {
        let is_missing = |target: &&str| {
            let is_described = Path::new(target).extension().is_some_and(|end| end == "json");
            let library = self.sysroot.join("lib/rustlib").join(target).join("lib");
            !is_described && *target != "host-tuple" && !library.is_dir()
        };
        let all = targets.iter().map(String::as_str).chain([&*self.host]);
        all.filter(is_missing).collect()
    }

    /// The toolchain for a call of cargo in `dir` with `environment` and `config`. `memo_dir` is
    /// made if need be; a memo that cannot be read or written only makes this slower.
    ///
    /// # Errors
    /// No cargo, no rustc, or one that does not answer.
    pub fn find(
        dir: &Path,
        environment: &Environment,
        config: &CargoConfig,
        memo_dir: &Path,
    ) -> Result<Self, ToolchainError> {
        Self::find_at(dir, environment, config, memo_dir, SystemTime::now())
    }

    fn find_at(
        dir: &Path,
        environment: &Environment,
        config: &CargoConfig,
        memo_dir: &Path,
        now: SystemTime,
    ) -> Result<Self, ToolchainError> {
        let question = ToolchainQuestion::new(dir, environment, config)?;
        let key = question.key(dir, environment);
        if let Some(answer) = memo::load(memo_dir, &key) {
            return Ok(Self::of(question, answer));
        }
        let before = memo::Guards::of(question.guarded(dir, environment));
        let answer = ask::ask(&question, dir, environment)?;
        let mut guards = before;
        guards.add(guarded_sysroot(&answer.sysroot));
        if question.is_settled_by_guards(&answer.sysroot) {
            memo::store(memo_dir, &key, &answer, guards, now);
        }
        Ok(Self::of(question, answer))
    }

    fn of(question: ToolchainQuestion, answer: memo::ToolchainAnswer) -> Self {
        Self {
            cargo: question.cargo,
            rustc: question.rustc,
            rustdoc: answer.rustdoc,
            sysroot: answer.sysroot,
            host: answer.host,
            identity: answer.identity,
        }
    }

    /// Whether a program is configured around the compiler, or one stands in the place of a tool.
    #[must_use]
    pub(crate) fn has_wrapper(&self) -> bool {
        let tools =
            ["rustc-wrapper: ", "rustc-workspace-wrapper: ", "rustc: ", "rustdoc: ", "cargo: "];
        self.identity.lines().any(|line| tools.iter().any(|tool| line.starts_with(tool)))
    }

    /// What `rustc --print cfg` says for a target: needed only where `cfg(..)` tables choose a
    /// runner. Starts a process.
    ///
    /// # Errors
    /// Rustc refuses, for example because it does not know the target.
    pub(crate) fn cfgs(
        &self,
        triple: &str,
        dir: &Path,
        environment: &Environment,
    ) -> Result<Vec<Cfg>, ToolchainError> {
        ask::cfgs(&self.rustc, triple, dir, environment)
    }
}

#[cfg(test)]
mod tests;
