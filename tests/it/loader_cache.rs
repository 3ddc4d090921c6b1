//! Machines on which the dynamic loader's cache, `/etc/ld.so.cache`, says something else. Another file is
//! mounted in its place, in a mount namespace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bad_input::sandbox::in_sandbox;
use crate::home::{Answered, EXE, Home, Ran, answered, can_observe, skip, takes_long, until_old};

/// A library that every test program needs.
pub(crate) const NEEDED: &str = "libgcc_s.so.1";
const NATIVE: u32 = 0x303;

/// An entry of a cache.
#[derive(Clone)]
struct Entry {
    flags: u32,
    name: String,
    path: String,
    is_in_folder: bool,
}

/// The machine's cache, less what is for better processors.
#[derive(Clone)]
pub(crate) struct Cache(Vec<Entry>);

impl Cache {
    /// None where the machine's cache has no library that is needed.
    pub(crate) fn of_machine() -> Option<Self> {
        let content = fs::read("/etc/ld.so.cache").ok()?;
        let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
        let text = |at: u32| {
            let text = content[at as usize..].split(|byte| *byte == 0).next().unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        };
        let entries = (0..number(20) as usize).map(|index| 48 + 24 * index);
        let entries = entries.filter(|at| number(at + 20) == 0);
        let entry = |at: usize| Entry {
            flags: number(at),
            name: text(number(at + 4)),
            path: text(number(at + 8)),
            is_in_folder: false,
        };
        let entries: Vec<_> = entries.map(entry).collect();
        entries.iter().any(|entry| entry.name == NEEDED).then_some(Self(entries))
    }

    fn needed(&mut self) -> usize {
        self.0.iter().position(|entry| entry.name == NEEDED).unwrap()
    }

    /// With libraries that nothing needs, before and after all others.
    pub(crate) fn with_others(mut self) -> Self {
        let other = |name: &str| {
            let path = format!("/opt/others/{name}");
            Entry { flags: NATIVE, name: name.into(), path, is_in_folder: false }
        };
        self.0.insert(0, other("zz.so.1"));
        self.0.push(other("a.so"));
        self
    }

    /// With the needed library in another place.
    pub(crate) fn with_needed_at(mut self, path: &Path) -> Self {
        let at = self.needed();
        self.0[at].path = path.to_str().unwrap().to_owned();
        self
    }

    fn without_needed(mut self) -> Self {
        self.0.retain(|entry| entry.name != NEEDED);
        self
    }

    /// With one more file of the needed library, for better processors.
    fn with_better_needed_at(mut self, path: &Path) -> Self {
        let at = self.needed();
        let better = Entry { is_in_folder: true, ..self.0[at].clone() };
        self.0.insert(at, better);
        self.with_needed_at(path)
    }

    /// Writes it as `ldconfig` does.
    pub(crate) fn write(&self, file: &Path) {
        let start = 48 + 24 * self.0.len();
        let (mut table, mut texts) = (Vec::new(), Vec::new());
        let mut text = |text: &str| {
            let at = u32::try_from(start + texts.len()).unwrap();
            texts.extend(text.bytes().chain([0]));
            at
        };
        for entry in &self.0 {
            let numbers = [entry.flags, text(&entry.name), text(&entry.path), 0, 0];
            let demands = u32::from(entry.is_in_folder) << 30;
            table.extend(numbers.iter().chain([&demands]).flat_map(|number| number.to_le_bytes()));
        }
        let folder = text("x86-64-v2");
        texts.resize(texts.len().next_multiple_of(4), 0);
        let at = u32::try_from(start + texts.len()).unwrap();
        let mut content = b"glibc-ld.so.cache1.1".to_vec();
        let header = [u32::try_from(self.0.len()).unwrap(), 0, 2, at, 0, 0, 0];
        content.extend(header.iter().flat_map(|number| number.to_le_bytes()));
        content.extend([table, texts].concat());
        let section = [0xeaa4_2174, 1, 1, 0, at + 24, 4, folder];
        content.extend(section.iter().flat_map(|number: &u32| number.to_le_bytes()));
        fs::write(file, content).unwrap();
        until_old(file);
    }
}

