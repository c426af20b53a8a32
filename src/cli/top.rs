//! `top`: all flows on the whole terminal, and each in detail.

mod screen;

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, flow_path};
use super::text::Style;
use super::{Code, Failure};
use crate::observe::status::{FlowDoc, HistoryDoc, OverviewDoc, RowDoc, Severity};

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How flows are ordered; equal ones by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Worst,
    Name,
    Bitrate,
    Lost,
}

impl Order {
    const fn next(self) -> Self {
        match self {
            Self::Worst => Self::Name,
            Self::Name => Self::Bitrate,
            Self::Bitrate => Self::Lost,
            Self::Lost => Self::Worst,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Name => "name",
            Self::Bitrate => "bit rate",
            Self::Lost => "lost",
        }
    }

    fn sort(self, rows: &mut [&RowDoc]) {
        let worst = |row: &RowDoc| row.worst.as_ref().map_or(Severity::Info, |worst| worst.severity);
        rows.sort_by(|a, b| {
            let order = match self {
                Self::Worst => worst(a).cmp(&worst(b)),
                Self::Name => std::cmp::Ordering::Equal,
                Self::Bitrate => b.bitrate_bps.cmp(&a.bitrate_bps),
                Self::Lost => b.packets_unrecovered.cmp(&a.packets_unrecovered),
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
    }
}

/// What is shown: all that the keys change.
#[derive(Debug)]
struct Top {
    overview: Option<OverviewDoc>,
    order: Order,
    /// By name: rows move.
    chosen: Option<String>,
    /// Parts of names that are looked for.
    find: String,
    /// Keys go to `find`.
    finding: bool,
    /// The flow that is shown alone.
    open: Option<Detail>,
    /// Why there is nothing new.
    trouble: Option<String>,
    /// Rows or lines of a screen.
    page: usize,
    style: Style,
}

#[derive(Debug)]
struct Detail {
    name: String,
    flow: Option<FlowDoc>,
    history: Option<HistoryDoc>,
    /// The first line that is shown.
    top: usize,
}

/// What a key asks for beyond another picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    None,
    /// Ask the daemon at once.
    Read,
    Quit,
}

impl Top {
    fn new(style: Style) -> Self {
        Self {
            overview: None,
            order: Order::Worst,
            chosen: None,
            find: String::new(),
            finding: false,
            open: None,
            trouble: None,
            page: 10,
            style,
        }
    }

    /// The flows that are shown, in their order.
    fn rows(&self) -> Vec<&RowDoc> {
        let all = self.overview.iter().flat_map(|overview| &overview.flows);
        let mut rows: Vec<_> = all.filter(|row| row.name.contains(&self.find)).collect();
        self.order.sort(&mut rows);
        rows
    }

    /// The place of the chosen flow, or the first.
    fn place(&self, rows: &[&RowDoc]) -> usize {
        let chosen = self.chosen.as_ref();
        chosen.and_then(|name| rows.iter().position(|row| row.name == *name)).unwrap_or(0)
    }

    fn step(&mut self, by: isize) {
        if let Some(detail) = &mut self.open {
            detail.top = detail.top.saturating_add_signed(by);
            return;
        }
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let next = self.place(&rows).saturating_add_signed(by).min(last);
        self.chosen = rows.get(next).map(|row| row.name.clone());
    }

    fn key(&mut self, key: KeyEvent) -> Wish {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Wish::Quit;
        }
        if self.finding {
            match key.code {
                KeyCode::Char(c) => self.find.push(c),
                KeyCode::Backspace => drop(self.find.pop()),
                KeyCode::Enter => self.finding = false,
                KeyCode::Esc => {
                    self.finding = false;
                    self.find.clear();
                }
                _ => {}
            }
            return Wish::None;
        }
        let page = self.page as isize;
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Esc | KeyCode::Char('q') | KeyCode::Left if self.open.is_some() => self.open = None,
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Esc => self.find.clear(),
            KeyCode::Enter | KeyCode::Right if self.open.is_none() => {
                let rows = self.rows();
                let name = rows.get(self.place(&rows)).map(|row| row.name.clone());
                self.chosen.clone_from(&name);
                self.open = name.map(|name| Detail { name, flow: None, history: None, top: 0 });
                return Wish::Read;
            }
            KeyCode::Char('s') if self.open.is_none() => self.order = self.order.next(),
            KeyCode::Char('/') if self.open.is_none() => self.finding = true,
            _ => {}
        }
        Wish::None
    }

    /// Ask for what is shown. What can't be had leaves the last figures, and says so.
    async fn read(&mut self, client: &Client) -> Result<(), Failure> {
        let read = match &mut self.open {
            None => client.read("/v1/overview").await.map(|overview| self.overview = Some(overview)),
            Some(detail) => {
                let history = client.read(&flow_path(&detail.name, &["history"])).await;
                detail.history = history.ok().or(detail.history.take());
                client.read(&flow_path(&detail.name, &[])).await.map(|flow| detail.flow = Some(flow))
            }
        };
        self.trouble = read.as_ref().err().map(|failure| failure.message.clone());
        read
    }
}

/// Show flows until `q`. Fails only where the first look does; a daemon that restarts comes back.
pub(super) async fn run(client: &Client) -> Result<Code, Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::new(Code::Usage, "top needs a terminal; use status, or status --watch".to_owned()));
    }
    let mut top = Top::new(Style::of_stdout());
    top.read(client).await?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::new(Code::Usage, format!("the terminal can't be used whole: {error}")))?;
    let ended = watch(client, &mut top, &mut terminal).await;
    ratatui::restore();
    ended.map(|()| Code::Yes).map_err(|error| Failure::new(Code::Usage, format!("the terminal is gone: {error}")))
}

async fn watch(client: &Client, top: &mut Top, terminal: &mut ratatui::DefaultTerminal) -> std::io::Result<()> {
    let (to, mut events) = mpsc::channel(16);
    // It waits for keys, and ends with the process.
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if to.blocking_send(event).is_err() {
                return;
            }
        }
    });
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| screen::draw(frame, top))?;
        let wish = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => top.key(key),
                Some(_) => Wish::None,
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            },
            _ = ticks.tick() => Wish::Read,
        };
        match wish {
            Wish::None => {}
            // The trouble is on the screen.
            Wish::Read => drop(top.read(client).await),
            Wish::Quit => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
