//! The pictures of `top`, for terminals from 80 x 24 on.

use std::borrow::Cow;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};
use serde_json::Number;

use super::super::status;
use super::super::text::{Paint, Style, clean, word};
use super::{Detail, Top};
use crate::observe::status::{FlowState, HistoryDoc, RowDoc, Severity, SourceState};
use crate::observe::text::{count, rate, span};

/// The whole screen. Notes in `top` how much of it scrolls.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(title(top)), head);
    top.page = usize::from(body.height.saturating_sub(2)).max(1);
    match top.open.take() {
        Some(mut detail) => {
            one(frame, body, &mut detail, top.style);
            top.open = Some(detail);
        }
        None => all(frame, body, top),
    }
    frame.render_widget(Paragraph::new(footer(top)), foot);
}

fn look(style: Style, paint: Paint) -> Look {
    let look = Look::new();
    match paint {
        // Without colours, too, what is wrong stands out.
        Paint::Bad if !style.colour => look.add_modifier(Modifier::BOLD),
        Paint::Strong => look.add_modifier(Modifier::BOLD),
        _ if !style.colour => look,
        Paint::Good => look.fg(Color::Green),
        Paint::Warn => look.fg(Color::Yellow),
        Paint::Bad => look.fg(Color::Red).add_modifier(Modifier::BOLD),
        Paint::Faint => look.add_modifier(Modifier::DIM),
        Paint::Plain => look,
    }
}

fn title(top: &Top) -> Line<'static> {
    let Some(overview) = &top.overview else { return Line::raw("mediaconnect") };
    let bad = |row: &&RowDoc| paint_of(row) == Paint::Bad;
    let (flows, ill) = (overview.flows.len(), overview.flows.iter().filter(bad).count());
    let up = span(Duration::from_secs(overview.uptime_seconds));
    let mut spans = vec![
        Span::styled(clean(&overview.host), look(top.style, Paint::Strong)),
        Span::raw(format!("  mediaconnectd {}, up {up}, {}", clean(&overview.version), count(flows as u64, "flow"))),
    ];
    if ill > 0 {
        spans.push(Span::styled(format!(", {ill} in alarm"), look(top.style, Paint::Bad)));
    }
    if let Some(condition) = overview.conditions.first() {
        let text = format!("  {}: {}", word(condition.severity), clean(&condition.message));
        spans.push(Span::styled(text, look(top.style, Paint::of(condition.severity))));
    }
    Line::from(spans)
}

fn footer(top: &Top) -> Line<'static> {
    if let Some(trouble) = &top.trouble {
        return Line::styled(clean(trouble), look(top.style, Paint::Bad));
    }
    let keys = match (&top.open, top.finding) {
        (Some(_), _) => "Esc all flows   Up Down PgUp PgDn scroll   q back".to_owned(),
        (None, true) => format!("find: {}_   Enter keep   Esc all", clean(&top.find)),
        (None, false) => {
            let found = if top.find.is_empty() {
                String::new()
            } else {
                format!("   found by '{}', Esc all", clean(&top.find))
            };
            format!("Enter detail   s order: {}   / find   q quit{found}", top.order.name())
        }
    };
    Line::styled(keys, look(top.style, Paint::Faint))
}

fn paint_of(row: &RowDoc) -> Paint {
    match (row.state, row.worst.as_ref().map(|worst| worst.severity)) {
        (FlowState::Error, _) | (_, Some(Severity::Critical | Severity::Major)) => Paint::Bad,
        (FlowState::Standby, _) => Paint::Faint,
        (FlowState::Starting, _) | (_, Some(Severity::Minor)) => Paint::Warn,
        (FlowState::Active, _) => Paint::Good,
    }
}

