//! The signers that a reader believes: an `allowed_signers` file as git and `ssh-keygen` read it.
//!
//! A line has principals, options and a public key. The options `namespaces`, `valid-after` and
//! `valid-before` mean what they mean to OpenSSH; a line with another option is refused, since its
//! meaning may be a restriction. A line whose principals include `peer` names a signer whose records
//! are shown and answer only where the config says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use super::outside::{InsideTree, outside_tree};
use super::signature::{NAMESPACE, fingerprint};
use crate::model::Timestamp;

/// A longer file names no team.
const MAX_SIGNERS_BYTES: u64 = 1 << 20;

/// The principal that makes a signer a peer.
const PEER: &str = "peer";

/// The zone of a time without `Z` is not known here: such a time starts as late and ends as early as
/// in any zone.
const WIDEST_ZONE: Duration = Duration::from_secs(14 * 3600);

/// How far the records of a signer are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SignerTier {
    /// Its records answer.
    Trusted,
    /// Its records are shown, and answer only with `trust_peers`.
    Peer,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    principals: String,
    tier: SignerTier,
    key: KeyData,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

impl Grant {
    fn holds_at(&self, time: Timestamp) -> bool {
        self.valid_after.is_none_or(|after| time >= after)
            && self.valid_before.is_none_or(|before| time < before)
    }
}

/// A signer that is believed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    /// Its name in messages: the principals of its line.
    pub(super) principals: String,
    /// The fingerprint that names its folder in the store.
    pub(super) fingerprint: String,
    /// How far it is believed.
    pub(super) tier: SignerTier,
    /// The key.
    pub(super) key: KeyData,
    /// Its lines: a record must have been made while one of them held.
    grants: Vec<Grant>,
}

impl Signer {
    /// Whether a record of that time is believed.
    pub(super) fn covers(&self, created: Timestamp) -> bool {
        self.grants.iter().any(|grant| grant.holds_at(created))
    }
}

/// The signers of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signers {
    grants: Vec<Grant>,
    /// The lines that name no signer, and why.
    pub(super) refused: Vec<String>,
}

/// Why a file of signers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignersError {
    /// It belongs to the code under test.
    #[error("allowed_signers: {0}")]
    Inside(#[from] InsideTree),
    /// It cannot be read.
    #[error("allowed_signers: cannot read {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Signers {
    /// Reads the file, which must lie outside the tree under test.
    ///
    /// # Errors
    /// If it lies inside that tree, or cannot be read.
    pub(super) fn read(path: &Path, workspace_root: &Path) -> Result<Self, SignersError> {
        outside_tree(path, workspace_root)?;
        let unreadable = |why: String| SignersError::Unreadable { path: path.to_owned(), why };
        let metadata = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > MAX_SIGNERS_BYTES {
            return Err(unreadable(format!("it is no file of at most {MAX_SIGNERS_BYTES} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self::parse(&text))
    }

    /// Reads the text of a file.
    pub(super) fn parse(text: &str) -> Self {
        let mut signers = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok(Some(grant)) => signers.grants.push(grant),
                Ok(None) => {}
                Err(why) => signers.refused.push(format!("line {}: {why}", index + 1)),
            }
        }
        signers
    }

    /// The signers that are believed at this time, each once, the trusted ones first.
    pub(super) fn at(&self, now: Timestamp) -> Vec<Signer> {
        let mut found: BTreeMap<(SignerTier, String), Signer> = BTreeMap::new();
        for grant in self.grants.iter().filter(|grant| grant.holds_at(now)) {
            let of_key = || self.grants.iter().filter(|other| other.key == grant.key);
            let tier = of_key().filter(|other| other.holds_at(now)).map(|other| other.tier).min();
            let (tier, fingerprint) = (tier.unwrap_or(grant.tier), fingerprint(&grant.key));
            found.entry((tier, fingerprint.clone())).or_insert_with(|| Signer {
                principals: grant.principals.clone(),
                fingerprint,
                tier,
                key: grant.key.clone(),
                grants: of_key().cloned().collect(),
            });
        }
        found.into_values().collect()
    }

    /// The principals of signers that are not believed now, but were or will be.
    pub(super) fn lapsed_at(&self, now: Timestamp) -> Vec<&str> {
        let is_valid = |key: &KeyData| {
            self.grants.iter().any(|grant| grant.key == *key && grant.holds_at(now))
        };
        let lapsed = self.grants.iter().filter(|grant| !is_valid(&grant.key));
        lapsed.map(|grant| &*grant.principals).collect()
    }

    /// Whether a line names this key, whatever its dates.
    pub(super) fn name(&self, key: &KeyData) -> bool {
        self.grants.iter().any(|grant| grant.key == *key)
    }
}

/// The signer of a line; none if the line is about other namespaces.
fn parse_line(line: &str) -> Result<Option<Grant>, String> {
    let (principals, rest) = word(line)?;
    if principals.is_empty() {
        return Err("it names no principal".to_owned());
    }
    let (mut valid_after, mut valid_before, mut is_ours) = (None, None, true);
    // The options may be left out; a key has two words, of which the second holds no `=` or `"`
    // before its padding.
    let rest = match PublicKey::from_openssh(rest) {
        Ok(_) => rest,
        Err(_) => {
            let (options, rest) = word(rest)?;
            for option in split_options(&options)? {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(unquoted(value)?)),
                    None => (option.as_str(), None),
                };
                match (name.to_ascii_lowercase().as_str(), value) {
                    ("namespaces", Some(patterns)) => is_ours = matches_list(NAMESPACE, &patterns),
                    ("valid-after", Some(time)) => {
                        valid_after = Some(parse_time(&time, Bound::After)?);
                    }
                    ("valid-before", Some(time)) => {
                        valid_before = Some(parse_time(&time, Bound::Before)?);
                    }
                    ("cert-authority", _) => {
                        return Err("`cert-authority` is not supported: name each key".to_owned());
                    }
                    _ => return Err(format!("`{option}` is no option or key of a signer")),
                }
            }
            rest
        }
    };
    let key = PublicKey::from_openssh(rest).map_err(|error| format!("no public key: {error}"))?;
    let is_peer = principals.split(',').any(is_peer);
    let tier = if is_peer { SignerTier::Peer } else { SignerTier::Trusted };
    let key = key.key_data().clone();
    Ok(is_ours.then_some(Grant { principals, tier, key, valid_after, valid_before }))
}

