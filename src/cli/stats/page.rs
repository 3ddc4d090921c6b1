//! The page of `stats --html`: one file that needs nothing else. It has no script, its plots are
//! drawings in its text, and its own policy has a browser load nothing.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::tally::{HistorySums, ProjectHistory, date};
use crate::cli::render::{seconds, selection_text};

/// How many reasons, and how many targets, a table of the page shows.
const MOST_ROWS_OF_TABLE: usize = 20;

const STYLE: &str = "\
    :root{color-scheme:light dark;--hit:#2a8a4a;--miss:#c8702a;--saved:#3a6fb0}\
    body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    h2{margin-top:3rem;overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}\
    td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;overflow-wrap:anywhere}\
    td.n{white-space:nowrap}\
    svg{display:block;width:100%;height:auto}\
    svg text{font:11px system-ui,sans-serif;fill:currentColor}\
    .hit{fill:var(--hit)}.miss{fill:var(--miss)}.saved{fill:var(--saved)}\
    .wrong{color:#d02030;font-weight:bold}";

/// The days that a page is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSpan {
    /// The first day since the epoch.
    pub(super) first: u64,
    /// The last one.
    pub(super) last: u64,
}

/// The page about these projects.
pub(super) fn page(projects: &[ProjectHistory], span: PageSpan) -> String {
    let (first, last) = (date(span.first), date(span.last));
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n\
         <title>knhk-test-cache: {first} to {last}</title>\n<style>{STYLE}</style></head><body>\n\
         <h1>knhk-test-cache: {first} to {last}</h1>\n"
    );
    if projects.is_empty() {
        text.push_str("<p>Nothing was asked in these days.</p>\n");
    }
    for project in projects {
        // Writing into a text cannot fail.
        let _ = section(&mut text, project, span);
    }
    text.push_str("</body></html>\n");
    text
}

fn section(text: &mut String, project: &ProjectHistory, span: PageSpan) -> fmt::Result {
    let sums = project.sums();
    let HistorySums { answers, from_cache, hits, misses, saved_ms, verified, wrong } = sums;
    let (percent, saved) = (sums.hit_percent(), time(saved_ms));
    writeln!(text, "<section><h2>{}</h2>", Escaped(&project.root.display().to_string()))?;
    writeln!(
        text,
        "<p>{answers} answers, {from_cache} of them from records alone. {hits} targets came from \
         records and {misses} ran: {percent} % hits. {saved} of running tests were saved.</p>"
    )?;
    match project.wrong.is_empty() && wrong == 0 {
        true => writeln!(text, "<p>{verified} answers were verified, none was wrong.</p>")?,
        false => {
            let names: Vec<_> = project.wrong.iter().map(String::as_str).collect();
            let names = names.join(", ");
            writeln!(
                text,
                "<p class=\"wrong\">{verified} answers were verified, {wrong} were wrong: {}</p>",
                Escaped(&names)
            )?;
        }
    }
    let days = |bars: fn(&HistorySums) -> Vec<Bar>, unit: fn(u64) -> String| {
        let day = |day| {
            let sums = project.days.get(&day).cloned().unwrap_or_default();
            PlotDay { date: date(day), bars: bars(&sums) }
        };
        Plot { days: (span.first..=span.last).map(day).collect(), unit }
    };
    text.push_str("<h3>Targets from records (green) and run (orange), by day</h3>\n");
    let targets = |sums: &HistorySums| {
        vec![
            Bar { class: "hit", word: "from records", value: sums.hits },
            Bar { class: "miss", word: "run", value: sums.misses },
        ]
    };
    plot(text, &days(targets, |count| count.to_string()))?;
    text.push_str("<h3>Time of running tests that was saved, by day</h3>\n");
    let saved =
        |sums: &HistorySums| vec![Bar { class: "saved", word: "saved", value: sums.saved_ms }];
    plot(text, &days(saved, time))?;
    let reasons = project.reasons().into_iter().map(|(reason, misses)| Row {
        name: reason,
        text: format!("{misses} ×"),
        value: misses,
    });
    rows(text, "Why targets ran", "miss", &reasons.take(MOST_ROWS_OF_TABLE).collect::<Vec<_>>())?;
    let slowest = project.slowest().into_iter().map(|(target, runs)| Row {
        name: target,
        text: format!("{} at worst, {} × run", time(runs.slowest_ms), runs.runs),
        value: runs.slowest_ms,
    });
    rows(
        text,
        "The slowest targets",
        "saved",
        &slowest.take(MOST_ROWS_OF_TABLE).collect::<Vec<_>>(),
    )?;
    if !project.not_cached.is_empty() {
        text.push_str("<h3>Not cached when they last ran</h3>\n<table>\n");
        for (name, last) in &project.not_cached {
            let [why, advice] = [&last.why, &last.advice].map(|all| all.join("; "));
            let (name, why, advice) = (Escaped(name), Escaped(&why), Escaped(&advice));
            writeln!(text, "<tr><td>{name}</td><td>{why}</td><td>{advice}</td></tr>")?;
        }
        text.push_str("</table>\n");
    }
    if project.selection.runs > 0 {
        let record = selection_text(&project.selection);
        writeln!(text, "<h3>A selection per test</h3>\n<p>It {}.</p>", Escaped(&record))?;
    }
    text.push_str("</section>\n");
    Ok(())
}

