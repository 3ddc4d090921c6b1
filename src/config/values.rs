//! How values of the config are written: one type for each notation.
//!
//! A field of a settings struct names its notation with `#[serde(with = ...)]`. The notation reads
//! the value, refuses what makes no sense, writes the value back, and describes it for the schema.
//!
//! The error messages have the form `REASON, expected ALLOWED`, as serde's own have.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::time::Duration;

use globset::GlobBuilder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

use super::{BackgroundTests, TargetDir, TestSelection, toml_text, units};

/// The longest duration that makes sense, in milliseconds: ten years.
pub(super) const TEN_YEARS: u64 = 3_650 * 86_400_000;

/// A field that holds a number in some unit.
pub(super) trait Amount {
    /// The field's value for a number.
    fn from_amount(number: u64) -> Self;
    /// The number for the field's value.
    fn amount(&self) -> u64;
}

impl Amount for u64 {
    fn from_amount(number: u64) -> Self {
        number
    }
    fn amount(&self) -> u64 {
        *self
    }
}

impl Amount for u32 {
    fn from_amount(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
    fn amount(&self) -> u64 {
        u64::from(*self)
    }
}

impl Amount for NonZeroUsize {
    fn from_amount(number: u64) -> Self {
        usize::try_from(number).ok().and_then(Self::new).unwrap_or(Self::MIN)
    }
    fn amount(&self) -> u64 {
        self.get() as u64
    }
}

/// In milliseconds.
impl Amount for Duration {
    fn from_amount(number: u64) -> Self {
        Self::from_millis(number)
    }
    fn amount(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Zero means none.
impl<T: Amount> Amount for Option<T> {
    fn from_amount(number: u64) -> Self {
        (number > 0).then(|| T::from_amount(number))
    }
    fn amount(&self) -> u64 {
        self.as_ref().map_or(0, T::amount)
    }
}

/// The units of a text such as `1h 30m`.
pub(super) trait Notation {
    /// How to write it, for messages.
    const NOTATION: &'static str;
    /// The texts that are read, as a regular expression.
    const PATTERN: &'static str;
    /// A few such texts.
    const EXAMPLES: &'static [&'static str];
    /// Reads a text; the error is the reason.
    fn parse(text: &str) -> Result<u64, String>;
    /// Writes a text that reads back.
    fn format(number: u64) -> String;
}

/// Durations in milliseconds: `1h 30m`.
pub(super) enum Millis {}

impl Notation for Millis {
    const NOTATION: &'static str =
        "written with the units d, h, m, s and ms, such as \"90s\" or \"1h 30m\"";
    const PATTERN: &'static str = units::DURATION_PATTERN;
    const EXAMPLES: &'static [&'static str] = &["500ms", "90s", "1h 30m"];
    fn parse(text: &str) -> Result<u64, String> {
        units::parse_duration(text).map(|duration| duration.amount())
    }
    fn format(number: u64) -> String {
        units::format_duration(Duration::from_millis(number))
    }
}

/// Sizes in bytes: `2GiB`.
pub(super) enum Bytes {}

impl Notation for Bytes {
    const NOTATION: &'static str = "written with a unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)";
    const PATTERN: &'static str = units::SIZE_PATTERN;
    const EXAMPLES: &'static [&'static str] = &["512MiB", "2GiB"];
    fn parse(text: &str) -> Result<u64, String> {
        units::parse_size(text)
    }
    fn format(number: u64) -> String {
        units::format_size(number)
    }
}

/// Percentages: `40%`.
pub(super) enum Percent {}

impl Notation for Percent {
    const NOTATION: &'static str = "written with its sign, such as \"40%\"";
    const PATTERN: &'static str = units::PERCENT_PATTERN;
    const EXAMPLES: &'static [&'static str] = &["40%"];
    fn parse(text: &str) -> Result<u64, String> {
        units::parse_percent(text)
    }
    fn format(number: u64) -> String {
        format!("{number}%")
    }
}

/// A text with units, whose value lies between two bounds.
pub(super) struct Text<U, const MIN: u64, const MAX: u64>(PhantomData<U>);

impl<U: Notation, const MIN: u64, const MAX: u64> Text<U, MIN, MAX> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>, V: Amount>(
        from: D,
    ) -> Result<V, D::Error> {
        from.deserialize_str(Self(PhantomData)).map(V::from_amount)
    }

    pub(super) fn serialize<S: Serializer, V: Amount>(value: &V, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&U::format(value.amount()))
    }
}

