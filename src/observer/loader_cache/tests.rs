//! Caches as `ldconfig` writes them, broken ones, and what the loader itself would find in them.

use proptest::prelude::*;

use super::*;

/// An entry to write: name, path, folder for better processors, kind, demands on the kernel.
type Written = (&'static str, &'static str, Option<&'static str>, u32, u32);

const NATIVE: u32 = 0x303;

/// Writes a cache as `ldconfig` does, with these entries in this order.
fn cache(entries: &[Written]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, path, folder, flags, system)| CachedFile {
            name: name.as_bytes().to_vec(),
            path: path.as_bytes().to_vec(),
            flags: *flags,
            system: *system,
            processor: folder.map_or(0, |_| 1 << 62),
            folder: folder.map(|folder| folder.as_bytes().to_vec()),
        })
        .collect();
    written(&entries.iter().collect::<Vec<_>>())
}

fn written(entries: &[&CachedFile]) -> Vec<u8> {
    let mut folders: Vec<_> = entries.iter().filter_map(|entry| entry.folder.as_ref()).collect();
    folders.sort();
    folders.dedup();
    let start = HEADER + ENTRY * entries.len();
    let mut texts = Vec::new();
    let mut text = |text: &[u8]| {
        let at = u32::try_from(start + texts.len()).unwrap();
        texts.extend(text.iter().chain([&0]));
        at
    };
    let mut table = Vec::new();
    for entry in entries {
        let place = |folder| folders.iter().position(|known| *known == folder).unwrap() as u64;
        let processor = entry.processor | entry.folder.as_ref().map_or(0, place);
        let numbers = [entry.flags, text(&entry.name), text(&entry.path), entry.system];
        table.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        table.extend(processor.to_le_bytes());
    }
    let places: Vec<_> = folders.iter().map(|folder| text(folder)).collect();
    let padding = texts.len().next_multiple_of(4) - texts.len();
    texts.extend(std::iter::repeat_n(0, padding));
    let at = u32::try_from(start + texts.len()).unwrap();
    let mut content = MAGIC.to_vec();
    for number in [u32::try_from(entries.len()).unwrap(), 0, 2, at, 0, 0, 0] {
        content.extend(number.to_le_bytes());
    }
    content.extend(table);
    content.extend(texts);
    let sections = 1 + u32::from(!folders.is_empty());
    let (data, size) = (at + 8 + 16 * sections, u32::try_from(4 * folders.len()).unwrap());
    let hwcaps = [TAG_HWCAPS, 0, data, size];
    let numbers = [EXTENSIONS, sections, TAG_GENERATOR, 0, data + size, 4];
    let numbers = numbers.iter().chain(if folders.is_empty() { &[] } else { &hwcaps[..] });
    for number in numbers.chain(&places) {
        content.extend(number.to_le_bytes());
    }
    content.extend(b"test");
    content
}

const BOTH: [Written; 5] = [
    ("libb.so.10", "/lib/libb.so.10", None, NATIVE, 0),
    ("libb.so.9", "/v3/libb.so.9", Some("x86-64-v3"), NATIVE, 0),
    ("libb.so.9", "/lib/libb.so.9", None, NATIVE, 0),
    ("libb.so.9", "/lib32/libb.so.9", None, 3, 0),
    ("liba.so", "/lib/liba.so", None, NATIVE, 0),
];

fn answer(content: &[u8], name: &str) -> Option<Digest> {
    LoaderCache::parse(content)?.answer(name.as_bytes())
}

#[test]
fn a_cache_tells_which_files_may_be_loaded() {
    let cache = LoaderCache::parse(&cache(&BOTH)).unwrap();
    let files = |name: &str| -> Vec<(String, bool, bool)> {
        let files = cache.files(name.as_bytes()).unwrap().iter();
        let text = |file: &CachedFile| String::from_utf8(file.path.clone()).unwrap();
        files.map(|file| (text(file), file.is_native(), file.is_for_all())).collect()
    };
    assert_eq!(files("liba.so"), [("/lib/liba.so".into(), true, true)]);
    let expected = [
        ("/v3/libb.so.9".into(), true, false),
        ("/lib/libb.so.9".into(), true, true),
        ("/lib32/libb.so.9".into(), false, true),
    ];
    assert_eq!(files("libb.so.9"), expected);
    assert_eq!(files("libb.so.09"), expected, "numbers compare by what they say");
    assert_eq!(files("libb.so.1"), []);
    assert!(cache.files(b"lib\x80.so").is_none() && cache.files(b"liba.so.1234567890").is_none());
}

