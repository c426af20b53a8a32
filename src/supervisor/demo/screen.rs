//! What the demo shows: on a terminal a table that is drawn anew, elsewhere a line now and then and the table at the end.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::media::{PER_DATAGRAM, Received};
use crate::proto::mpegts::packet::PACKET_LEN;

/// Lines of the log under the table.
const LOG_LINES: usize = 6;

/// Where the demo is.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Since the generator started.
    pub(super) at: Duration,
    /// Datagrams the generator has sent.
    pub(super) sent: u64,
    /// What each output has delivered.
    pub(super) received: Vec<Received>,
}

impl Figures {
    /// Transport-stream packets the generator has sent.
    pub(super) fn packets(&self) -> u64 {
        self.sent * PER_DATAGRAM as u64
    }
}

/// Standard output.
pub(super) struct Screen {
    names: Vec<&'static str>,
    is_terminal: bool,
    /// Lines that the next drawing replaces.
    drawn: usize,
    before: Figures,
    incoming: Receiver<String>,
    log: VecDeque<String>,
}

impl Screen {
    /// For outputs of these names. The log's lines come by `log`.
    pub(super) fn new(names: Vec<&'static str>, log: UnixDatagram) -> std::io::Result<Self> {
        let (lines, incoming) = channel();
        let read = move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(length) = log.recv(&mut buffer) {
                if lines.send(line_of(&String::from_utf8_lossy(&buffer[..length]))).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("log-lines".to_owned()).spawn(read)?;
        let is_terminal = std::io::stdout().is_terminal();
        let before = Figures { received: vec![Received::default(); names.len()], ..Figures::default() };
        Ok(Self { names, is_terminal, drawn: 0, before, incoming, log: VecDeque::new() })
    }

    /// Show where the demo is now.
    pub(super) fn update(&mut self, now: Figures) {
        let new: Vec<String> = self.incoming.try_iter().collect();
        if self.is_terminal {
            self.log.extend(new);
            self.log.drain(..self.log.len().saturating_sub(LOG_LINES));
            // What was sent a moment ago has had its time to arrive; what is sent just now has not.
            let table = table(&self.names, &self.before, &now, self.before.packets());
            self.draw(&table);
        } else {
            new.iter().for_each(|line| print(&format!("{line}\n")));
            print(&brief(&now, self.before.packets()));
        }
        self.before = now;
    }

    /// Show how it ended: rates are over the whole time, and all that was sent has had its time.
    pub(super) fn finish(&mut self, end: &Figures) {
        let start = Figures { received: vec![Received::default(); self.names.len()], ..Figures::default() };
        let table = table(&self.names, &start, end, end.packets());
        let new: Vec<String> = self.incoming.try_iter().collect();
        self.log.extend(new.iter().cloned());
        self.log.drain(..self.log.len().saturating_sub(LOG_LINES));
        if self.is_terminal {
            self.draw(&table);
        } else {
            new.iter().for_each(|line| print(&format!("{line}\n")));
            print(&format!("\n{table}"));
        }
    }

    fn draw(&mut self, table: &str) {
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to where the last drawing began, and clear all below.
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        let body: String = std::iter::once(table.to_owned())
            .chain((!self.log.is_empty()).then(|| "\n".to_owned()))
            .chain(self.log.iter().map(|line| format!("{line}\n")))
            .collect();
        self.drawn = body.lines().count();
        // Long lines are cut off at the right edge: a wrapped one would count as two.
        let _ = write!(text, "\x1b[?7l{body}\x1b[?7h");
        print(&text);
    }
}

/// Without the envelope of syslog: `<30>Nov 22 19:00:00 mediaconnectd[1]: flow a started` is `19:00:00 flow a started`.
fn line_of(message: &str) -> String {
    let (envelope, text) = message.split_once("]: ").unwrap_or(("", message));
    let time = envelope.split_whitespace().nth(2).unwrap_or_default();
    format!("{time} {text}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Source and outputs; `sent` transport-stream packets should have arrived.
fn table(names: &[&str], before: &Figures, now: &Figures, sent: u64) -> String {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64();
    let rate = |packets: u64| {
        let bits = (packets * PACKET_LEN as u64 * 8) as f64;
        format!("{:.2}", if seconds > 0.0 { bits / seconds / 1e6 } else { 0.0 })
    };
    let mut text = row(["", "Mbit/s", "datagrams", "TS packets", "verified", "missing", "corrupt"].map(str::to_owned));
    let source_rate = rate(now.packets().saturating_sub(before.packets()));
    let [sent_datagrams, sent_packets] = [now.sent, now.packets()].map(|n| n.to_string());
    let none = || "-".to_owned();
    text += &row(["source generator".to_owned(), source_rate, sent_datagrams, sent_packets, none(), none(), none()]);
    for ((name, old), new) in names.iter().zip(&before.received).zip(&now.received) {
        let came = |received: &Received| {
            let verdict = &received.verdict;
            verdict.ok + verdict.corrupt + verdict.duplicated
        };
        let counts =
            [new.datagrams, came(new), new.verdict.ok, new.missing(sent), new.corrupt()].map(|n| n.to_string());
        let [datagrams, packets, verified, missing, corrupt] = counts;
        let rate = rate(came(new) - came(old));
        text += &row([format!("output {name}"), rate, datagrams, packets, verified, missing, corrupt]);
    }
    text
}

fn row(cells: [String; 7]) -> String {
    let [name, rate, datagrams, packets, verified, missing, corrupt] = cells;
    format!("{name:<28}{rate:>8}{datagrams:>11}{packets:>12}{verified:>10}{missing:>9}{corrupt:>9}\n")
}

/// One line.
fn brief(now: &Figures, sent: u64) -> String {
    let sum = |count: &dyn Fn(&Received) -> u64| now.received.iter().map(count).sum::<u64>();
    format!(
        "{:>3} s: {} TS packets sent, {} verified at {} outputs, {} missing, {} corrupt\n",
        now.at.as_secs_f64().round(),
        now.packets(),
        sum(&|received| received.verdict.ok),
        now.received.len(),
        sum(&|received| received.missing(sent)),
        sum(&Received::corrupt),
    )
}

/// Write to standard output. A reader who has gone (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_shown_with_its_time_and_without_its_envelope() {
        assert_eq!(line_of("<30>Nov  2 19:00:00 mediaconnectd[1]: flow a [x]: \x1b[2J"), "19:00:00 flow a [x]:  [2J");
        assert_eq!(line_of("nonsense"), " nonsense");
    }
}