/// Whether a principal makes its signer a peer, however it is written: a slip must not make it a trusted one.
fn is_peer(principal: &str) -> bool {
    principal.trim_matches([' ', '\t', '"']).eq_ignore_ascii_case(PEER)
}

/// The first word, in which quotes hold spaces together, and the rest.
fn word(line: &str) -> Result<(String, &str), String> {
    let mut is_quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c.is_ascii_whitespace() && !is_quoted => {
                let word = line[..at].to_owned();
                let word = if word.starts_with('"') { unquoted(&word)? } else { word };
                return Ok((word, line[at..].trim_start()));
            }
            _ => {}
        }
    }
    Err(if is_quoted { "a quote is not closed" } else { "it ends before a public key" }.to_owned())
}

/// The options, which commas separate outside quotes.
fn split_options(text: &str) -> Result<Vec<String>, String> {
    let (mut options, mut option, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        is_quoted ^= c == '"';
        match c {
            ',' if !is_quoted => options.push(std::mem::take(&mut option)),
            c => option.push(c),
        }
    }
    options.push(option);
    if is_quoted { Err("a quote is not closed".to_owned()) } else { Ok(options) }
}

fn unquoted(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match inner.unwrap_or(text) {
        inner if inner.contains('"') => Err(format!("`{text}` is quoted wrongly")),
        inner => Ok(inner.to_owned()),
    }
}

/// Whether a list of patterns, as OpenSSH has it, matches: `*` and `?` are wild, `!` excludes.
fn matches_list(text: &str, patterns: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    matched
}

fn matches(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skipped| matches(&text[skipped..], rest)),
        (Some((p, pattern)), Some((t, text))) => (*p == b'?' || p == t) && matches(text, pattern),
        (Some(_), None) => false,
    }
}

#[derive(Clone, Copy)]
enum Bound {
    After,
    Before,
}