#[test]
fn an_answer_is_that_of_one_name() {
    let content = cache(&BOTH);
    let (then, absent) = (answer(&content, "libb.so.9"), answer(&content, "libx.so"));
    assert!(then.is_some() && absent.is_some() && then != absent);
    assert_ne!(absent, answer(&content, ""));
    // Other libraries, and another folder for better processors that moves the place of the first.
    let with = |more: &[(usize, Written)]| {
        let mut entries = BOTH.to_vec();
        more.iter().for_each(|(at, entry)| entries.insert(*at, *entry));
        cache(&entries)
    };
    let more = [
        (0, ("libz.so.1", "/lib/libz.so.1", Some("x86-64-v2"), NATIVE, 0)),
        (6, ("a.so", "/lib/a.so", None, NATIVE, 0)),
    ];
    assert_eq!(answer(&with(&more), "libb.so.9"), then);
    // One entry less, another path, place, kind, folder, or demand; one entry more.
    let less = |at: usize| [&BOTH[..at], &BOTH[at + 1..]].concat();
    let other = |at: usize, entry: Written| [&BOTH[..at], &[entry], &BOTH[at + 1..]].concat();
    for entries in [
        less(1),
        less(2),
        less(3),
        other(2, ("libb.so.9", "/opt/libb.so.9", None, NATIVE, 0)),
        other(1, ("libb.so.9", "/v3/libb.so.9", Some("x86-64-v2"), NATIVE, 0)),
        other(1, ("libb.so.9", "/v3/libb.so.9", None, NATIVE, 0)),
        other(2, ("libb.so.9", "/lib/libb.so.9", None, 3, 0)),
        other(2, ("libb.so.9", "/lib/libb.so.9", None, NATIVE, 7)),
        other(2, ("libb.so.09", "/lib/libb.so.9", None, NATIVE, 0)),
        [&BOTH[..1], &[BOTH[2], BOTH[1]], &BOTH[3..]].concat(),
        [&BOTH[..3], &[BOTH[2]], &BOTH[3..]].concat(),
    ] {
        let now = answer(&cache(&entries), "libb.so.9");
        assert!(now.is_some() && now != then, "{entries:?}");
    }
}

#[test]
fn what_is_not_understood_is_not_read() {
    let content = cache(&BOTH);
    let extensions = usize::try_from(number(&content, 32).unwrap()).unwrap();
    let with = |at: usize, byte: u8| {
        let mut other = content.clone();
        other[at] = byte;
        LoaderCache::parse(&other)
    };
    assert!(with(28, 0).is_some(), "no order of bytes is said");
    for (at, byte, why) in [
        (0, b'x', "another format"),
        (19, b'2', "another version"),
        (28, 3, "big-endian"),
        (28, 6, "an unknown flag"),
        (29, 1, "padding"),
        (40, 1, "space for extensions"),
        (32, content[32] + 1, "unaligned extensions"),
        (extensions, 0, "no extensions"),
        (extensions + 8, 2, "an unknown section"),
        (extensions + 12, 1, "a section's flag"),
        (extensions + 8, 1, "two sections of folders"),
        (extensions + 24 + 12, 0, "no folders"),
        (HEADER + ENTRY + 16, 1, "no such folder"),
        (HEADER + 4, content[HEADER + 4 + 4 * ENTRY], "not sorted"),
    ] {
        assert!(with(at, byte).is_none(), "{why}");
    }
    assert!(LoaderCache::parse(b"ld.so-1.7.0").is_none(), "the old format");
    for name in ["lib\u{e4}.so", "lib.so.1234567890", ".", "..", "", "a/b"] {
        let entries = [(name, "/lib/x", None, NATIVE, 0)];
        assert!(LoaderCache::parse(&cache(&entries)).is_none(), "{name:?}");
    }
    // All bytes are needed, but those of the release that wrote it.
    for length in 0..content.len() {
        assert!(LoaderCache::parse(&content[..length]).is_none(), "{length} bytes");
    }
}

#[test]
fn this_machines_cache_is_understood() {
    if !Path::new("/etc/debian_version").exists() {
        return;
    }
    let (stamp, cache) = LoaderCache::current().unwrap();
    assert_eq!(stamp, PathStamp::of(LOADER_CACHE));
    let files = cache.files(b"libc.so.6").unwrap();
    assert!(files.iter().any(|file| Path::new(std::str::from_utf8(&file.path).unwrap()).exists()));
    assert!(cache.files(b"libnowhere-at-all.so").unwrap().is_empty());
}

/// `_dl_cache_libcmp`, line by line.
fn compare(one: &[u8], other: &[u8]) -> i32 {
    let at = |text: &[u8], at: usize| i32::from(text.get(at).copied().unwrap_or(0));
    let is_digit = |byte: i32| (48..58).contains(&byte);
    let (mut p1, mut p2) = (0, 0);
    while at(one, p1) != 0 {
        let (mut c1, mut c2) = (at(one, p1), at(other, p2));
        if is_digit(c1) {
            if !is_digit(c2) {
                return 1;
            }
            let (mut val1, mut val2) = (0, 0);
            while is_digit(c1) {
                val1 = val1 * 10 + c1 - 48;
                p1 += 1;
                c1 = at(one, p1);
            }
            while is_digit(c2) {
                val2 = val2 * 10 + c2 - 48;
                p2 += 1;
                c2 = at(other, p2);
            }
            if val1 != val2 {
                return val1 - val2;
            }
        } else if is_digit(c2) {
            return -1;
        } else if c1 != c2 {
            return c1 - c2;
        } else {
            p1 += 1;
            p2 += 1;
        }
    }
    at(one, p1) - at(other, p2)
}