impl<U: Notation, const MIN: u64, const MAX: u64> Visitor<'_> for Text<U, MIN, MAX> {
    type Value = u64;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}, {}", U::format(MIN), U::format(MAX), U::NOTATION)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let expected: &dyn serde::de::Expected = &self;
        match U::parse(text) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
            Ok(_) => Err(E::custom(format_args!("`{text}` is out of range, expected {expected}"))),
            Err(reason) => Err(E::custom(format_args!("{reason}, expected {expected}"))),
        }
    }
}

impl<U: Notation, const MIN: u64, const MAX: u64> JsonSchema for Text<U, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": U::PATTERN, "examples": U::EXAMPLES })
    }
}

/// A whole number between two bounds.
pub(super) struct Whole<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>, V: Amount>(
        from: D,
    ) -> Result<V, D::Error> {
        from.deserialize_u64(Self).map(V::from_amount)
    }

    pub(super) fn serialize<S: Serializer, V: Amount>(value: &V, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.amount())
    }
}

impl<const MIN: u64, const MAX: u64> Visitor<'_> for Whole<MIN, MAX> {
    type Value = u64;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{MIN} to {MAX}, written without quotes")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let within = u64::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        within.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// What the strings of a list are.
pub(super) trait ListItem {
    /// What may stand in the list, for messages.
    const ALLOWED: &'static str;
    /// Says what is wrong with a string.
    fn check(text: &str) -> Result<(), String>;
    /// The schema of one string.
    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The words of a command line. Their meaning is cargo's business.
pub(super) enum CargoWord {}

impl ListItem for CargoWord {
    const ALLOWED: &'static str = "a list with one word an entry, such as [\"-p\", \"my-crate\"]";
    fn check(word: &str) -> Result<(), String> {
        if word.is_empty() {
            return Err("a word is empty".to_owned());
        }
        no_nul(word)
    }
}

/// Globs of packages and test targets.
pub(super) enum TargetGlob {}

impl ListItem for TargetGlob {
    const ALLOWED: &'static str = "a list of globs of packages or test targets, such as \
                                   \"my-crate\", \"*::network\" or \"my-crate (doc)\"";
    fn check(glob: &str) -> Result<(), String> {
        check_text_glob(glob)
    }
}

/// Globs of addresses.
pub(super) enum AddressGlob {}

impl ListItem for AddressGlob {
    const ALLOWED: &'static str = "a list of globs of addresses, such as \"127.0.0.1:5432\", \
                                   \"*:5432\" or \"/run/postgresql/*\"";
    fn check(glob: &str) -> Result<(), String> {
        check_text_glob(glob)
    }
}

/// Globs of variables' names.
pub(super) enum VariableGlob {}

impl ListItem for VariableGlob {
    const ALLOWED: &'static str =
        "a list of globs of variables' names, such as \"MY_TERMINAL\" or \"MY_PROMPT_*\"";
    fn check(glob: &str) -> Result<(), String> {
        if glob.contains('=') {
            return Err(format!("`{glob}` holds a `=`, which no variable's name has"));
        }
        check_text_glob(glob)
    }
}

/// What a list of files may hold.
const FILE_GLOBS: &str = "a list of globs relative to the workspace, such as \"fixtures/**\", \
                          \"*.md\" or \"data/{a,b}.json\"";

/// Globs of files that count.
pub(super) enum IncludedFiles {}

impl ListItem for IncludedFiles {
    const ALLOWED: &'static str = FILE_GLOBS;
    fn check(glob: &str) -> Result<(), String> {
        file_glob(glob).map(drop)
    }
    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "pattern": "^[^/~$!]",
            "not": { "pattern": "/$|(^|/)\\.\\.?(/|$)" },
        })
    }
}

/// Globs of files that do not count.
pub(super) enum ExcludedFiles {}

