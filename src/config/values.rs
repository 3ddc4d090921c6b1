//! How values of the config are written: one type for each notation.
//!
//! A field of a settings struct names its notation with `#[serde(with = "As::<NOTATION>")]`. The
//! notation reads the value, refuses what makes no sense, writes the value back, and describes it for
//! the schema.
//!
//! The error messages have the form `REASON, expected ALLOWED`, as serde's own have.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobBuilder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

use super::{BackgroundTests, TargetDir, TestSelection, toml_text, units};

/// The longest duration that makes sense, in milliseconds: ten years.
pub(super) const TEN_YEARS: u64 = 3_650 * 86_400_000;

/// A way to write a value. A value of another type than those it reads is refused.
pub(super) trait Notation {
    /// The value that is read.
    type Value: Serialize;
    /// What may be written, for messages.
    const ALLOWED: &'static str;
    /// What may be written, with the bounds if there are any.
    fn allowed() -> String {
        Self::ALLOWED.to_owned()
    }
    /// The schema of the value.
    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
    /// Reads a text.
    fn text(_: &str) -> Result<Self::Value, Refusal> {
        Err(None)
    }
    /// Reads a whole number.
    fn integer(_: i64) -> Result<Self::Value, Refusal> {
        Err(None)
    }
    /// Reads `true` or `false`.
    fn flag(_: bool) -> Result<Self::Value, Refusal> {
        Err(None)
    }
    /// Reads a list; none where the notation is no list.
    fn list<'de, A: SeqAccess<'de>>(_: A) -> Option<Result<Self::Value, A::Error>> {
        None
    }
    /// What is written, which reads back as the value.
    fn written(value: &Self::Value) -> impl Serialize {
        value
    }
}

/// Why a notation refuses a value; none where the value is of another type.
type Refusal = Option<String>;

/// A field that holds a value of a notation.
pub(super) trait Field<T> {
    /// The field's value for what was read.
    fn from_read(value: T) -> Self;
    /// The value to write for the field's.
    fn to_write(&self) -> T;
}

impl<T: Clone> Field<T> for T {
    fn from_read(value: T) -> Self {
        value
    }
    fn to_write(&self) -> T {
        self.clone()
    }
}

