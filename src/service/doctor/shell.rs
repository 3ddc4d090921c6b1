//! What this shell and the service see differently.

use std::path::Path;
use std::time::Duration;

use super::{Check, KnownState};
use crate::process::{Environment, Spec, capture};
use crate::service::surroundings::{self, Surroundings};
use crate::service::{Platform, Service};

/// What a session's manager gives to a service that is told nothing.
const SYSTEMD_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const LAUNCHD_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Variables whose values, if they differ, make each of two cargos rebuild what the other built
/// (they are part of its fingerprints, or move its folders).
fn evicts(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "RUSTUP_TOOLCHAIN",
        "CARGO_INCREMENTAL",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "PATH",
    ];
    NAMES.contains(&name)
        || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"].iter().any(|p| name.starts_with(p))
}

/// Cargo and the compilers as the service finds them, against this shell's.
pub(super) fn tools(service: &Service, state: KnownState<'_>) -> Vec<Check> {
    let shell = Surroundings::of(&service.context.environment, &service.context.paths.home);
    let there = state.filter(|state| state.is_installed()).map(|state| seen_by(service, state));
    let mut checks = Vec::new();
    for tool in &shell.tools {
        let name = tool.name;
        let Some(here) = &tool.path else {
            let remedy = format!("install `{name}`, or put its folder into PATH");
            checks.push(if tool.needed {
                Check::fail(name, "not found in this shell's PATH", remedy)
            } else {
                Check::warn(name, "not found in this shell's PATH", remedy)
            });
            continue;
        };
        let Some(there) = &there else {
            checks
                .push(Check::ok(name, version(name, here, &service.context.environment, service)));
            continue;
        };
        let root = Path::new("/");
        let again = "`knhk-test-cache install` from this shell gives the service what it sees";
        let Some(found) = there.find_program(Path::new(name), root) else {
            checks.push(Check::fail(name, "the service does not find it", again));
            continue;
        };
        let ours = version(name, here, &service.context.environment, service);
        let theirs = version(name, &found, there, service);
        checks.push(if ours == theirs {
            Check::ok(name, ours)
        } else {
            let what = format!("the service has {theirs}, this shell {ours}");
            if tool.needed {
                Check::fail(name, what, again)
            } else {
                Check::warn(name, what, again)
            }
        });
    }
    checks
}

/// What a program says of its version, in the home folder: no project's toolchain file counts.
fn version(name: &str, path: &Path, environment: &Environment, service: &Service) -> String {
    let mut environment = environment.clone();
    if environment.get("HOME").is_none() {
        environment.set("HOME", &service.context.paths.home);
    }
    let spec = Spec::new(path, &service.context.paths.home, environment).arg("--version");
    let output =
        capture(&spec, Duration::from_secs(10)).ok().filter(crate::process::Output::success);
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.as_deref().and_then(|text| text.lines().next()).unwrap_or_default().trim();
    if line.is_empty() { format!("{name} at `{}`", path.display()) } else { line.to_owned() }
}

/// The environment in which the service runs, as far as its unit says.
fn seen_by(service: &Service, state: &crate::service::ServiceState) -> Environment {
    let written = state.written.clone().unwrap_or_default();
    let mut environment = surroundings::as_environment(&written.variables);
    if environment.get("PATH").is_none() {
        environment.set(
            "PATH",
            match service.platform {
                Platform::Systemd => SYSTEMD_PATH,
                Platform::Launchd => LAUNCHD_PATH,
            },
        );
    }
    environment.set("HOME", &service.context.paths.home);
    environment
}

/// Variables that differ between this shell and the service.
pub(super) fn differences(service: &Service, state: KnownState<'_>) -> Option<Check> {
    let written = state?.written.as_ref()?;
    let shell = Surroundings::of(&service.context.environment, &service.context.paths.home);
    let (here, there) = (&shell.variables, &written.variables);
    let mut different: Vec<&str> = here
        .keys()
        .chain(there.keys())
        .filter(|name| here.get(*name) != there.get(*name))
        .map(String::as_str)
        .collect();
    different.sort_unstable();
    different.dedup();
    let name = "environment";
    if different.is_empty() {
        return Some(Check::ok(name, "the service builds with this shell's environment"));
    }
    let (evicting, harmless): (Vec<&str>, Vec<&str>) =
        different.into_iter().partition(|name| evicts(name));
    Some(if evicting.is_empty() {
        Check::ok(name, format!("differs from the service's only in {}", harmless.join(", ")))
    } else if evicting == ["PATH"] {
        // Cargo does not look at PATH itself; what is found on it is compared tool by tool.
        Check::ok(name, "differs from the service's in PATH, which alone rebuilds nothing")
    } else {
        Check::warn(
            name,
            format!(
                "{} differ between this shell and the service: your cargo and the service's throw \
                 each other's artifacts away",
                evicting.join(", ")
            ),
            "`knhk-test-cache install` from the shell whose environment is the right one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;
    use crate::paths::Paths;
    use crate::service::ServiceState;
    use crate::service::state::Load;
    use crate::service::unit::WrittenUnit;

    fn compared(here: &[(&str, &str)], there: &[(&str, &str)]) -> Check {
        let environment: Environment = here
            .iter()
            .chain(&[("HOME", "/h"), ("PATH", "/bin")])
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        let paths = Paths::from_environment(&environment).unwrap();
        let service = Service::new(Platform::Systemd, environment, paths);
        let variables = there
            .iter()
            .chain(&[("PATH", "/bin")])
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let written = Some(WrittenUnit { variables, ..WrittenUnit::default() });
        let state = ServiceState { load: Load::Loaded, written, ..ServiceState::default() };
        differences(&service, Some(&state)).unwrap()
    }

    #[test]
    fn variables_that_evict_are_named() {
        assert_eq!(compared(&[], &[]).status, CheckStatus::Ok);
        assert_eq!(compared(&[("LANG", "C")], &[]).status, CheckStatus::Ok);
        let check = compared(&[("RUSTFLAGS", "-g"), ("LANG", "C")], &[("CARGO_PROFILE_X", "1")]);
        assert_eq!(check.status, CheckStatus::Warn);
        assert!(check.what.starts_with("CARGO_PROFILE_X, RUSTFLAGS differ"), "{}", check.what);
        assert_eq!(
            compared(&[("RUSTFLAGS", "-g")], &[("RUSTFLAGS", "-g")]).status,
            CheckStatus::Ok
        );
    }
}
