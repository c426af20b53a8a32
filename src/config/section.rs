//! One table of a file, read key by key against the table of keys. All faults are reported, whatever else is wrong.

use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::keys::{FLOW, Form, Key, instead, quoted};
use super::plan::Quantity;
use super::source::{Source, shown};
use super::value::{Bitrate, Dscp, Gather, ValueError, parse_duration, parse_network};

/// Where something is written: offsets into the text.
pub(super) type Span = Range<usize>;

/// A value, and where it is written.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// One table. An accessor answers `None` where the key is absent, and where its value is refused, which it reports.
#[derive(Debug)]
pub(super) struct Section<'s, 't> {
    source: &'s Source<'t>,
    table: &'s DeTable<'t>,
    keys: &'static [Key],
    /// In the form of a header: `sources.venue-a`; empty: the file.
    path: String,
    /// The name in the header.
    at: Span,
}

impl<'s, 't> Section<'s, 't> {
    /// The table of a whole file.
    pub(super) fn root(source: &'s Source<'t>, table: &'s DeTable<'t>, keys: &'static [Key]) -> Self {
        let section = Self { source, table, keys, path: String::new(), at: 0..0 };
        section.refuse_unknown(None);
        section
    }

    /// The table behind `key`, if it is written.
    pub(super) fn table(&self, key: &str) -> Option<Section<'s, 't>> {
        let section = self.open(key)?;
        section.refuse_unknown(None);
        Some(section)
    }

    /// The tables of the list behind `key`, each called by its number from 1; `None` if there are not as many as there
    /// must be, which is reported.
    pub(super) fn tables(&self, key: &str) -> Option<Vec<Section<'s, 't>>> {
        let Form::Tables(count, keys) = self.form(key) else { return None };
        let value = self.table.get(key)?;
        let list = value.get_ref().as_array().filter(|list| list.len() == count);
        let tables: Option<Vec<_>> =
            list.into_iter().flatten().map(|v| Some((v.get_ref().as_table()?, v.span()))).collect();
        let Some(tables) = tables.filter(|tables| tables.len() == count) else {
            let written = match value.get_ref().as_array() {
                Some(list) if list.iter().all(|v| v.get_ref().is_table()) => format!("of {}", list.len()),
                Some(_) => "a list of something else".into(),
                None => kind(value.get_ref()).into(),
            };
            let message = format!("`{key}` must be {}, not {written}", Form::Tables(count, keys).expected());
            self.source.error(&value.span(), message, None);
            return None;
        };
        let section = |(number, (table, at))| Section {
            source: self.source,
            table,
            keys,
            path: format!("{}.{key}.{number}", self.path),
            at,
        };
        let sections: Vec<_> = (1..).zip(tables).map(section).collect();
        sections.iter().for_each(|section| section.refuse_unknown(None));
        Some(sections)
    }