impl Field<u64> for u32 {
    fn from_read(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
    fn to_write(&self) -> u64 {
        u64::from(*self)
    }
}

impl Field<u64> for NonZeroUsize {
    fn from_read(number: u64) -> Self {
        usize::try_from(number).ok().and_then(Self::new).unwrap_or(Self::MIN)
    }
    fn to_write(&self) -> u64 {
        self.get() as u64
    }
}

/// In milliseconds.
impl Field<u64> for Duration {
    fn from_read(number: u64) -> Self {
        Self::from_millis(number)
    }
    fn to_write(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Zero means none.
impl<T: Field<u64>> Field<u64> for Option<T> {
    fn from_read(number: u64) -> Self {
        (number > 0).then(|| T::from_read(number))
    }
    fn to_write(&self) -> u64 {
        self.as_ref().map_or(0, T::to_write)
    }
}

/// An empty text means none.
impl Field<String> for Option<String> {
    fn from_read(text: String) -> Self {
        Some(text).filter(|text| !text.is_empty())
    }
    fn to_write(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

/// An empty text means none. A path is as written until [`super::read`] has expanded it.
impl Field<String> for Option<PathBuf> {
    fn from_read(text: String) -> Self {
        Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)
    }
    fn to_write(&self) -> String {
        self.as_ref().map(|path| toml_text::escape(&path.to_string_lossy())).unwrap_or_default()
    }
}

/// A path in it is as written until [`super::read`] has expanded it.
impl Field<String> for TargetDir {
    fn from_read(text: String) -> Self {
        match &*text {
            "cargo" => Self::Cargo,
            "own" => Self::Own(PathBuf::new()),
            path => Self::At(path.into()),
        }
    }
    fn to_write(&self) -> String {
        match self {
            Self::Cargo => "cargo".to_owned(),
            Self::Own(_) => "own".to_owned(),
            Self::At(path) => toml_text::escape(&path.to_string_lossy()),
        }
    }
}

/// Reads, writes and describes a field in a notation.
pub(super) struct As<N>(PhantomData<N>);

impl<N: Notation> As<N> {
    pub(super) fn deserialize<'de, D, F>(from: D) -> Result<F, D::Error>
    where
        D: Deserializer<'de>,
        F: Field<N::Value>,
    {
        from.deserialize_any(Self(PhantomData)).map(F::from_read)
    }

    pub(super) fn serialize<S, F>(field: &F, to: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        F: Field<N::Value>,
    {
        N::written(&field.to_write()).serialize(to)
    }

    /// The error of a value that the notation has refused.
    fn error<E: Error>(self, refusal: Refusal, found: Unexpected<'_>) -> E {
        match refusal {
            Some(why) => E::custom(format_args!("{why}, expected {}", N::allowed())),
            None => E::invalid_type(found, &self),
        }
    }
}

impl<'de, N: Notation> Visitor<'de> for As<N> {
    type Value = N::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&N::allowed())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<N::Value, E> {
        N::text(text).map_err(|refusal| self.error(refusal, Unexpected::Str(text)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<N::Value, E> {
        N::integer(number).map_err(|refusal| self.error(refusal, Unexpected::Signed(number)))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<N::Value, E> {
        N::flag(flag).map_err(|refusal| self.error(refusal, Unexpected::Bool(flag)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<N::Value, A::Error> {
        N::list(items).unwrap_or_else(|| Err(self.error(None, Unexpected::Seq)))
    }
}

/// An item of a list: read by itself, its error has its place.
impl<'de, N: Notation> DeserializeSeed<'de> for As<N> {
    type Value = N::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<N::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<N: Notation> JsonSchema for As<N> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "As".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        N::schema()
    }
}

/// A kind of amount that is written with units, such as `1h 30m`.
pub(super) trait Measure {
    /// How to write it, for messages.
    const HOW: &'static str;
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

impl Measure for Millis {
    const HOW: &'static str =
        "written with the units d, h, m, s and ms, such as \"90s\" or \"1h 30m\"";
    const PATTERN: &'static str = units::DURATION_PATTERN;
    const EXAMPLES: &'static [&'static str] = &["500ms", "90s", "1h 30m"];
    fn parse(text: &str) -> Result<u64, String> {
        units::parse_duration(text).map(|duration| duration.to_write())
    }
    fn format(number: u64) -> String {
        units::format_duration(Duration::from_millis(number))
    }
}

/// Sizes in bytes: `2GiB`.
pub(super) enum Bytes {}

impl Measure for Bytes {
    const HOW: &'static str = "written with a unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)";
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

impl Measure for Percent {
    const HOW: &'static str = "written with its sign, such as \"40%\"";
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

impl<U: Measure, const MIN: u64, const MAX: u64> Notation for Text<U, MIN, MAX> {
    type Value = u64;
    const ALLOWED: &'static str = U::HOW;
    fn allowed() -> String {
        format!("{} to {}, {}", U::format(MIN), U::format(MAX), U::HOW)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": U::PATTERN, "examples": U::EXAMPLES })
    }
    fn text(text: &str) -> Result<u64, Refusal> {
        let number = U::parse(text)?;
        let is_within = (MIN..=MAX).contains(&number);
        is_within.then_some(number).ok_or_else(|| format!("`{text}` is out of range").into())
    }
    fn written(number: &u64) -> impl Serialize {
        U::format(*number)
    }
}

/// A whole number between two bounds.
pub(super) enum Whole<const MIN: u64, const MAX: u64> {}

impl<const MIN: u64, const MAX: u64> Notation for Whole<MIN, MAX> {
    type Value = u64;
    const ALLOWED: &'static str = "written without quotes";
    fn allowed() -> String {
        format!("{MIN} to {MAX}, {}", Self::ALLOWED)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
    fn integer(number: i64) -> Result<u64, Refusal> {
        let within = u64::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        within.ok_or_else(|| format!("invalid value: integer `{number}`").into())
    }
}

/// A list of strings, each in a notation.
pub(super) struct List<I>(PhantomData<I>);

impl<I: Notation<Value = String>> Notation for List<I> {
    type Value = Vec<String>;
    const ALLOWED: &'static str = I::ALLOWED;
    fn schema() -> Schema {
        json_schema!({ "type": "array", "items": I::schema() })
    }
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Option<Result<Vec<String>, A::Error>> {
        let next = || items.next_element_seed(As::<I>(PhantomData)).transpose();
        Some(std::iter::from_fn(next).collect())
    }
}

/// The words of a command line. Their meaning is cargo's business.
pub(super) enum CargoWord {}

impl Notation for CargoWord {
    type Value = String;
    const ALLOWED: &'static str = "a list with one word an entry, such as [\"-p\", \"my-crate\"]";
    fn text(word: &str) -> Result<String, Refusal> {
        if word.is_empty() {
            return Err("a word is empty".to_owned().into());
        }
        no_nul(word)?;
        Ok(word.to_owned())
    }
}

/// Globs of packages and test targets.
pub(super) enum TargetGlob {}

impl Notation for TargetGlob {
    type Value = String;
    const ALLOWED: &'static str = "a list of globs of packages or test targets, such as \"my-crate\", \"*::network\" or \
         \"my-crate (doc)\"";
    fn text(glob: &str) -> Result<String, Refusal> {
        text_glob(glob)
    }
}

/// Globs of addresses.
pub(super) enum AddressGlob {}

impl Notation for AddressGlob {
    type Value = String;
    const ALLOWED: &'static str = "a list of globs of addresses, such as \"127.0.0.1:5432\", \"*:5432\" or \
         \"/run/postgresql/*\"";
    fn text(glob: &str) -> Result<String, Refusal> {
        text_glob(glob)
    }
}

/// Globs of variables' names.
pub(super) enum VariableGlob {}

impl Notation for VariableGlob {
    type Value = String;
    const ALLOWED: &'static str =
        "a list of globs of variables' names, such as \"MY_TERMINAL\" or \"MY_PROMPT_*\"";
    fn text(glob: &str) -> Result<String, Refusal> {
        if glob.contains('=') {
            return Err(format!("`{glob}` holds a `=`, which no variable's name has").into());
        }
        text_glob(glob)
    }
}

/// What a list of files may hold.
const FILE_GLOBS: &str = "a list of globs relative to the workspace, such as \"fixtures/**\", \
                          \"*.md\" or \"data/{a,b}.json\"";

/// Globs of files that count.
pub(super) enum IncludedFiles {}

impl Notation for IncludedFiles {
    type Value = String;
    const ALLOWED: &'static str = FILE_GLOBS;
    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "pattern": "^[^/~$!]",
            "not": { "pattern": "/$|(^|/)\\.\\.?(/|$)" },
        })
    }
    fn text(glob: &str) -> Result<String, Refusal> {
        file_glob(glob)?;
        Ok(glob.to_owned())
    }
}

/// Globs of files that do not count.
pub(super) enum ExcludedFiles {}

impl Notation for ExcludedFiles {
    type Value = String;
    const ALLOWED: &'static str = FILE_GLOBS;
    fn schema() -> Schema {
        IncludedFiles::schema()
    }
    fn text(glob: &str) -> Result<String, Refusal> {
        let matcher = file_glob(glob)?;
        // These two decide every build. Without them every verdict would be stale, silently.
        match ["Cargo.toml", "Cargo.lock"].into_iter().find(|file| matcher.is_match(file)) {
            Some(file) => {
                Err(format!("`{glob}` would exclude `{file}`, which decides every build").into())
            }
            None => Ok(glob.to_owned()),
        }
    }
}

/// No path and no argument of a program can hold a zero byte.
pub(super) fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it holds a zero character".to_owned()) } else { Ok(()) }
}

/// Reads a glob over a text that is no path: `*` stands for anything.
fn text_glob(glob: &str) -> Result<String, Refusal> {
    if glob.is_empty() {
        return Err("a glob is empty".to_owned().into());
    }
    globset::Glob::new(glob).map_err(|error| format!("`{glob}`: {}", error.kind()))?;
    Ok(glob.to_owned())
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

/// Where a shared store is; an empty text for nowhere.
pub(super) enum StoreUrl {}

impl Notation for StoreUrl {
    type Value = String;
    const ALLOWED: &'static str =
        "a URL that begins with file:///, s3://, gs://, az:// or redis://, or \"\"";
    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
    fn text(text: &str) -> Result<String, Refusal> {
        let schemes = ["file:///", "s3://", "gs://", "az://", "redis://"];
        if !text.is_empty() && !schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(format!("`{text}` names no store that is supported").into());
        }
        no_nul(text)?;
        Ok(text.to_owned())
    }
}

/// A file that no workspace holds; an empty text for none.
pub(super) enum OutsideFile {}

impl Notation for OutsideFile {
    type Value = String;
    const ALLOWED: &'static str =
        "an absolute path, or one that starts with `~/` or `$NAME/`, or \"\"";
    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
    fn text(text: &str) -> Result<String, Refusal> {
        if !text.is_empty() && !text.starts_with(['/', '~', '$']) {
            return Err(format!("`{text}` is relative").into());
        }
        no_nul(text)?;
        Ok(text.to_owned())
    }
}

/// What the path of a project may be.
pub(super) const PATH: &str = "an absolute path, or one that starts with `~/` or `$NAME/`";

impl Notation for TargetDir {
    type Value = String;
    const ALLOWED: &'static str =
        "`cargo`, `own`, an absolute path, or a path that starts with `~/` or `$NAME/`";
    fn text(text: &str) -> Result<String, Refusal> {
        if ["cargo", "own"].contains(&text) || text.starts_with(['/', '~', '$']) {
            return Ok(text.to_owned());
        }
        Err(format!("`{text}` is neither a known word nor an absolute path").into())
    }
}

impl Notation for BackgroundTests {
    type Value = Self;
    const ALLOWED: &'static str = "`true` or `false` without quotes, or \"auto\"";
    fn schema() -> Schema {
        json_schema!({ "enum": ["auto", true, false] })
    }
    fn flag(all: bool) -> Result<Self, Refusal> {
        Ok(if all { Self::All } else { Self::Off })
    }
    fn text(word: &str) -> Result<Self, Refusal> {
        match word {
            "auto" => Ok(Self::Auto),
            other => Err(format!("`{other}` is no known word").into()),
        }
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

impl Notation for TestSelection {
    type Value = Self;
    const ALLOWED: &'static str = "`shadow`, `on` or `off`";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["shadow", "on", "off"] })
    }
    fn text(word: &str) -> Result<Self, Refusal> {
        match word {
            "off" => Ok(Self::Off),
            "shadow" => Ok(Self::Shadow),
            "on" => Ok(Self::On),
            other => Err(format!("`{other}` is no known word").into()),
        }
    }
}
