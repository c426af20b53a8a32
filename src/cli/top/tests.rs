use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use serde_json::json;

use super::super::sample;
use super::*;

fn overview() -> OverviewDoc {
    serde_json::from_str(include_str!("../../../tests/ctl/overview.json")).unwrap()
}

fn top() -> Top {
    Top { overview: Some(overview()), ..Top::new(Style { colour: false }) }
}

fn screen(top: &mut Top) -> String {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| screen::draw(frame, top)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..24).map(line).collect::<Vec<_>>().join("\n")
}

fn press(top: &mut Top, keys: &[KeyCode]) -> Wish {
    keys.iter().map(|key| top.key(KeyEvent::from(*key))).last().unwrap_or(Wish::None)
}

fn names(top: &Top) -> Vec<&str> {
    top.rows().iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn all_flows_fit_into_80_columns_worst_first() {
    let shown = screen(&mut top());
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "gateway-1  mediaconnectd 0.1.0, up 3days 4h, 3 flows, 1 in alarm");
    assert_eq!(lines[1], "FLOW      STATE    ON AIR         BITRATE   LOST   OUT CONDITION");
    assert_eq!(lines[2], "news      lost     venue-a        0 bit/s     17   1/2 source venue-a: lost for");
    assert_eq!(lines[3], "sport     active   2/2 legs   40.0 Mbit/s      0   1/1");
    assert_eq!(lines[23], "Enter detail   s order: worst   / find   q quit");
}

#[test]
fn keys_order_find_and_choose() {
    let mut top = top();
    assert_eq!(names(&top), ["news", "sport", "test-card"]);
    press(&mut top, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!(names(&top), ["sport", "news", "test-card"]);
    press(&mut top, &[KeyCode::Down]);
    assert_eq!(top.chosen.as_deref(), Some("news"));
    // Who is chosen stays chosen, wherever the row goes.
    press(&mut top, &[KeyCode::Char('s')]);
    assert_eq!((names(&top)[0], top.chosen.as_deref()), ("news", Some("news")));
    press(&mut top, &[KeyCode::End]);
    assert_eq!(top.chosen.as_deref(), Some("test-card"));
    press(&mut top, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Backspace, KeyCode::Char('o')]);
    assert_eq!(names(&top), ["sport"]);
    assert!(screen(&mut top).contains("find: o_"));
    press(&mut top, &[KeyCode::Enter]);
    assert!(screen(&mut top).contains("found by 'o', Esc all"));
    press(&mut top, &[KeyCode::Esc]);
    assert_eq!(names(&top).len(), 3);
    assert_eq!(press(&mut top, &[KeyCode::Char('q')]), Wish::Quit);
}

#[test]
fn a_flow_in_detail_has_its_bit_rate_over_time_and_scrolls_to_its_end() {
    let mut top = top();
    assert_eq!(press(&mut top, &[KeyCode::Enter]), Wish::Read);
    assert!(screen(&mut top).contains("news …"));
    let detail = top.open.as_mut().unwrap();
    detail.flow = Some(sample::flow("news"));
    detail.history = serde_json::from_value(json!({
        "flow": "news", "step-seconds": 1, "steps": 3, "until": "2026-03-01T10:00:00Z", "outputs": {},
        "sources": { "venue-a": { "bitrate-bps": [null, 4_000_000, 8_000_000] } },
    }))
    .ok();
    let first = screen(&mut top);
    assert!(first.contains("\nvenue-a: the last 3s, at most 8.00 Mbit/s\n  █\n ██\n"), "{first}");
    assert!(first.contains("\nsource venue-a (rtp, on air): receiving, 12.3 Mbit/s"), "{first}");
    press(&mut top, &[KeyCode::End]);
    let last = screen(&mut top);
    assert!(last.contains("shows all of its") && last.contains("faults."), "{last}");
    press(&mut top, &[KeyCode::Char('q')]);
    assert!(top.open.is_none());
}

#[test]
fn a_daemon_that_is_gone_is_said_and_the_last_figures_stay() {
    let mut top = Top { trouble: Some("the daemon is not running".to_owned()), ..top() };
    let shown = screen(&mut top);
    assert!(shown.ends_with("the daemon is not running") && shown.contains("sport"), "{shown}");
}