/// A copy of the needed library in a folder of the home.
pub(crate) fn copy_of_needed(home: &Home, cache: &Cache) -> PathBuf {
    let entry = cache.0.iter().find(|entry| entry.name == NEEDED && entry.flags == NATIVE);
    let copy = home.base.join(NEEDED);
    fs::copy(&entry.unwrap().path, &copy).unwrap();
    until_old(&copy);
    copy
}

/// Asks without a daemon on a machine with this cache. None where the system allows no mounts.
pub(crate) fn ask_with(home: &Home, cache: &Path) -> Option<Ran> {
    let (cache, root) = (cache.display(), home.root.display());
    let script = format!(
        "mount --bind {cache} /etc/ld.so.cache && cd {root} && exec {EXE} test --no-daemon --format json"
    );
    in_sandbox(home, &script)
}

const TESTS: [(&str, &str); 4] = [
    ("tests/plain.rs", "#[test] fn t() {}\n"),
    (
        "tests/reads.rs",
        "#[test] fn t() { assert!(std::fs::read(\"/etc/ld.so.cache\").unwrap().len() > 48) }\n",
    ),
    (
        "tests/lists.rs",
        "#[test] fn t() { let list = std::process::Command::new(\"/sbin/ldconfig\").arg(\"-p\").output();\n\
         assert!(list.unwrap().status.success()) }\n",
    ),
    (
        "tests/loads.rs",
        "use std::ffi::{CStr, c_char, c_int, c_void};\n\
         unsafe extern \"C\" { fn dlopen(a: *const c_char, b: c_int) -> *const c_void; }\n\
         #[test] fn t() { let name: &CStr = c\"libnowhere-at-all.so.7\";\n\
         assert!(unsafe { dlopen(name.as_ptr(), 2) }.is_null()) }\n",
    ),
];

#[test]
fn the_loaders_cache_counts_by_what_it_says_of_needed_libraries() {
    if takes_long() || !can_observe("the loader's cache") {
        return;
    }
    let Some(machine) = Cache::of_machine() else {
        return skip("the loader's cache", "it is unusual here");
    };
    let mut files = vec![("src/lib.rs", ""), ("Cargo.toml", MANIFEST)];
    files.extend(TESTS);
    let home = Home::with(&files);
    let file = home.base.join("ld.so.cache");
    machine.write(&file);
    if ask_with(&home, &file).is_none() {
        return skip("the loader's cache", "mount namespaces are not allowed here");
    }
    let copy = copy_of_needed(&home, &machine);
    let ask = || -> Answered { answered(ask_with(&home, &file).unwrap()) };
    ask().green_from("cache");
    let others = machine.clone().with_others();
    let moved = machine.clone().with_needed_at(&copy);
    let better = machine.clone().with_better_needed_at(&copy);
    // The cache as a whole counts for whoever can have read more of it.
    let whole = ["lists", "loads", "reads"];
    let all = ["lists", "loads", "plain", "reads"];
    let without = machine.clone().without_needed();
    for (cache, expected, why) in [
        (&others, &whole[..], "other libraries"),
        (&machine, &whole, "others less"),
        (&moved, &all, "another place"),
        (&better, &all, "a file for better processors"),
        (&without, &all, "none"),
    ] {
        cache.write(&file);
        let answer = ask();
        answer.green();
        let mut ran = answer.run();
        ran.sort();
        assert_eq!(ran, expected, "{why}: {answer:#?}");
        ask().green_from("cache");
    }
    // A program whose library is not in the cache searches folders that are not recorded.
    without.with_others().write(&file);
    let answer = ask();
    answer.green();
    assert_eq!(answer.run().len(), all.len(), "{answer:#?}");
}

const MANIFEST: &str =
    "[package]\nname='p'\nversion='0.1.0'\nedition='2024'\n[lib]\ntest=false\ndoctest=false\n";