/// Bars by day.
struct Plot {
    days: Vec<PlotDay>,
    /// A value in words.
    unit: fn(u64) -> String,
}

/// The bars of a day, one on top of the other.
struct PlotDay {
    date: String,
    bars: Vec<Bar>,
}

/// A part of the bar of a day.
struct Bar {
    /// Its colour.
    class: &'static str,
    /// What it shows.
    word: &'static str,
    value: u64,
}

fn plot(text: &mut String, plot: &Plot) -> fmt::Result {
    const WIDTH: f64 = 900.0;
    const HEIGHT: f64 = 120.0;
    let sum = |day: &PlotDay| day.bars.iter().fold(0_u64, |sum, bar| sum.saturating_add(bar.value));
    let highest = plot.days.iter().map(sum).max().unwrap_or_default();
    let (scale, step) = (HEIGHT / highest.max(1) as f64, WIDTH / plot.days.len().max(1) as f64);
    writeln!(text, "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", HEIGHT + 35.0)?;
    writeln!(text, "<text x=\"0\" y=\"12\">{}</text>", (plot.unit)(highest))?;
    let mut left = 0.0;
    for day in &plot.days {
        let mut top = HEIGHT + 18.0;
        for Bar { class, word, value } in &day.bars {
            let high = *value as f64 * scale;
            top -= high;
            let (value, date) = ((plot.unit)(*value), &day.date);
            writeln!(
                text,
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                 height=\"{high:.1}\"><title>{date}: {value} {word}</title></rect>",
                step * 0.9
            )?;
        }
        left += step;
    }
    if let (Some(first), Some(last)) = (plot.days.first(), plot.days.last()) {
        let (y, first, last) = (HEIGHT + 32.0, &first.date, &last.date);
        writeln!(text, "<text x=\"0\" y=\"{y}\">{first}</text>")?;
        writeln!(text, "<text x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{last}</text>")?;
    }
    writeln!(text, "</svg>")
}

/// A named value beside others.
struct Row<'a> {
    name: &'a str,
    /// The value in words.
    text: String,
    value: u64,
}

/// A table of values, the largest first; nothing if there are none.
fn rows(text: &mut String, title: &str, class: &str, rows: &[Row<'_>]) -> fmt::Result {
    const WIDTH: f64 = 300.0;
    let Some(largest) = rows.first() else { return Ok(()) };
    writeln!(text, "<h3>{title}</h3>\n<table>")?;
    for row in rows {
        let wide = row.value as f64 * WIDTH / largest.value.max(1) as f64;
        writeln!(
            text,
            "<tr><td>{}</td><td class=\"n\">{}</td><td><svg viewBox=\"0 0 {WIDTH} 12\">\
             <rect class=\"{class}\" x=\"0\" y=\"0\" width=\"{wide:.1}\" height=\"12\"/></svg></td></tr>",
            Escaped(row.name),
            row.text
        )?;
    }
    writeln!(text, "</table>")
}

fn time(ms: u64) -> String {
    seconds(Duration::from_millis(ms))
}

/// Text that stands for itself in the page. Control characters, which no page may hold, are replaced.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_itself() {
        let text = Escaped("<a href=\"x\">'&\u{1b}\n").to_string();
        assert_eq!(text, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_plot_has_a_bar_for_every_day_and_stays_in_its_frame() {
        let mut project = ProjectHistory::default();
        project.root = "/<p>".into();
        let day = HistorySums { hits: u64::MAX, misses: 9, ..HistorySums::default() };
        project.days.insert(3, day);
        let page = page(&[project], PageSpan { first: 1, last: 4 });
        assert_eq!(page.matches("<rect class=\"hit\"").count(), 4, "{page}");
        assert_eq!(page.matches("<rect class=\"saved\"").count(), 4, "{page}");
        assert!(page.contains("1970-01-02") && page.contains("/&lt;p&gt;"), "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf") && !page.contains("\"-"), "{page}");
    }
}