impl ListItem for ExcludedFiles {
    const ALLOWED: &'static str = FILE_GLOBS;
    fn check(glob: &str) -> Result<(), String> {
        let matcher = file_glob(glob)?;
        // These two decide every build. Without them every verdict would be stale, silently.
        match ["Cargo.toml", "Cargo.lock"].into_iter().find(|file| matcher.is_match(file)) {
            Some(file) => {
                Err(format!("`{glob}` would exclude `{file}`, which decides every build"))
            }
            None => Ok(()),
        }
    }
    fn schema() -> Schema {
        IncludedFiles::schema()
    }
}

/// No path and no argument of a program can hold a zero byte.
pub(super) fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it holds a zero character".to_owned()) } else { Ok(()) }
}

/// Checks a glob over a text that is no path: `*` stands for anything.
fn check_text_glob(glob: &str) -> Result<(), String> {
    if glob.is_empty() {
        return Err("a glob is empty".to_owned());
    }
    globset::Glob::new(glob).map(drop).map_err(|error| format!("`{glob}`: {}", error.kind()))
}

/// Compiles a glob over the files of a workspace. A glob that could never match is refused, since
/// it would be ignored in silence.
fn file_glob(glob: &str) -> Result<globset::GlobMatcher, String> {
    no_nul(glob)?;
    if glob.is_empty() {
        return Err("a glob is empty".to_owned());
    }
    if glob.starts_with(['/', '~', '$']) {
        return Err(format!("`{glob}` is not relative to the workspace"));
    }
    if glob.starts_with('!') {
        return Err(format!("`{glob}`: there is no negation"));
    }
    if glob.split('/').any(|part| part == ".." || part == ".") {
        return Err(format!("`{glob}` has a `.` or `..` in it, which no file's path has"));
    }
    if glob.ends_with('/') {
        return Err(format!("`{glob}` ends with `/`: a folder's files are `{glob}**`"));
    }
    let compiled = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(compiled.map_err(|error| format!("`{glob}`: {}", error.kind()))?.compile_matcher())
}

/// A list of strings.
pub(super) struct List<I>(PhantomData<I>);

impl<I: ListItem> List<I> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_seq(Self(PhantomData))
    }

    pub(super) fn serialize<S: Serializer>(texts: &[String], to: S) -> Result<S::Ok, S::Error> {
        texts.serialize(to)
    }
}

impl<'de, I: ListItem> Visitor<'de> for List<I> {
    type Value = Vec<String>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(I::ALLOWED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(Checked::<I>(text, _)) = items.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

impl<I: ListItem> JsonSchema for List<I> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": I::schema() })
    }
}

/// One string of a list; it is checked here so that an error has the place of the string.
struct Checked<I>(String, PhantomData<I>);

impl<'de, I: ListItem> Deserialize<'de> for Checked<I> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(ListItemVisitor(PhantomData::<I>))
    }
}

struct ListItemVisitor<I>(PhantomData<I>);

impl<I: ListItem> Visitor<'_> for ListItemVisitor<I> {
    type Value = Checked<I>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(I::ALLOWED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Checked<I>, E> {
        match I::check(text) {
            Ok(()) => Ok(Checked(text.to_owned(), PhantomData)),
            Err(reason) => Err(E::custom(format_args!("{reason}, expected {}", I::ALLOWED))),
        }
    }
}

/// A text that may be empty, for nothing.
pub(super) trait OptionalText {
    /// The field's value.
    type Value;
    /// What may be written, for messages.
    const ALLOWED: &'static str;
    /// Reads a text that is not empty; the error is the reason.
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// Writes a text that reads back.
    fn format(value: &Self::Value) -> String;
}

/// Where a shared store is.
pub(super) enum StoreUrl {}

impl OptionalText for StoreUrl {
    type Value = String;
    const ALLOWED: &'static str = "a URL that begins with file:///, s3:// or redis://, or \"\"";
    fn parse(text: &str) -> Result<String, String> {
        let schemes = ["file:///", "s3://", "redis://"];
        match schemes.iter().any(|scheme| text.starts_with(scheme)) {
            true => no_nul(text).map(|()| text.to_owned()),
            false => Err(format!("`{text}` names no store that is supported")),
        }
    }
    fn format(value: &String) -> String {
        value.clone()
    }
}

/// A file that no workspace holds. It is as written until [`super::read`] has expanded it.
pub(super) enum OutsideFile {}