    /// The named tables behind `key`, in the order of their names. Bad names are reported and left out; unknown keys
    /// are not looked for yet.
    pub(super) fn named(&self, key: &str) -> Vec<(String, Section<'s, 't>)> {
        let Some(outer) = self.open(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for (name, value) in outer.table {
            let text = name.get_ref().as_ref();
            let at = name.span();
            if !is_part_name(text) {
                outer.source.error(
                    &at,
                    format!("{} is not a valid name under [{key}]", shown(text)),
                    Some("use 1 to 63 letters, digits, '_', '.' and '-', the first a letter or digit".into()),
                );
            } else if let DeValue::Table(table) = value.get_ref() {
                let path = format!("{key}.{text}");
                sections.push((text.to_owned(), Section { table, path, at, ..outer }));
            } else {
                outer.source.error(
                    &at,
                    format!("`{key}.{text}` must be a table, not {}", kind(value.get_ref())),
                    Some(format!("write [{key}.NAME] above its keys")),
                );
            }
        }
        sections
    }

    /// The table behind `key`, if it is written; unknown keys are not looked for yet.
    pub(super) fn open(&self, key: &str) -> Option<Section<'s, 't>> {
        let (name, value) = self.table.get_key_value(key)?;
        let keys = match self.form(key) {
            Form::Table(keys) | Form::Named(keys) => keys,
            _ => &[],
        };
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        match value.get_ref() {
            DeValue::Table(table) => Some(Section { source: self.source, table, keys, path, at: name.span() }),
            other => {
                let header = if matches!(self.form(key), Form::Named(_)) { format!("{path}.NAME") } else { path };
                let help = Some(format!("write [{header}] above its keys"));
                self.source.error(&name.span(), format!("`{key}` must be a table, not {}", kind(other)), help);
                None
            }
        }
    }

    /// Report every key that is unknown, not available, or without a meaning for `protocol`.
    pub(super) fn refuse_unknown(&self, protocol: Option<&str>) {
        for key in self.table.keys() {
            let (name, at) = (key.get_ref().as_ref(), key.span());
            match (self.keys.iter().find(|k| k.name == name), protocol) {
                (None, _) => self.unknown(name, &at, protocol),
                (Some(key), Some(protocol)) if !key.on.is_empty() && !key.on.contains(&protocol) => {
                    let selector = self.keys.first().map_or("protocol", |k| k.name);
                    let of = if selector == "protocol" { "for protocol".into() } else { format!("with {selector} =") };
                    let help = instead(name, protocol).map(str::to_owned);
                    self.source.error(&at, format!("`{name}` has no meaning {of} {protocol:?}"), help);
                }
                (Some(Key { form: Form::Later, .. }), _) => self.not_available(name, &at),
                (Some(_), _) => {}
            }
        }
    }

    /// Report the keys that no protocol knows: for a table whose protocol is refused already.
    pub(super) fn refuse_unheard_of(&self) {
        for key in self.table.keys() {
            if !self.keys.iter().any(|k| k.name == key.get_ref().as_ref()) {
                self.unknown(key.get_ref(), &key.span(), None);
            }
        }
    }

    fn not_available(&self, name: &str, at: &Span) {
        self.source.error(at, format!("`{name}` is not available in this version"), None);
    }

    fn unknown(&self, name: &str, at: &Span, protocol: Option<&str>) {
        let fits = |k: &&Key| protocol.is_none_or(|p| k.on.is_empty() || k.on.contains(&p));
        let near = nearest(name, self.keys.iter().filter(fits).map(|k| k.name));
        let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
        let of_flow = !self.path.is_empty() && FLOW.iter().any(|k| k.name == name);
        let help = match near {
            _ if matches!(name, "passphrase" | "password") && self.keys.iter().any(|k| k.name == "passphrase-file") => {
                Some("a key never stands in a configuration file: write passphrase-file = \"NAME\", and the key into secrets/NAME".into())
            }
            Some(near) => Some(format!("did you mean `{near}`?")),
            // In TOML a key belongs to the last header above it.
            None => of_flow.then(|| format!("write `{name}` of the flow above the first [table]")),
        };
        self.source.error(at, format!("unknown key {}{place}", shown_key(name)), help);
    }

    fn form(&self, key: &str) -> Form {
        self.keys.iter().find(|k| k.name == key).map_or(Form::Later, |k| k.form)
    }

    /// Is the key written, whatever stands behind it?
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Is an empty list written?
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.get(key).and_then(|v| v.get_ref().as_array()).is_some_and(|list| list.is_empty())
    }

