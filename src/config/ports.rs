//! The ports that the system hands out by itself, to those who ask for any.

use std::ops::RangeInclusive;

/// From `/proc/sys/net/ipv4`; both address families use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LocalPorts {
    range: Option<RangeInclusive<u16>>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl LocalPorts {
    /// As the kernel has it now; empty where it can't be read.
    pub(crate) fn of_this_host() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self::parse(&read("ip_local_port_range"), &read("ip_local_reserved_ports"))
    }

    /// From the texts of `ip_local_port_range` (`32768\t60999`) and `ip_local_reserved_ports` (`8080,9148-9150`).
    pub(crate) fn parse(range: &str, reserved: &str) -> Self {
        let between = |low: &str, high: &str| Some(low.trim().parse().ok()?..=high.trim().parse().ok()?);
        Self {
            range: range.trim().split_once(char::is_whitespace).and_then(|(low, high)| between(low, high)),
            reserved: reserved
                .split(',')
                .filter_map(|part| part.split_once('-').map_or_else(|| between(part, part), |(a, b)| between(a, b)))
                .collect(),
        }
    }

    /// The first and the last of the range; `None`: it can't be read.
    pub(crate) fn range(&self) -> Option<(u16, u16)> {
        self.range.as_ref().map(|range| (*range.start(), *range.end()))
    }

    /// The range, if the system may hand out `port`.
    pub(crate) fn range_of(&self, port: u16) -> Option<(u16, u16)> {
        let range = self.range.as_ref().filter(|range| range.contains(&port))?;
        (!self.reserved.iter().any(|r| r.contains(&port))).then_some((*range.start(), *range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_handed_out() {
        let ports = LocalPorts::parse("32768\t60999\n", "40000,50000-50002\n");
        assert_eq!(ports.range_of(32768), Some((32768, 60999)));
        assert_eq!(ports.range_of(32767), None);
        assert_eq!(ports.range_of(40000), None);
        assert_eq!(ports.range_of(50001), None);
        assert!(ports.range_of(50003).is_some());
        assert_eq!(LocalPorts::parse("", "").range_of(40000), None);
    }
}
