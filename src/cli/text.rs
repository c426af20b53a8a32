//! Words for a terminal: colours, columns, and nothing that a terminal would obey.

use std::io::{IsTerminal, Write};

use crate::observe::status::Severity;

/// A colour of a terminal, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it is.
    Plain,
    /// Well.
    Good,
    /// Look at it.
    Warn,
    /// Wrong.
    Bad,
    /// Headings.
    Strong,
    /// Of less weight.
    Faint,
}

impl Paint {
    pub(super) const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical | Severity::Major => Self::Bad,
            Severity::Minor => Self::Warn,
            Severity::Info => Self::Plain,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Strong => "1",
            Self::Faint => "2",
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) colour: bool,
}

impl Style {
    /// Colours on a terminal that has them, unless NO_COLOR is set.
    pub(super) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb }
    }

    /// `text` in a colour, without control characters.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let text = clean(text);
        if self.colour && paint != Paint::Plain { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text }
    }
}

/// Replaces control characters: names come from files, and from the network.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The name of a state, a severity or another unit variant, as JSON has it.
pub(super) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A column's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under headings, in columns as wide as their widest cell.
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(String, Paint)>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Paint); N]) {
        self.rows.push(cells.map(|(text, paint)| (clean(&text), paint)).into());
    }

    /// Lines that begin with `indent`; nothing without rows.
    pub(super) fn render(&self, style: Style, indent: &str) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head: Vec<_> = self.columns.iter().map(|(name, _)| ((*name).to_owned(), Paint::Strong)).collect();
        let lines: Vec<_> = std::iter::once(&head).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| lines.iter().filter_map(|line| line.get(i)).map(|(t, _)| t.chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for line in lines {
            let mut text = String::from(indent);
            let mut owed = 0;
            for (((cell, paint), (_, align)), width) in line.iter().zip(&self.columns).zip(&widths) {
                let gap = width - cell.chars().count();
                let (before, after) = if *align == Align::Left { (0, gap) } else { (gap, 0) };
                text.extend(std::iter::repeat_n(' ', owed + before));
                text.push_str(&style.paint(*paint, cell));
                owed = after + 2;
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Writes to standard output. A reader who has gone (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error, if it is open.
pub(super) fn print_error(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("LAST", Align::Left)]);
        table.row([("a".into(), Paint::Plain), ("1000".into(), Paint::Plain), ("x".into(), Paint::Plain)]);
        table.row([("longer".into(), Paint::Good), ("7".into(), Paint::Plain), (String::new(), Paint::Plain)]);
        let plain = table.render(Style { colour: false }, "  ");
        assert_eq!(plain, "  NAME       N  LAST\n  a       1000  x\n  longer     7\n");
        let colour = table.render(Style { colour: true }, "");
        assert!(colour.contains("\x1b[32mlonger\x1b[0m     7"), "{colour}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(Style { colour: false }.paint(Paint::Plain, "a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn words_are_those_of_the_documents() {
        assert_eq!(word(crate::observe::status::FlowState::Standby), "standby");
        assert_eq!(word(crate::config::diff::Effect::InPlace), "in-place");
    }
}
