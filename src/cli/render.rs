//! How answers look: text for people on standard error, JSON for scripts on standard output.

mod failure;
mod json;
mod status;
mod style;
mod terse;
mod text;
mod time;

pub(super) use failure::failures;
pub(super) use json::{summary_line, target_line};
pub(super) use status::{segment, selection_text, status_lines};
pub(super) use style::{ERROR, GOOD, HINT, NOTE, WARN, label};
pub(super) use terse::{error_lines, green_line, red_lines};
pub(super) use text::{
    Asked, AskedFor, answer_lines, bytes, counts_text, fit, plural, report_text,
};
pub(super) use time::{ago, seconds};
