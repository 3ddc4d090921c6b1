//! Whether what a run consulted outside of its own checkout is what a run in another one would
//! consult.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::cache::{Input, InputState, Record};
use crate::hasher::holds_text;
use crate::process::Environment;
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::roots::{is_of_the_system, joined};

/// Why a run in the checkout at `root` would perhaps not find what the run of `record` found: another way
/// leads from there to an input, and another state is at its end. A file that was named from the root of the
/// file system, or by a variable, is taken for one that was found from the checkout (`../settings`, a search of
/// all folders above) where it could be one. What is the same at the end of both ways is the same whichever was
/// gone; from a deeper checkout, what was absent must be absent in each further folder above.
pub(super) fn found_elsewhere(
    record: &Record,
    root: &Path,
    environment: &Environment,
    fingerprints: &mut Fingerprints,
) -> Option<String> {
    let then = &record.workspace_root;
    let input = is_found_elsewhere(&record.inputs, then, root, environment, fingerprints)?;
    let (path, project) = (input.path.display(), then.display());
    Some(format!("its record is of {project}, where {path} was consulted"))
}

/// The first of these inputs of the checkout at `then` that is not found from the one at `root`, as
/// [`found_elsewhere`] has it.
pub(super) fn is_found_elsewhere<'a>(
    inputs: &'a [Input],
    then: &Path,
    root: &Path,
    environment: &Environment,
    fingerprints: &mut Fingerprints,
) -> Option<&'a Input> {
    let ways = Ways { then, now: root, environment };
    (then != root).then(|| ways.leads_elsewhere(inputs, fingerprints))?
}

/// Two checkouts, from which runs go their ways.
struct Ways<'a> {
    then: &'a Path,
    now: &'a Path,
    environment: &'a Environment,
}

impl Ways<'_> {
    /// The first input in whose place another one is found now.
    fn leads_elsewhere<'a>(
        &self,
        inputs: &'a [Input],
        fingerprints: &mut Fingerprints,
    ) -> Option<&'a Input> {
        let variable = |name: &str| self.environment.get(name).map(PathBuf::from);
        let home = variable("HOME").unwrap_or_default();
        // Cargo and the toolchain name what is theirs by these.
        let tools = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
        let tools = tools.map(|(name, below)| variable(name).unwrap_or_else(|| home.join(below)));
        let temporary = variable("TMPDIR").unwrap_or_else(|| "/tmp".into());
        let is_in =
            |folder: &Path, path: &Path| folder.parent().is_some() && path.starts_with(folder);
        let programs: Vec<PathBuf> = self.environment.path_folders(self.then).collect();
        // From a folder of `/` itself a search of all folders above looks nowhere but there.
        let is_high = self.then.parent().is_some_and(|above| above.parent().is_none());
        let is_named = |path: &Path| {
            let by_variable = || {
                is_in(&home, path)
                    || is_in(&temporary, path)
                    || path.parent().is_some_and(|folder| programs.iter().any(|it| it == folder))
            };
            is_of_the_system(path) || (!is_high && by_variable())
        };
        // A search of all folders above passes more folders from a deeper checkout.
        let is_deeper = self.now.components().count() > self.then.components().count();
        let then = self.then.as_os_str().as_bytes();
        inputs.iter().find(|input| {
            let path = &input.path;
            if !path.is_absolute()
                || *path == temporary
                || tools.iter().any(|folder| path.starts_with(folder))
            {
                return false;
            }
            // The path of the checkout with more behind it: `CHECKOUT-data`.
            if path.as_os_str().as_bytes().starts_with(then) || self.is_led_back_by(input) {
                return true;
            }
            let Some((up, below)) = way(self.then, path, is_named) else { return false };
            let is_searched = is_deeper && input.state == InputState::Absent;
            let further = self.now.ancestors().skip(up + 1).filter(|_| is_searched);
            let further = further.map(|above| joined(above, below));
            let mut ways = std::iter::once(led(self.now, up, below)).chain(further);
            ways.any(|now| {
                let here = Input { path: now, state: input.state, proof: None };
                here.path != *path && !fingerprints.holds(self.now, &here)
            })
        })
    }
}

impl Ways<'_> {
    /// Whether something outside tells where the first checkout is: a link, or a text with its path in it.
    /// A run in the other one would be led to the first as well, and what it consulted there is told apart
    /// by nothing.
    fn is_led_back_by(&self, input: &Input) -> bool {
        match input.state {
            InputState::Link(_) => {
                input.path.canonicalize().is_ok_and(|end| end.starts_with(self.then))
            }
            InputState::File(_) | InputState::Source(_) | InputState::Digest(_) => {
                holds_text(&input.path, self.then.as_os_str().as_bytes()).unwrap_or(true)
            }
            _ => false,
        }
    }
}

/// The way from a folder to `path`: so many folders up, and down from there. Nobody goes up all the way for
/// what `is_named` without that.
fn way<'p>(
    from: &Path,
    path: &'p Path,
    is_named: impl Fn(&Path) -> bool,
) -> Option<(usize, &'p Path)> {
    let mut above = from.ancestors().enumerate();
    let shared = above.find_map(|(up, above)| Some((up, above, path.strip_prefix(above).ok()?)));
    let (up, above, below) = shared?;
    (above.parent().is_some() || !is_named(path)).then_some((up, below))
}