impl OptionalText for OutsideFile {
    type Value = std::path::PathBuf;
    const ALLOWED: &'static str =
        "an absolute path, or one that starts with `~/` or `$NAME/`, or \"\"";
    fn parse(text: &str) -> Result<std::path::PathBuf, String> {
        match text.starts_with(['/', '~', '$']) {
            true => no_nul(text).map(|()| text.into()),
            false => Err(format!("`{text}` is relative")),
        }
    }
    fn format(value: &std::path::PathBuf) -> String {
        toml_text::escape(&value.to_string_lossy())
    }
}

/// A text, or nothing where it is empty.
pub(super) struct Optional<T>(PhantomData<T>);

impl<T: OptionalText> Optional<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T::Value>, D::Error> {
        from.deserialize_str(Self(PhantomData))
    }

    pub(super) fn serialize<S: Serializer>(
        value: &Option<T::Value>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.as_ref().map(T::format).unwrap_or_default())
    }
}

impl<T: OptionalText> Visitor<'_> for Optional<T> {
    type Value = Option<T::Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(T::ALLOWED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = T::parse(text);
        let expected = |why| E::custom(format_args!("{why}, expected {}", T::ALLOWED));
        parsed.map(Some).map_err(expected)
    }
}

impl<T: OptionalText> JsonSchema for Optional<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Optional".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What `target_dir` may be.
pub(super) const TARGET_DIR: &str =
    "`cargo`, `own`, an absolute path, or a path that starts with `~/` or `$NAME/`";

/// What the path of a project may be.
pub(super) const PATH: &str = "an absolute path, or one that starts with `~/` or `$NAME/`";

/// A path in it is as written until [`super::read`] has expanded it.
impl<'de> Deserialize<'de> for TargetDir {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Place;
        impl Visitor<'_> for Place {
            type Value = TargetDir;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(TARGET_DIR)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TargetDir, E> {
                match text {
                    "cargo" => Ok(TargetDir::Cargo),
                    "own" => Ok(TargetDir::Own(std::path::PathBuf::new())),
                    path if path.starts_with(['/', '~', '$']) => Ok(TargetDir::At(path.into())),
                    other => Err(E::custom(format_args!(
                        "`{other}` is neither a known word nor an absolute path, expected {TARGET_DIR}"
                    ))),
                }
            }
        }
        from.deserialize_str(Place)
    }
}

impl Serialize for TargetDir {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Cargo => to.serialize_str("cargo"),
            Self::Own(_) => to.serialize_str("own"),
            Self::At(path) => to.serialize_str(&toml_text::escape(&path.to_string_lossy())),
        }
    }
}

impl JsonSchema for TargetDir {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TargetDir".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// What `background_tests` may be.
const BACKGROUND_TESTS: &str = "`true` or `false` without quotes, or \"auto\"";

impl<'de> Deserialize<'de> for BackgroundTests {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = BackgroundTests;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(BACKGROUND_TESTS)
            }
            fn visit_bool<E: Error>(self, all: bool) -> Result<BackgroundTests, E> {
                Ok(if all { BackgroundTests::All } else { BackgroundTests::Off })
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<BackgroundTests, E> {
                match text {
                    "auto" => Ok(BackgroundTests::Auto),
                    other => Err(E::custom(format_args!(
                        "`{other}` is no known word, expected {BACKGROUND_TESTS}"
                    ))),
                }
            }
        }
        from.deserialize_any(Choice)
    }
}

impl Serialize for BackgroundTests {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_bool(false),
            Self::Auto => to.serialize_str("auto"),
            Self::All => to.serialize_bool(true),
        }
    }
}

impl JsonSchema for BackgroundTests {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "BackgroundTests".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", true, false] })
    }
}

/// What `selection` may be.
const SELECTION: &str = "`shadow`, `on` or `off`";

impl<'de> Deserialize<'de> for TestSelection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = TestSelection;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(SELECTION)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TestSelection, E> {
                match text {
                    "off" => Ok(TestSelection::Off),
                    "shadow" => Ok(TestSelection::Shadow),
                    "on" => Ok(TestSelection::On),
                    other => Err(E::custom(format_args!(
                        "`{other}` is no known word, expected {SELECTION}"
                    ))),
                }
            }
        }
        from.deserialize_str(Choice)
    }
}

impl Serialize for TestSelection {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::On => "on",
        })
    }
}

impl JsonSchema for TestSelection {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TestSelection".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["shadow", "on", "off"] })
    }
}
