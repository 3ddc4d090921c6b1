//! What kind of machine this is, as far as it decides whether there is a service manager.

use std::path::{Path, PathBuf};

use crate::process::Environment;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManagerLocation {
    /// The Windows subsystem for Linux.
    Wsl,
    /// A container.
    Container,
    /// Anything else.
    Plain,
}

impl ManagerLocation {
    /// Looks at what lies below `root` (`/` but in tests).
    pub(super) fn of(root: &Path) -> Self {
        let version = std::fs::read_to_string(root.join("proc/version")).unwrap_or_default();
        let exists = |path: &str| root.join(path).exists();
        if version.to_lowercase().contains("microsoft") {
            Self::Wsl
        } else if exists(".dockerenv")
            || exists("run/.containerenv")
            || exists("run/systemd/container")
        {
            Self::Container
        } else {
            Self::Plain
        }
    }
}

/// Whether the machine was booted with systemd, told as `sd_booted(3)` does.
pub(super) fn has_systemd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir()
}

/// What to say where systemd does not run.
pub(super) fn no_systemd(place: ManagerLocation) -> String {
    match place {
        ManagerLocation::Wsl => "systemd is off in this WSL: put `[boot]` and `systemd=true` into \
                       /etc/wsl.conf, then `wsl --shutdown`"
            .to_owned(),
        ManagerLocation::Container => "this container was not started with systemd".to_owned(),
        ManagerLocation::Plain => "systemd does not run here".to_owned(),
    }
}

/// Where the bus of a user's own systemd lies.
pub(super) fn bus(root: &Path, uid: u32) -> PathBuf {
    root.join(format!("run/user/{uid}/bus"))
}

/// What to do where the user's own systemd cannot be reached.
pub(super) fn no_bus(
    place: ManagerLocation,
    environment: &Environment,
    root: &Path,
    uid: u32,
) -> String {
    let bus = bus(root, uid);
    if environment.get("SUDO_USER").is_some() && uid == 0 {
        "the service belongs to your own session: run this without sudo".to_owned()
    } else if environment.get("XDG_RUNTIME_DIR").is_none() && bus.exists() {
        format!(
            "`export XDG_RUNTIME_DIR=/run/user/{uid}` (a login would have set it; `su` does not)"
        )
    } else if place == ManagerLocation::Wsl {
        "install `dbus-user-session` and `wsl --shutdown`".to_owned()
    } else {
        "log in as this user (at the console or by ssh; `su` and `sudo -u` make no session), or \
         have `sudo loginctl enable-linger $USER` make one; Debian and Ubuntu need the package \
         `dbus-user-session`"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ManagerLocation::of(dir.path()), ManagerLocation::Plain);
        std::fs::write(dir.path().join(".dockerenv"), "").unwrap();
        assert_eq!(ManagerLocation::of(dir.path()), ManagerLocation::Container);
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let version = "Linux version 5.15.90.1-microsoft-standard-WSL2";
        std::fs::write(dir.path().join("proc/version"), version).unwrap();
        assert_eq!(ManagerLocation::of(dir.path()), ManagerLocation::Wsl);
        assert!(no_systemd(ManagerLocation::Wsl).contains("/etc/wsl.conf"));
    }

    #[test]
    fn the_way_to_the_bus_depends_on_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let none = Environment::default();
        let hint = |environment: &Environment, uid| {
            no_bus(ManagerLocation::Plain, environment, dir.path(), uid)
        };
        assert!(hint(&none, 7).contains("enable-linger"));
        let bus = dir.path().join("run/user/7");
        std::fs::create_dir_all(&bus).unwrap();
        std::fs::write(bus.join("bus"), "").unwrap();
        assert!(hint(&none, 7).contains("export XDG_RUNTIME_DIR=/run/user/7"));
        let sudo = Environment::of(&[("SUDO_USER", "me")]);
        assert!(hint(&sudo, 0).contains("without sudo"));
    }
}