    /// Where the key is written.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.table.get_key_value(key).map(|(name, _)| name.span())
    }

    /// Where the value of the key is written.
    pub(super) fn value_span(&self, key: &str) -> Option<Span> {
        self.table.get(key).map(|value| value.span())
    }

    /// Where the table's name is written.
    pub(super) fn at(&self) -> &Span {
        &self.at
    }

    /// As in a header: `sources.venue-a`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Report `key` as missing, with an example of its value. One that is only misspelt is reported as that, and so is
    /// the one that may stand in its place.
    pub(super) fn missing(&self, key: &str, help: &str) {
        let unknown = |name: &str| self.keys.iter().all(|k| k.name != name);
        let mut names = self.table.keys().map(|k| k.get_ref().as_ref());
        let instead = self.keys.iter().find(|k| k.name == key).map(|k| k.instead);
        let is_meant = |near: Option<&str>| near == Some(key) || (near.is_some() && near == instead);
        if names.any(|name| unknown(name) && is_meant(nearest(name, self.keys.iter().map(|k| k.name)))) {
            return;
        }
        let path = &self.path;
        let place = if path.is_empty() { "the file".to_owned() } else { format!("[{path}]") };
        self.source.missing(&self.at, format!("{place} needs `{key}`"), Some(help.to_owned()));
    }

    /// Read one value by `read`; `Err(None)` is a value of the wrong type.
    fn value<T>(&self, key: &str, read: impl FnOnce(&DeValue<'t>) -> Result<T, Option<ValueError>>) -> Option<At<T>> {
        let value = self.table.get(key)?;
        self.element(key, value.get_ref(), value.span(), self.form(key), read)
    }

    fn element<T>(
        &self,
        key: &str,
        value: &DeValue<'t>,
        span: Span,
        form: Form,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Option<ValueError>>,
    ) -> Option<At<T>> {
        match read(value) {
            Ok(value) => Some(At { value, span }),
            Err(Some(fault)) => {
                self.source.error(&span, format!("`{key}`: {} {}", written(value), fault.problem), fault.help);
                None
            }
            Err(None) => {
                self.source.error(&span, format!("`{key}` must be {}, not {}", form.expected(), kind(value)), None);
                None
            }
        }
    }

    /// A text that is parsed into its type.
    pub(super) fn parsed<T: FromStr<Err = ValueError>>(&self, key: &str) -> Option<At<T>> {
        self.value(key, |value| Ok(value.as_str().ok_or(None)?.parse()?))
    }

    /// Any text.
    pub(super) fn text(&self, key: &str) -> Option<At<String>> {
        self.value(key, |value| Ok(value.as_str().ok_or(None)?.to_owned()))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key, |value| value.as_bool().ok_or(None)).map(|v| v.value)
    }

    /// A whole number, within the bounds of the table of keys.
    pub(super) fn whole(&self, key: &str) -> Option<u64> {
        let Form::Whole(least, most) = self.form(key) else { return None };
        self.value(key, |value| match integer(value).ok_or(None)? {
            n if (i128::from(least)..=i128::from(most)).contains(&n) => u64::try_from(n).map_err(|_| None),
            _ => Err(Some(out_of_range(least, most))),
        })
        .map(|v| v.value)
    }

    /// One of the whole numbers of the table of keys.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let Form::OneOf(numbers) = self.form(key) else { return None };
        self.number_of(key, numbers)
    }

    /// One of these, which are all that some protocols know.
    pub(super) fn number_of(&self, key: &str, numbers: &'static [u64]) -> Option<u64> {
        let (value, form) = (self.table.get(key)?, Form::OneOf(numbers));
        self.element(key, value.get_ref(), value.span(), form, |value| {
            let n = integer(value).ok_or(None)?;
            let found = numbers.iter().find(|number| i128::from(**number) == n).copied();
            found.ok_or_else(|| Some(ValueError { problem: format!("is not {}", form.expected()), help: None }))
        })
        .map(|v| v.value)
    }

    /// A whole number of any size: the bounds are the reader's business.
    pub(super) fn whole_of_any_size(&self, key: &str) -> Option<u64> {
        let read = |value: &DeValue<'_>| {
            let fault = ValueError { problem: "is not a count".into(), help: None };
            u64::try_from(integer(value).ok_or(None)?).map_err(|_| Some(fault))
        };
        self.value(key, read).map(|v| v.value)
    }

    /// A list of two whole numbers, within the bounds of the table of keys.
    pub(super) fn pair(&self, key: &str) -> Option<[u64; 2]> {
        let form = self.form(key);
        let Form::Pair(least, most) = form else { return None };
        self.value(key, |value| {
            let mut numbers = value.as_array().ok_or(None)?.iter().map(|v| integer(v.get_ref()));
            let (Some(Some(a)), Some(Some(b)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
                return Err(Some(ValueError { problem: format!("is not {}", form.expected()), help: None }));
            };
            let number = |n| u64::try_from(n).ok().filter(|n| (least..=most).contains(n));
            match (number(a), number(b)) {
                (Some(a), Some(b)) => Ok([a, b]),
                _ => Err(Some(out_of_range(least, most))),
            }
        })
        .map(|v| v.value)
    }

    /// A duration, within the bounds of the table of keys.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        self.duration_from(Duration::ZERO, key)
    }

    /// The same, and at least `floor`, which some protocols need.
    pub(super) fn duration_from(&self, floor: Duration, key: &str) -> Option<Duration> {
        let (least, most, may_be_off) = match self.form(key) {
            Form::Duration(least, most) => (least.max(floor), most, false),
            Form::DurationOrOff(least, most) => (least.max(floor), most, true),
            _ => return None,
        };
        let read = |value: &DeValue<'_>| match parse_duration(value.as_str().ok_or(None)?)? {
            Duration::ZERO if may_be_off => Ok(Duration::ZERO),
            value => Ok(within(value, least, most).map_err(|fault| ValueError {
                help: may_be_off.then(|| "write \"0s\" to turn it off".to_owned()),
                ..fault
            })?),
        };
        self.value(key, read).map(|v| v.value)
    }

    /// `"auto"` or a duration.
    pub(super) fn gather(&self, key: &str) -> Option<Gather> {
        let Form::Gather(most) = self.form(key) else { return None };
        let help = |fault| ValueError { help: Some("write \"auto\", or a duration such as \"2ms\"".into()), ..fault };
        self.value(key, |value| match value.as_str().ok_or(None)? {
            "auto" => Ok(Gather::Auto),
            text => Ok(Gather::For(within(parse_duration(text).map_err(help)?, Duration::ZERO, most)?)),
        })
        .map(|v| v.value)
    }

    /// A bit rate, as number or text.
    pub(super) fn bitrate(&self, key: &str) -> Option<Bitrate> {
        self.value(key, |value| match (integer(value), value.as_str()) {
            (Some(bps), _) => Ok(bps.to_string().parse()?),
            (_, Some(text)) => Ok(text.parse()?),
            _ => Err(None),
        })
        .map(|v| v.value)
    }

    /// A moment, as text or as TOML writes it, with its offset from UTC.
    pub(super) fn time(&self, key: &str) -> Option<jiff::Timestamp> {
        let fault = || ValueError {
            problem: "is not a time with its offset from UTC".into(),
            help: Some("write one such as \"2026-12-31T23:59:00Z\" (RFC 3339)".into()),
        };
        let read = |value: &DeValue<'_>| {
            let text = match value {
                DeValue::Datetime(time) => time.to_string(),
                other => other.as_str().ok_or(None)?.to_owned(),
            };
            text.parse().map_err(|_| Some(fault()))
        };
        self.value(key, read).map(|v| v.value)
    }

    /// A threshold of something that counts so, in its base unit: bit/s, ns, or a count.
    pub(super) fn threshold(&self, key: &str, quantity: Quantity) -> Option<u64> {
        let value = self.table.get(key)?;
        let form = match quantity {
            Quantity::Bitrate => Form::Bitrate,
            Quantity::Time => Form::Duration(Duration::ZERO, Duration::MAX),
            Quantity::Count | Quantity::PerSecond | Quantity::State => Form::Threshold,
        };
        let read = |value: &DeValue<'_>| match (quantity, integer(value), value.as_str()) {
            (Quantity::Bitrate, Some(bps), _) => Ok(bps.to_string().parse::<Bitrate>()?.bps()),
            (Quantity::Bitrate, _, Some(text)) => Ok(text.parse::<Bitrate>()?.bps()),
            (Quantity::Time, _, Some(text)) => {
                u64::try_from(parse_duration(text)?.as_nanos()).map_err(|_| Some(out_of_range("0s", "584years")))
            }
            (Quantity::Count | Quantity::PerSecond | Quantity::State, Some(n), _) => {
                u64::try_from(n).map_err(|_| Some(out_of_range(0, u64::MAX)))
            }
            _ => Err(None),
        };
        self.element(key, value.get_ref(), value.span(), form, read).map(|v| v.value)
    }

    /// A list of texts.
    pub(super) fn text_list(&self, key: &str) -> Option<Vec<At<String>>> {
        self.list(key, |value| Ok(value.as_str().ok_or(None)?.to_owned()))
    }

    /// A code point, as number or name.
    pub(super) fn dscp(&self, key: &str) -> Option<Dscp> {
        self.value(key, |value| match (integer(value), value.as_str()) {
            (Some(n), _) => u8::try_from(n).ok().and_then(Dscp::new).ok_or_else(|| Some(out_of_range(0, 63))),
            (_, Some(name)) => Ok(name.parse()?),
            _ => Err(None),
        })
        .map(|v| v.value)
    }

    /// One of the words of the table of keys, as its index there.
    pub(super) fn choice(&self, key: &str) -> Option<usize> {
        let Form::Choice(words) = self.form(key) else { return None };
        self.value(key, |value| one_of(value, words)).map(|v| v.value)
    }

    /// A list of words, each as its index in the table of keys.
    pub(super) fn choices(&self, key: &str) -> Option<Vec<usize>> {
        let Form::List(Form::Choice(words)) = self.form(key) else { return None };
        Some(self.list(key, |value| one_of(value, words))?.into_iter().map(|v| v.value).collect())
    }

    /// A network; host bits are cleared with a warning.
    pub(super) fn network(&self, key: &str) -> Option<IpNet> {
        let read = self.value(key, |value| Ok(parse_network(value.as_str().ok_or(None)?)?))?;
        Some(self.without_host_bits(key, read).value)
    }

    /// A list of networks; host bits are cleared with a warning.
    pub(super) fn networks(&self, key: &str) -> Option<Vec<At<IpNet>>> {
        let read = self.list(key, |value| Ok(parse_network(value.as_str().ok_or(None)?)?))?;
        Some(read.into_iter().map(|net| self.without_host_bits(key, net)).collect())
    }

    fn without_host_bits(&self, key: &str, At { value: (net, exact), span }: At<(IpNet, bool)>) -> At<IpNet> {
        if !exact {
            let message = format!("`{key}`: host bits are set; it is taken as {net}");
            self.source.warning(&span, message, None);
        }
        At { value: net, span }
    }

    /// A list of addresses.
    pub(super) fn addresses(&self, key: &str) -> Option<Vec<At<IpAddr>>> {
        self.list(key, |value| {
            let fault = ValueError {
                problem: "is not an address".into(),
                help: Some("write one such as \"203.0.113.7\"".into()),
            };
            value.as_str().ok_or(None)?.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| Some(fault))
        })
    }

    /// A list of texts, each parsed into its type.
    pub(super) fn parsed_list<T: FromStr<Err = ValueError>>(&self, key: &str) -> Option<Vec<At<T>>> {
        self.list(key, |value| Ok(value.as_str().ok_or(None)?.parse()?))
    }

    /// The elements that are not refused; all of them are looked at.
    fn list<T>(&self, key: &str, read: impl Fn(&DeValue<'t>) -> Result<T, Option<ValueError>>) -> Option<Vec<At<T>>> {
        let value = self.table.get(key)?;
        let form = self.form(key);
        let DeValue::Array(array) = value.get_ref() else {
            let message = format!("`{key}` must be {}, not {}", form.expected(), kind(value.get_ref()));
            let help = value.get_ref().as_str().map(|text| format!("write [{text:?}]"));
            self.source.error(&value.span(), message, help);
            return None;
        };
        let form = if let Form::List(inner) = form { *inner } else { form };
        Some(array.iter().filter_map(|v| self.element(key, v.get_ref(), v.span(), form, &read)).collect())
    }

    /// A table of texts.
    pub(super) fn texts(&self, key: &str) -> Vec<(String, String)> {
        let Some(section) = self.open(key) else { return Vec::new() };
        let text = |name: &str| {
            let read = section.value(name, |value| Ok(value.as_str().ok_or(None)?.to_owned()))?;
            Some((name.to_owned(), read.value))
        };
        section.table.keys().filter_map(|name| text(name.get_ref())).collect()
    }
}

