//! `help`: pages of the guide.

use clap::CommandFactory as _;

use super::args::Cli;
use super::exit::{Exit, Stop};
use super::output;
use crate::guide::PAGES;

/// Prints a page, the list of pages, or the overview of commands.
pub(super) fn help(topic: Option<&str>) -> Result<(), Stop> {
    let Some(topic) = topic else { return output::text(Cli::command().render_long_help()) };
    if topic == "topics" {
        return PAGES.iter().try_for_each(|page| {
            output::line(format_args!("{:<30} {}", page.topic, page.title()))
        });
    }
    match PAGES.iter().find(|page| page.topic == topic) {
        Some(page) => output::text(page.text),
        None => {
            let text = format!(
                "there is no topic `{topic}`: `knhk-test-cache help topics` lists all, and \
                 `knhk-test-cache COMMAND --help` explains a command"
            );
            Err(Stop::new(Exit::Usage, text))
        }
    }
}
