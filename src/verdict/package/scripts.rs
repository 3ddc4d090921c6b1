//! Build scripts of other people's packages: which variables they could ask for without saying so.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cache::{Cache, Input, InputState, KnownMentions};
use crate::model::Digester;
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge, content_of};
use crate::verdict::fingerprint::{Aspect, Fingerprints};

/// What stands for all of these programs among what a run could read names from: they are searched
/// now, since another checkout does not have them. `None` if there are none.
///
/// # Errors
/// If one of them cannot be searched.
pub(super) fn reader_of<'s>(
    scripts: impl Iterator<Item = &'s Path>,
    asked: &AskedEnvironment,
    judge: &EnvironmentJudge<'_>,
    cache: &Cache,
    fingerprints: &mut Fingerprints,
) -> Result<Option<Input>, String> {
    let mut digester = Digester::new("build scripts 1");
    let (mut place, mut all) = (None, None);
    for script in scripts {
        let input = fingerprints.read(judge.root, script, Aspect::Same)?;
        let known = judge.mentions_of(&input, asked, fingerprints);
        let known =
            known.ok_or_else(|| format!("`{}` cannot be searched", input.path.display()))?;
        if let Some(state) = content_of(&input.state) {
            digester.digest(&state);
        }
        place = input.path.parent().and_then(Path::parent).map(Path::to_owned);
        all = Some(all.map_or(known.clone(), |all| merged(all, &known)));
    }
    let (Some(path), Some(all)) = (place, all) else { return Ok(None) };
    let state = digester.finish();
    cache.store_memo(&state, &all);
    Ok(Some(Input { path, state: InputState::Same(state), proof: None }))
}

/// What either contains, of the texts that both were searched for.
fn merged(one: KnownMentions, other: &KnownMentions) -> KnownMentions {
    let either = |(text, is_in): (String, bool)| {
        let is_in = is_in || *other.found.get(&text)?;
        other.found.contains_key(&text).then_some((text, is_in))
    };
    KnownMentions {
        found: one.found.into_iter().filter_map(either).collect::<BTreeMap<_, _>>(),
        any: one.any.or_else(|| other.any.clone()),
        is_stripped: one.is_stripped || other.is_stripped,
        is_program: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_several_contains_counts_if_all_were_searched_for_it() {
        let known = |found: &[(&str, bool)], any: Option<&str>| KnownMentions {
            found: found.iter().map(|(text, is_in)| ((*text).to_owned(), *is_in)).collect(),
            any: any.map(str::to_owned),
            ..KnownMentions::default()
        };
        let one = known(&[("a", true), ("b", false), ("c", false), ("d", true)], None);
        let other = known(&[("a", false), ("b", true), ("c", false), ("e", true)], Some("why"));
        let all = merged(one, &other);
        assert_eq!(all.found, known(&[("a", true), ("b", true), ("c", false)], None).found);
        assert_eq!(all.any.as_deref(), Some("why"));
    }
}