/// The file that the loader takes (`search_cache`) on a processor that can use files in these folders, the
/// best first.
fn taken(content: &[u8], name: &[u8], usable: &[&str]) -> Option<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
    let text = |at: u32| -> &[u8] {
        let text = &content[at as usize..];
        &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())]
    };
    let is_place = |at: u32| (at as usize) < content.len();
    let entry = |at: i32| HEADER + ENTRY * usize::try_from(at).unwrap();
    let key = |at: i32| number(entry(at) + 4);
    let priority = |index: u32| {
        let at = number(32) as usize;
        let sections = (at..).step_by(SECTION).skip(1).map(|at| at - 8);
        let mut sections = sections.take(number(at + 4) as usize);
        let section = sections.find(|section| number(*section) == TAG_HWCAPS)?;
        (index < number(section + 12) / 4).then_some(())?;
        let name = text(number(number(section + 8) as usize + 4 * index as usize));
        usable.iter().position(|folder| folder.as_bytes() == name)
    };
    let (mut left, mut right) = (0, i32::try_from(number(20)).unwrap() - 1);
    while left <= right {
        let mut middle = i32::midpoint(left, right);
        if !is_place(key(middle)) {
            return None;
        }
        let order = compare(name, text(key(middle)));
        if order < 0 {
            left = middle + 1;
        } else if order > 0 {
            right = middle - 1;
        } else {
            let is_same = |at: i32| is_place(key(at)) && compare(name, text(key(at))) == 0;
            while middle > 0 && is_same(middle - 1) {
                middle -= 1;
            }
            let mut best: Option<(Option<usize>, u32)> = None;
            while middle <= right && is_same(middle) {
                let (at, demands) = (entry(middle), number(entry(middle) + 20));
                middle += 1;
                if number(at) != NATIVE || !is_place(number(at + 8)) {
                    continue;
                }
                let is_named = demands & !0x3ff == 1 << 30;
                if is_named {
                    let Some(priority) = priority(number(at + 16)) else { continue };
                    if best.is_none_or(|(best, _)| best.is_some_and(|best| priority < best)) {
                        best = Some((Some(priority), number(at + 8)));
                    }
                } else if best.is_some() {
                    break;
                } else if demands == 0 && number(at + 16) == 0 {
                    best = Some((None, number(at + 8)));
                    break;
                }
            }
            return best.map(|(_, path)| text(path).to_vec());
        }
    }
    None
}

const NAMES: [&str; 8] =
    ["liba.so", "liba.so.1", "liba.so.01", "liba.so.2", "liba.so.10", "libb.so.1", "lib.so", "a"];
const PATHS: [&str; 4] = ["/lib/1", "/lib/2", "/opt/3", "/opt/4"];
const FOLDERS: [Option<&str>; 3] = [None, Some("x86-64-v2"), Some("x86-64-v3")];

fn entries() -> impl Strategy<Value = Vec<Written>> {
    let entry = (
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&PATHS[..]),
        prop::sample::select(&FOLDERS[..]),
        prop::sample::select(&[NATIVE, NATIVE, 3][..]),
        Just(0),
    );
    prop::collection::vec(entry, 0..12).prop_map(|mut entries| {
        entries.sort_by(|one, other| order(other.0.as_bytes(), one.0.as_bytes()));
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_compare_as_they_do_for_the_loader(one in "[a-c0-2.]{0,8}", other in "[a-c0-2.]{0,8}") {
        let expected = compare(one.as_bytes(), other.as_bytes()).cmp(&0);
        prop_assert_eq!(order(one.as_bytes(), other.as_bytes()), expected);
    }

    /// Whatever is changed in a cache: if it is understood, what the loader takes for a name follows from
    /// that name's entries alone.
    #[test]
    fn the_entries_of_a_name_decide_what_the_loader_takes(
        entries in entries(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut content = cache(&entries);
        for (at, byte) in &changes {
            let at = at.index(content.len());
            content[at] = *byte;
        }
        let Some(cache) = LoaderCache::parse(&content) else {
            prop_assert!(!changes.is_empty());
            return Ok(());
        };
        for name in NAMES.map(str::as_bytes) {
            let alone: Vec<_> = cache.files(name).unwrap().iter().collect();
            let alone = written(&alone);
            prop_assert_eq!(LoaderCache::parse(&alone).unwrap().answer(name), cache.answer(name));
            for usable in [&[][..], &["x86-64-v2"], &["x86-64-v3", "x86-64-v2"]] {
                prop_assert_eq!(taken(&content, name, usable), taken(&alone, name, usable));
            }
        }
    }

    #[test]
    fn garbage_is_refused(
        start in prop::sample::select(vec![0, MAGIC.len(), HEADER]),
        garbage in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut content = cache(&BOTH)[..start].to_vec();
        content.extend(garbage);
        prop_assert!(LoaderCache::parse(&content).is_none());
    }
}
