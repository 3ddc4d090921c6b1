//! The kernel's side: watches and disk space.

use std::path::{Path, PathBuf};

use super::{Check, ServiceNeeds};
use crate::service::Service;

/// Where little is left, builds soon fail; below the second, they do.
const LOW_SPACE_BYTES: u64 = 5 << 30;
const NO_SPACE_BYTES: u64 = 512 << 20;

/// What the kernel allows a user to watch, and what all of his programs take of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WatchCount {
    max_watches: u64,
    max_instances: u64,
    max_queue: u64,
    used_watches: u64,
    used_instances: u64,
}

/// Watches, instances and the queue; nothing to check where there is no inotify.
pub(super) fn inotify(needs: &ServiceNeeds) -> Vec<Check> {
    let limit = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let (Some(max_watches), Some(max_instances), Some(max_queue)) =
        (limit("max_user_watches"), limit("max_user_instances"), limit("max_queued_events"))
    else {
        return Vec::new();
    };
    let (used_instances, used_watches) = in_use(Path::new("/proc"));
    judge(WatchCount { max_watches, max_instances, max_queue, used_watches, used_instances }, needs)
}

fn judge(seen: WatchCount, needs: &ServiceNeeds) -> Vec<Check> {
    let WatchCount { max_watches, max_instances, max_queue, used_watches, used_instances } = seen;
    let raise = |name: &str, to: u64| {
        format!(
            "`echo fs.inotify.{name}={to} | sudo tee /etc/sysctl.d/90-knhk-test-cache.conf && sudo \
             sysctl --system`"
        )
    };
    let need = needs.watches.unwrap_or(0);
    // What runs already may be the service itself, with these very watches: so the need is
    // compared with the limit, and only a nearly full limit is a warning of its own.
    let what = format!("{used_watches} of {max_watches} in use, the projects need {need}");
    let twice = (need * 2).next_power_of_two().max(524_288);
    let watches = if need > max_watches {
        Check::fail("watches", what, raise("max_user_watches", twice))
    } else if need.max(used_watches) > max_watches / 10 * 9 {
        Check::warn("watches", what, raise("max_user_watches", twice.max(max_watches * 2)))
    } else {
        Check::ok("watches", what)
    };
    let what = format!("{used_instances} of {max_instances} in use");
    let instances = if used_instances >= max_instances {
        Check::fail("watchers", what, raise("max_user_instances", max_instances.max(64) * 4))
    } else if used_instances * 10 >= max_instances * 9 {
        Check::warn("watchers", what, raise("max_user_instances", max_instances.max(64) * 4))
    } else {
        Check::ok("watchers", what)
    };
    // A checkout of another branch touches as many files as it has; past the queue all is scanned.
    let what = format!("{max_queue} events");
    let queue = if max_queue < 16_384 {
        Check::warn(
            "event queue",
            format!(
                "{what}; a large checkout overflows that, and makes every project be read anew"
            ),
            raise("max_queued_events", 16_384),
        )
    } else {
        Check::ok("event queue", what)
    };
    vec![watches, instances, queue]
}

