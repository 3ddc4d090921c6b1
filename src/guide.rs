//! The user's guide: short pages, one question each.
//!
//! `knhk-test-cache help TOPIC` prints the same pages.

#[doc = include_str!("guide/what-counts.md")]
pub mod what_counts {}

#[doc = include_str!("guide/when-is-a-result-not-cached.md")]
pub mod when_is_a_result_not_cached {}

#[doc = include_str!("guide/how-can-i-trust-this.md")]
pub mod how_can_i_trust_this {}

#[doc = include_str!("guide/sharing.md")]
pub mod sharing {}

#[doc = include_str!("guide/in-the-background.md")]
pub mod in_the_background {}

#[doc = include_str!("guide/the-service.md")]
pub mod the_service {}

#[doc = include_str!("guide/watch.md")]
pub mod watch {}

#[doc = include_str!("guide/editors.md")]
pub mod editors {}

#[doc = include_str!("guide/in-ci.md")]
pub mod in_ci {}

#[doc = include_str!("guide/with-other-tools.md")]
pub mod with_other_tools {}

#[doc = include_str!("guide/exit-status.md")]
pub mod exit_status {}

/// A page of the guide.
pub(crate) struct Page {
    /// Its name on the command line, which is also its file's name.
    pub(crate) topic: &'static str,
    /// Its Markdown text.
    pub(crate) text: &'static str,
}

/// Every page.
pub(crate) const PAGES: [Page; 11] = [
    Page { topic: "what-counts", text: include_str!("guide/what-counts.md") },
    Page {
        topic: "when-is-a-result-not-cached",
        text: include_str!("guide/when-is-a-result-not-cached.md"),
    },
    Page { topic: "how-can-i-trust-this", text: include_str!("guide/how-can-i-trust-this.md") },
    Page { topic: "sharing", text: include_str!("guide/sharing.md") },
    Page { topic: "in-the-background", text: include_str!("guide/in-the-background.md") },
    Page { topic: "the-service", text: include_str!("guide/the-service.md") },
    Page { topic: "watch", text: include_str!("guide/watch.md") },
    Page { topic: "editors", text: include_str!("guide/editors.md") },
    Page { topic: "in-ci", text: include_str!("guide/in-ci.md") },
    Page { topic: "with-other-tools", text: include_str!("guide/with-other-tools.md") },
    Page { topic: "exit-status", text: include_str!("guide/exit-status.md") },
];

impl Page {
    /// Its heading, without the mark.
    pub(crate) fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The targets of the Markdown links of a text.
    fn links(text: &str) -> Vec<&str> {
        let ends = text.split("](").skip(1);
        ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
    }

    #[test]
    fn every_file_of_the_guide_is_a_page_with_a_heading() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files: BTreeSet<_> = files.map(|name| name.into_string().unwrap()).collect();
        let pages = PAGES.iter().map(|page| format!("{}.md", page.topic)).collect();
        assert_eq!(files, pages);
        for page in PAGES {
            assert!(page.text.starts_with("# ") && !page.title().is_empty(), "{}", page.topic);
        }
    }

    #[test]
    fn links_between_pages_resolve() {
        for page in PAGES {
            for link in links(page.text).into_iter().filter(|link| !link.contains("://")) {
                let found = PAGES.iter().any(|other| format!("{}.md", other.topic) == link);
                assert!(found, "{}: {link}", page.topic);
            }
        }
        let readme = include_str!("../README.md");
        for link in links(readme).into_iter().filter(|link| link.starts_with("src/guide/")) {
            let topic = link.trim_start_matches("src/guide/").trim_end_matches(".md");
            assert!(PAGES.iter().any(|page| page.topic == topic), "README: {link}");
        }
        for page in PAGES {
            assert!(readme.contains(&format!("src/guide/{}.md", page.topic)), "{}", page.topic);
        }
    }

    #[test]
    fn every_key_that_a_page_names_is_one_of_the_config() {
        for key in [
            "extra_inputs",
            "exclude",
            "trusted_services",
            "always_run",
            "flaky_runs",
            "observe_budget",
            "ignore_env",
            "extra_env",
        ] {
            assert!(PAGES.iter().any(|page| page.text.contains(key)), "{key}");
            assert!(crate::config::DEFAULT.contains(&format!("\n{key} =")), "{key}");
        }
    }
}