/// A time as `YYYYMMDD[HHMM[SS]][Z]`.
fn parse_time(text: &str, bound: Bound) -> Result<Timestamp, String> {
    let bad = || format!("`{text}` is no time of the form YYYYMMDD[HHMM[SS]]Z");
    let (digits, is_utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let is_complete = matches!(digits.len(), 8 | 12 | 14);
    if !is_complete || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number = |at: usize, len: usize| -> u64 {
        digits.get(at..at + len).and_then(|part| part.parse().ok()).unwrap_or(0)
    };
    let (year, month, day) = (number(0, 4), number(4, 2), number(6, 2));
    let (hour, minute, second) = (number(8, 2), number(10, 2), number(12, 2));
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return Err(bad());
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(bad());
    }
    let days: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum::<u64>()
        + (1..month).map(|month| days_in(year, month)).sum::<u64>()
        + (day - 1);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    let zone = WIDEST_ZONE.as_secs();
    let seconds = match bound {
        _ if is_utc => seconds,
        Bound::After => seconds + zone,
        Bound::Before => seconds.saturating_sub(zone),
    };
    Ok(Timestamp(seconds * 1000))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILagOJFgwaMNhBWQINinKOXmqS4Gh5NgxgriXwdOoINJ";

    fn at(time: &str) -> Timestamp {
        parse_time(time, Bound::After).unwrap()
    }

    #[test]
    fn the_forms_of_a_line_are_read() {
        let text = format!(
            "# team\n\nci@example.com {KEY} a comment\n\
             \"two words,ci\" NAMESPACES=\"git,verdict@*\" {KEY}\n\
             peer,alice@example.com namespaces=\"{NAMESPACE}\",valid-after=20260101Z {KEY}"
        );
        let signers = Signers::parse(&text);
        assert_eq!(signers.refused, Vec::<String>::new());
        let names: Vec<_> = signers.grants.iter().map(|grant| &*grant.principals).collect();
        assert_eq!(names, ["ci@example.com", "two words,ci", "peer,alice@example.com"]);
        let tiers: Vec<_> = signers.grants.iter().map(|grant| grant.tier).collect();
        assert_eq!(tiers, [SignerTier::Trusted, SignerTier::Trusted, SignerTier::Peer]);
        let one = signers.at(at("20260102Z"));
        assert_eq!(one.len(), 1, "one key is one signer");
        assert_eq!(one[0].tier, SignerTier::Trusted);
    }

    #[test]
    fn a_peer_is_one_however_the_word_is_written() {
        for principals in [
            "peer",
            "Peer,alice",
            "alice,PEER",
            "\"alice, peer\"",
            "\"peer\t,alice\"",
            "alice,\"peer\"",
        ] {
            let signers = Signers::parse(&format!("{principals} {KEY}"));
            assert_eq!(signers.refused, Vec::<String>::new(), "{principals}");
            assert_eq!(signers.grants[0].tier, SignerTier::Peer, "{principals}");
        }
        let signers = Signers::parse(&format!("peers,peer@example.com {KEY}"));
        assert_eq!(signers.grants[0].tier, SignerTier::Trusted, "other words");
    }

    #[test]
    fn lines_that_restrict_in_an_unknown_way_name_nobody() {
        for (line, why) in [
            (format!("ca cert-authority {KEY}"), "cert-authority"),
            (format!("a verify-required {KEY}"), "verify-required"),
            (format!("a valid-before=2026 {KEY}"), "no time"),
            (format!("a valid-before=\"20260230Z\" {KEY}"), "no time"),
            (format!("a namespaces=\"git {KEY}"), "quote"),
            ("a ssh-ed25519".to_owned(), "ends before"),
            ("a ssh-ed25519 AAAA".to_owned(), "no"),
        ] {
            let signers = Signers::parse(&line);
            assert!(signers.grants.is_empty(), "{line}");
            assert!(signers.refused[0].contains(why), "{line}: {:?}", signers.refused);
        }
        let other = Signers::parse(&format!("a namespaces=\"git\" {KEY}"));
        assert_eq!(other, Signers::default(), "a line about other namespaces is no fault");
        let excluded = format!("a namespaces=\"*,!{NAMESPACE}\" {KEY}");
        assert!(Signers::parse(&excluded).at(at("20260101Z")).is_empty());
    }

    #[test]
    fn a_signer_is_believed_between_its_dates() {
        let line = format!("a valid-after=\"20260101Z\",valid-before=\"20260201120000Z\" {KEY}");
        let signers = Signers::parse(&line);
        let believed = |time: &str| !signers.at(at(time)).is_empty();
        assert!(!believed("20251231235959Z"));
        assert!(believed("20260101Z"));
        assert!(believed("20260201115959Z"));
        assert!(!believed("20260201120000Z"));
        let signer = &signers.at(at("20260115Z"))[0];
        assert!(signer.covers(at("20260110Z")));
        assert!(!signer.covers(at("20251210Z")), "made before the signer was believed");
    }

    #[test]
    fn a_time_without_a_zone_is_the_narrowest() {
        let line = format!("a valid-after=20260110,valid-before=20260120 {KEY}");
        let signers = Signers::parse(&line);
        let believed = |time: &str| !signers.at(at(time)).is_empty();
        assert!(!believed("20260110Z"));
        assert!(believed("20260110140000Z"));
        assert!(!believed("20260119100000Z"));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(at("19700101Z"), Timestamp(0));
        assert_eq!(at("20000229Z"), Timestamp(951_782_400_000));
        assert_eq!(at("20261127101530Z"), Timestamp(1_795_774_530_000));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Signers::parse(&text);
        }

        #[test]
        fn damage_after_the_principal_never_widens_a_line(at in 2usize..120, with in "[ -~]") {
            let line = format!("a namespaces=\"git\" {KEY}");
            let mut text = line.clone();
            if at < text.len() {
                text.replace_range(at..=at, &with);
            }
            let signers = Signers::parse(&text);
            let ours = signers.grants.iter().filter(|_| text != line);
            // Only by naming our namespace with a pattern does another text name a signer for us.
            prop_assert!(ours.count() == 0 || text.contains('*'));
        }
    }
}