/// Instances and watches of all processes that we may look into, which are our own user's: the
/// limits are a user's.
fn in_use(proc: &Path) -> (u64, u64) {
    let numbers = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_number = |path: &PathBuf| {
            path.file_name().is_some_and(|name| {
                name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        entries.map(|entry| entry.path()).filter(is_number).collect()
    };
    let (mut instances, mut watches) = (0, 0);
    for process in numbers(proc) {
        for descriptor in numbers(&process.join("fd")) {
            let target = descriptor.read_link().unwrap_or_default();
            if !target.to_string_lossy().contains("inotify") {
                continue;
            }
            let Some(number) = descriptor.file_name() else { continue };
            let info = std::fs::read_to_string(process.join("fdinfo").join(number));
            instances += 1;
            let lines = info.unwrap_or_default();
            watches += lines.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
        }
    }
    (instances, watches)
}

/// The space that is left where things are written; one line a file system.
pub(super) fn disk_space(service: &Service, needs: &ServiceNeeds) -> Vec<Check> {
    let mut seen = Vec::new();
    let mut checks = Vec::new();
    for folder in std::iter::once(&service.context.paths.cache_dir).chain(&needs.target_dirs) {
        // What is not there yet will be made in the folder above it.
        let Some(there) = folder.ancestors().find(|folder| folder.exists()) else { continue };
        let (Ok(space), Ok(file)) = (rustix::fs::statvfs(there), rustix::fs::stat(there)) else {
            continue;
        };
        let system = file.st_dev;
        if seen.contains(&system) {
            continue;
        }
        seen.push(system);
        checks.push(judge_space(folder, space.f_bavail.saturating_mul(space.f_frsize)));
    }
    checks
}

fn judge_space(folder: &Path, free: u64) -> Check {
    let what = format!("{:.1} GiB free for `{}`", gibibytes(free), folder.display());
    let remedy = "make room: `knhk-test-cache cache gc`, `cargo clean` in projects that rest";
    if free < NO_SPACE_BYTES {
        Check::fail("disk", what, remedy)
    } else if free < LOW_SPACE_BYTES {
        Check::warn("disk", what, remedy)
    } else {
        Check::ok("disk", what)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 30)
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    fn statuses(seen: WatchCount, need: u64) -> Vec<CheckStatus> {
        let needs = ServiceNeeds { watches: Some(need), ..ServiceNeeds::default() };
        judge(seen, &needs).iter().map(|check| check.status).collect()
    }

    #[test]
    fn limits_are_held_against_needs() {
        use CheckStatus::{Fail, Ok, Warn};
        let seen = WatchCount {
            max_watches: 1000,
            max_instances: 128,
            max_queue: 16_384,
            used_watches: 100,
            used_instances: 20,
        };
        assert_eq!(statuses(seen, 500), [Ok, Ok, Ok]);
        assert_eq!(statuses(seen, 950), [Warn, Ok, Ok]);
        assert_eq!(statuses(seen, 1001), [Fail, Ok, Ok]);
        let full = WatchCount { used_instances: 128, used_watches: 990, max_queue: 100, ..seen };
        assert_eq!(statuses(full, 0), [Warn, Fail, Warn]);
    }

    #[test]
    fn the_remedy_is_a_command_that_suffices() {
        let seen = WatchCount { max_watches: 8192, ..WatchCount::default() };
        let needs = ServiceNeeds { watches: Some(600_000), ..ServiceNeeds::default() };
        let remedy = judge(seen, &needs)[0].remedy.clone().unwrap();
        assert!(remedy.contains("fs.inotify.max_user_watches=2097152"), "{remedy}");
    }

    #[test]
    fn watches_in_use_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let process = dir.path().join("42");
        std::fs::create_dir_all(process.join("fd")).unwrap();
        std::fs::create_dir_all(process.join("fdinfo")).unwrap();
        std::os::unix::fs::symlink("anon_inode:inotify", process.join("fd/7")).unwrap();
        std::os::unix::fs::symlink("/dev/null", process.join("fd/8")).unwrap();
        let info = "pos:\t0\nflags:\t00\ninotify wd:2 ino:1\ninotify wd:1 ino:2\n";
        std::fs::write(process.join("fdinfo/7"), info).unwrap();
        assert_eq!(in_use(dir.path()), (1, 2));
    }

    #[test]
    fn a_full_disk_is_told_from_a_nearly_full_one() {
        let of = |free| judge_space(Path::new("/x"), free).status;
        assert_eq!(of(LOW_SPACE_BYTES), CheckStatus::Ok);
        assert_eq!(of(LOW_SPACE_BYTES - 1), CheckStatus::Warn);
        assert_eq!(of(NO_SPACE_BYTES - 1), CheckStatus::Fail);
    }
}