fn all(frame: &mut Frame<'_>, area: Rect, top: &Top) {
    let rows = top.rows();
    if rows.is_empty() {
        let words = if top.find.is_empty() { "no flows" } else { "no flow of such a name" };
        frame.render_widget(Paragraph::new(words).alignment(Alignment::Center), area);
        return;
    }
    let right = |text: String| Cell::from(Line::raw(text).alignment(Alignment::Right));
    let line = |row: &&RowDoc| {
        let paint = paint_of(row);
        let state = match row.source_state {
            Some(SourceState::Lost) if row.state == FlowState::Active => "lost".to_owned(),
            _ => word(row.state),
        };
        let from = match row.legs {
            Some((active, all)) => format!("{active}/{all} legs"),
            None => clean(row.source.as_deref().unwrap_or("-")),
        };
        let worst = row.worst.as_ref().map(|worst| clean(&worst.message)).unwrap_or_default();
        Row::new([
            Cell::from(clean(&row.name)),
            Cell::from(Span::styled(state, look(top.style, paint))),
            Cell::from(from),
            right(rate(row.bitrate_bps)),
            right(row.packets_unrecovered.to_string()),
            right(format!("{}/{}", row.sending, row.outputs)),
            Cell::from(Span::styled(worst, look(top.style, paint))),
        ])
    };
    let heads = ["FLOW", "STATE", "ON AIR", "    BITRATE", "  LOST", "  OUT", "CONDITION"];
    let names = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(8, 24);
    let widths = [
        Constraint::Length(names as u16),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(11),
        Constraint::Length(6),
        Constraint::Length(5),
        Constraint::Fill(1),
    ];
    let table = Table::new(rows.iter().map(line), widths)
        .header(Row::new(heads).style(look(top.style, Paint::Strong)))
        .row_highlight_style(Look::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(top.place(&rows)));
    frame.render_stateful_widget(table, area, &mut state);
}

fn one(frame: &mut Frame<'_>, area: Rect, detail: &mut Detail, style: Style) {
    let Some(flow) = &detail.flow else {
        frame.render_widget(Paragraph::new(format!("{} …", clean(&detail.name))), area);
        return;
    };
    let charts: Vec<_> = detail.history.iter().flat_map(|history| chart(history, usize::from(area.width))).collect();
    // At most a third of the screen, the rest is for words.
    let shown = charts.len().min(usize::from(area.height) / 9);
    let [above, below] = Layout::vertical([Constraint::Length(3 * shown as u16), Constraint::Fill(1)]).areas(area);
    for (n, (name, values)) in charts.into_iter().take(shown).enumerate() {
        let at = |row: u16, height| Rect { y: above.y + 3 * n as u16 + row, height, ..above };
        frame.render_widget(Paragraph::new(Span::styled(name, look(style, Paint::Faint))), at(0, 1));
        frame.render_widget(Sparkline::default().data(values).style(look(style, Paint::Good)), at(1, 2));
    }
    // Its own colours are for a plain terminal.
    let text = status::detail(flow, Style { colour: false });
    let lines: Vec<_> = text.lines().flat_map(|line| wrapped(line, below.width, style)).collect();
    detail.top = detail.top.min(lines.len().saturating_sub(usize::from(below.height)));
    let words = Paragraph::new(lines).scroll((u16::try_from(detail.top).unwrap_or(u16::MAX), 0));
    frame.render_widget(words, below);
}

/// As many lines as it takes, each as far to the right as the first.
fn wrapped(line: &str, width: u16, style: Style) -> impl Iterator<Item = Line<'static>> {
    let look = look(style, paint_of_line(line));
    let indent = &line[..line.len() - line.trim_start().len()];
    let options = textwrap::Options::new(width.into()).subsequent_indent(indent);
    let parts: Vec<_> = textwrap::wrap(line, options).into_iter().map(Cow::into_owned).collect();
    parts.into_iter().map(move |part| Line::styled(part, look))
}

fn paint_of_line(line: &str) -> Paint {
    let severity = |word: &str| line.trim_start().starts_with(word);
    if severity("critical, since") || severity("major, since") {
        Paint::Bad
    } else if severity("minor, since") {
        Paint::Warn
    } else if !line.starts_with(' ') {
        Paint::Strong
    } else {
        Paint::Plain
    }
}

/// The bit rate of each source, as many of the last seconds as there are columns.
fn chart(history: &HistoryDoc, width: usize) -> impl Iterator<Item = (String, Vec<u64>)> {
    history.sources.iter().filter_map(move |(name, series)| {
        let rates = series.get("bitrate-bps")?;
        let last = &rates[rates.len().saturating_sub(width)..];
        let values: Vec<_> = last.iter().map(|rate| rate.as_ref().and_then(Number::as_u64).unwrap_or(0)).collect();
        let most = rate(values.iter().copied().max().unwrap_or(0));
        let seconds = Duration::from_secs(history.step_seconds * values.len() as u64);
        Some((format!("{}: the last {}, at most {most}", clean(name), span(seconds)), values))
    })
}
