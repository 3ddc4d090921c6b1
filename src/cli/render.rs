//! How answers look: text for people on standard error; on standard output JSON for scripts,
//! few words for programs, reports and annotations for CI.

mod excerpt;
mod failure;
mod github;
mod in_toto;
mod json;
mod junit;
mod status;
mod style;
mod terse;
mod text;
mod time;

pub(super) use failure::failures;
pub(super) use github::{
    Checkout, annotations, error_annotations, groups, summary_error, summary_table,
};
pub(super) use in_toto::statement;
pub(super) use json::{summary_line, target_line};
pub(super) use junit::{answer_report, error_report};
pub(super) use status::{segment, selection_text, status_lines};
pub(super) use style::{ERROR, GOOD, HINT, NOTE, WARN, label};
pub(super) use terse::{error_lines, green_line, red_lines};
pub(super) use text::{
    AskedFor, AskedQuestion, answer_lines, bytes, counts_text, fit, plural, report_text,
};
pub(super) use time::seconds;