fn out_of_range(least: impl ToString, most: impl ToString) -> ValueError {
    let problem = format!("is out of range, {} to {}", least.to_string(), most.to_string());
    ValueError { problem, help: None }
}

fn within(value: Duration, least: Duration, most: Duration) -> Result<Duration, ValueError> {
    let show = humantime::format_duration;
    if (least..=most).contains(&value) { Ok(value) } else { Err(out_of_range(show(least), show(most))) }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let i = value.as_integer()?;
    i128::from_str_radix(i.as_str(), i.radix()).ok()
}

fn one_of(value: &DeValue<'_>, words: &[&str]) -> Result<usize, Option<ValueError>> {
    let text = value.as_str().ok_or(None)?;
    words.iter().position(|w| *w == text).ok_or_else(|| Some(no_such(text, words)))
}

/// `text` is none of `words`: what there is, and which of it is meant.
pub(super) fn no_such(text: &str, words: &[&str]) -> ValueError {
    let near = nearest(text, words.iter().copied()).map(|near| format!("did you mean {near:?}?"));
    let all = quoted(words);
    // So long a list helps only those who have no idea.
    match words.len() {
        0..10 => ValueError { problem: format!("is not {all}"), help: near },
        _ => ValueError { problem: "is unknown".into(), help: near.or(Some(format!("write {all}"))) },
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => shown(text),
        DeValue::Integer(i) => i.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) if list.len() <= 8 => {
            format!("[{}]", list.iter().map(|v| written(v.get_ref())).collect::<Vec<_>>().join(", "))
        }
        other => kind(other).to_owned(),
    }
}