/// Where that way leads from a folder.
fn led(from: &Path, up: usize, below: &Path) -> PathBuf {
    joined(from.ancestors().nth(up).unwrap_or(Path::new("/")), below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::fingerprint::Aspect;

    #[test]
    fn the_way_up_and_down_again_is_the_same_for_neighbours_only() {
        let way = |other: &str, path: &str| {
            let (one, path) = (Path::new("/home/me/src/one"), Path::new(path));
            let way = super::way(one, path, is_of_the_system);
            way.map_or(path.to_owned(), |(up, below)| led(Path::new(other), up, below))
        };
        let same = |other: &str, path: &str| way(other, path) == Path::new(path);
        for path in ["/etc/hosts", "/home/me/src/settings", "/home/me/.gitconfig", "/home/me/src"] {
            assert!(same("/home/me/src/two", path), "{path}");
        }
        assert!(same("/home/me/work/two", "/home/me/.gitconfig"));
        assert!(same("/elsewhere/two", "/usr/bin/git"));
        for other in ["/home/me/work/two", "/home/me/two", "/home/me/src/deep/two", "/home"] {
            assert!(!same(other, "/home/me/src/settings"), "{other}");
        }
        assert!(!same("/home/me/two", "/home/me/.editorconfig"));
        assert_eq!(way("/a/b/two", "/home/me/src/settings"), Path::new("/a/b/settings"));
        assert_eq!(way("/a/b/two", "/home/me/src"), Path::new("/a/b"));
        assert_eq!(way("/two", "/home/me/.editorconfig"), Path::new("/.editorconfig"));
    }

    #[test]
    fn what_lies_below_the_root_itself_is_found_on_the_way_up_too() {
        let leads = |then: &str, now: &str, path: &str| {
            let variables = [("HOME", "/me"), ("TMPDIR", "/scratch"), ("PATH", "/snap/bin")];
            let environment = Environment::of(&variables);
            let input = |state| Input { path: path.into(), state, proof: None };
            let ways =
                Ways { then: Path::new(then), now: Path::new(now), environment: &environment };
            let folder = InputState::Kind(crate::model::Digest::of(b"a folder"));
            [InputState::Absent, folder].map(|state| {
                ways.leads_elsewhere(&[input(state)], &mut Fingerprints::default()).is_some()
            })
        };
        assert_eq!(leads("/app", "/data/deep/b", "/climbed.toml"), [false, true]);
        assert_eq!(leads("/app", "/data/deep/b", "/scratch/x"), [false, true], "a neighbour");
        assert_eq!(leads("/app", "/data", "/climbed.toml"), [false, false], "both lie there");
        assert_eq!(leads("/data/a", "/data/deep/b", "/climbed.toml"), [false, true]);
        for named in ["/etc/app.toml", "/me/.app.toml", "/scratch/x", "/snap/bin/tool"] {
            assert_eq!(leads("/data/a", "/data/deep/b", named), [false, false], "{named}");
        }
    }

    #[test]
    fn what_is_alike_at_the_end_of_both_ways_is_found_from_both_checkouts() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (one, other) = (base.join("a/one"), base.join("b/two"));
        std::fs::create_dir_all(&one).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        let settings = base.join("a/settings");
        let look = || {
            let mut fingerprints = Fingerprints::default();
            let aspects = [(&settings, Aspect::Content), (&base.join("a"), Aspect::Kind)];
            aspects.map(|(path, way)| fingerprints.read(&one, path, way).unwrap())
        };
        let ways = Ways { then: &one, now: &other, environment: &Environment::default() };
        let elsewhere =
            |inputs: &[Input]| ways.leads_elsewhere(inputs, &mut Fingerprints::default()).is_some();
        let record = look();
        assert!(!elsewhere(&record), "absent on both ways");
        std::fs::write(base.join("b/settings"), "one").unwrap();
        assert!(elsewhere(&record));
        std::fs::write(&settings, "one").unwrap();
        let record = look();
        assert!(!elsewhere(&record), "the same file at the end of both ways");
        let mut fingerprints = Fingerprints::default();
        let beside = fingerprints.read(&one, &base.join("a/one-data"), Aspect::Content).unwrap();
        let near = Ways { now: &base.join("a/two"), ..ways };
        assert!(near.leads_elsewhere(&[beside], &mut fingerprints).is_some(), "made of the path");
        // A search from a deeper checkout passes more folders.
        let deep = Ways { now: &base.join("b/deep/er/two"), ..ways };
        let absent = fingerprints.read(&one, &base.join("a/climbed"), Aspect::Content).unwrap();
        let absent = [absent];
        assert!(deep.leads_elsewhere(&absent, &mut fingerprints).is_none());
        std::fs::write(base.join("b/climbed"), "").unwrap();
        assert!(!elsewhere(&[]) && deep.leads_elsewhere(&absent, &mut fingerprints).is_some());
        let below = other.join("deeper");
        let deeper = Ways { now: &below, ..ways };
        assert!(deeper.leads_elsewhere(&record, &mut Fingerprints::default()).is_some());
        std::fs::write(base.join("b/settings"), "two").unwrap();
        assert!(elsewhere(&record));
    }

    #[test]
    fn what_tells_where_the_first_checkout_is_leads_back_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (one, other) = (base.join("a/one"), base.join("a/two"));
        for folder in [&one, &other, &base.join("home")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let (link, text) = (base.join("home/link"), base.join("home/text"));
        std::os::unix::fs::symlink("/", &link).unwrap();
        std::fs::write(&text, "nothing").unwrap();
        let ways = Ways { then: &one, now: &other, environment: &Environment::default() };
        let leads_back = |path: &Path| {
            let mut fingerprints = Fingerprints::default();
            let input = fingerprints.read(&one, path, Aspect::Content).unwrap();
            ways.leads_elsewhere(&[input], &mut fingerprints).is_some()
        };
        assert!(!leads_back(&link) && !leads_back(&text));
        std::fs::write(&text, format!("at {}/data", one.display())).unwrap();
        assert!(leads_back(&text));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert!(leads_back(&link));
    }
}