fn shown_key(name: &str) -> String {
    if name.len() <= 60 && !name.contains(char::is_control) { format!("`{name}`") } else { shown(name) }
}

/// May a source, output or network be called that? `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`.
pub(super) fn is_part_name(s: &str) -> bool {
    let b = s.as_bytes();
    b.len() <= 63
        && b.first().is_some_and(u8::is_ascii_alphanumeric)
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

/// The candidate that `word` is most likely a slip of: at most a third of it, and two letters, are wrong.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let slips = |c: &str| distance(&word.to_lowercase().replace('_', "-"), c);
    let (slips, best) = candidates.map(|c| (slips(c), c)).min_by_key(|(slips, _)| *slips)?;
    (slips <= (best.chars().count() / 3).clamp(1, 2)).then_some(best)
}

/// Letters inserted, dropped, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slip_finds_its_word() {
        let of = |word| nearest(word, ["latency", "bind", "ttl", "srt-listener"].into_iter());
        assert_eq!(of("latncy"), Some("latency"));
        assert_eq!(of("Latecny"), Some("latency"));
        assert_eq!(of("srt_listener"), Some("srt-listener"));
        assert_eq!(of("tll"), Some("ttl"));
        assert_eq!(of("bnid"), Some("bind"));
        assert_eq!(of("delay"), None);
        assert_eq!(of(""), None);
        assert_eq!(of(&"x".repeat(10_000)), None);
    }
}
